//! The Harmony tests, one binary.

mod broken;
mod goldens;
mod properties;
mod replay;
mod support;
