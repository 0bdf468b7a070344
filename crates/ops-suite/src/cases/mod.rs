//! The cases, by op.

mod attention;
mod dense;
mod moe;
mod rows;

pub(crate) use attention::AttentionCase;

use crate::runner::{Bound, RowCase};

/// Unit roundoff of f32.
pub(crate) const U: f64 = 1.0 / (1u32 << 24) as f64;

/// Every case of ops on independent rows.
pub(crate) fn row_cases() -> Vec<RowCase> {
    let mut cases = rows::cases();
    cases.extend(dense::cases());
    cases.extend(moe::cases());
    cases
}

/// Every case of rotation, KV write and attention.
pub(crate) fn attention_cases() -> Vec<AttentionCase> {
    attention::cases()
}

/// A dot product, with the bound on its error in f32.
pub(crate) fn dot(w: &[f64], x: &[f32]) -> Bound {
    let terms = || w.iter().zip(x).map(|(&w, &x)| w * f64::from(x));
    let want: f64 = terms().sum();
    let size: f64 = terms().map(f64::abs).sum();
    Bound { want, tolerance: U * (8.0 + (w.len() as f64).sqrt()) * size + 2.0 * U * want.abs() }
}
