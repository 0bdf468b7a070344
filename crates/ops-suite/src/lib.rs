//! Every op case, run against any backend.
//!
//! A case knows its inputs, an f64 evaluation of the op's formula that shares no code with any device, and a tolerance
//! for each element. [`run_suite`] runs each case on fresh devices:
//!
//! - all rows in one step, compared with the evaluation;
//! - the same rows alone and in other groupings, which must give the same bits;
//! - with rows to spare in every buffer, which must stay untouched.
//!
//! [`assert_same_bits`] runs every case on two devices whose bits must agree (one thread and several).
//!
//! # Tolerances
//! `u = 2^-24`. A dot product of length K with terms `w·x`: `u·(8 + √K)·Σ|w·x| + 2u·|want|`. What follows a dot
//! product carries that bound through (see each case). RMS norm: `16u·|want|`. Exponentials: a relative `8u`, which also
//! covers sigmoid and softmax. Attention: `(2δ + 24u)·Σ w·|v|` where δ bounds the error of a score;
//! a kernel named `bf16_attention…` may round queries to the sum of two bf16 and weights to one, which adds `2^-18·Σ|q·k|` to δ
//! and `2^-8 + 100u` to the factor.
//! [`Precision::Fast`](sostenuto_ops::Precision) may round the activations of expert products, and of matrices that may be
//! rounded, to int8 per 32: that adds `Σ_blocks max|x|/254·Σ|w|`, an exact bound; and such a matrix likewise, whose scales
//! are bf16, or powers of two (`max|w|/127`) where the kernel is named `i9_i8w…`.

mod cases;
mod data;
mod device;
mod runner;

pub use runner::{MakeBackend, assert_same_bits, run_suite};
