//! The kernels. Each works on a part of an op's output; the backend cuts an op into parts.

pub(crate) mod attention;
#[cfg(target_arch = "x86_64")]
pub(crate) mod attention_tiled;
pub(crate) mod linear;
pub(crate) mod matrix;
pub(crate) mod moe;
pub(crate) mod pack;
pub(crate) mod packed;
pub(crate) mod panel;
pub(crate) mod pieces;
pub(crate) mod repack;
pub(crate) mod rows;
#[cfg(target_arch = "x86_64")]
pub(crate) mod tiled;
