//! Functions of vectors.

use super::Simd;

/// `e^x`.
///
/// # Numerics
/// `x = n·ln 2 + r`, then a polynomial of degree 6 in `r` and a shift of the exponent by n. Relative error at most
/// 2.5·2^-24 over the range kept; arguments beyond −87.33 and 88.37 count as those, so results lie between 2^-126 and
/// 2.4e38. NaN gives NaN. The same code for every instruction set; bits differ with fused multiply-add.
///
/// # Source
/// Cephes, `expf`.
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: S::F32) -> S::F32 {
    let x = s.min(s.splat(88.37), s.max(s.splat(-87.33), x));
    let n = s.round(s.mul(x, s.splat(std::f32::consts::LOG2_E)));
    // ln 2 in two parts: the first has few bits, so that its product with n is exact.
    let r = s.mul_add(n, s.splat(-0.693_359_4), x);
    let r = s.mul_add(n, s.splat(2.121_944_4e-4), r);
    let mut p = s.splat(1.987_569_1e-4);
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5] {
        p = s.mul_add(p, r, s.splat(coefficient));
    }
    let y = s.add(s.mul_add(s.mul(r, r), p, r), s.splat(1.0));
    s.mul(y, s.pow2(n))
}

/// `1 / (1 + e^-x)`; 2^-127 or so far below zero, 1 far above, never NaN but for NaN.
#[inline(always)]
pub(crate) fn sigmoid<S: Simd>(s: S, x: S::F32) -> S::F32 {
    let one = s.splat(1.0);
    s.div(one, s.add(one, exp(s, s.sub(s.splat(0.0), x))))
}
