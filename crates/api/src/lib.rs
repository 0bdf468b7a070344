//! Wire types of the HTTP interfaces and their validation
