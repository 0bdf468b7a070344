//! HTTP, streaming, admission, and the mapping between api, harmony and engine
