//! Every op case, run against any backend
