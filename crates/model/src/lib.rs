//! Weights bound to named fields, the forward program and the memory plan
