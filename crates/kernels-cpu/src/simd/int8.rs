//! Products of E2M1 codes with activations rounded to int8.
//!
//! Twice an E2M1 value plus 12 is a byte from 0 to 24, which the processors' multiply-add of unsigned with signed bytes
//! takes. The 12 too many are taken back by an offset that belongs to the activations.

// Intrinsics: each function states the instructions it needs, and its callers hold the witness.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::{BLOCK, E8M0};

/// Twice the value of each E2M1 code, plus 12.
pub(crate) const CODE_BYTES: [u8; 16] = [12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0];

/// What [`CODE_BYTES`] has too much.
pub(crate) const CODE_OFFSET: i32 = 12;

/// Lanes of integer sums.
pub(crate) const INT_LANES: usize = 8;

/// 32 activations rounded to int8: `x ≈ scale · value`.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(32))]
pub(crate) struct Int8Block {
    /// Even elements, then odd ones, from −127 to 127.
    pub(crate) values: [i8; BLOCK],
    /// For each lane, −12 times the sum of its four values.
    pub(crate) offsets: [i32; INT_LANES],
    /// The largest magnitude over 127.
    pub(crate) scale: f32,
}

/// Half an E8M0 scale: bytes stand for twice the value.
#[inline(always)]
pub(crate) fn half_scale(scale: u8) -> f32 {
    0.5 * E8M0[usize::from(scale)]
}

/// An MX block as bytes, and its scale in every lane.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn codes(codes: &[u8; BLOCK / 2], scale: u8) -> (__m256i, __m256) {
    // SAFETY: 16 bytes each.
    let (pairs, bytes) =
        unsafe { (_mm_loadu_si128(codes.as_ptr().cast()), _mm_loadu_si128(CODE_BYTES.as_ptr().cast())) };
    let pairs = _mm256_broadcastsi128_si256(pairs);
    let shifted = _mm256_srlv_epi32(pairs, _mm256_setr_epi32(0, 0, 0, 0, 4, 4, 4, 4));
    let nibbles = _mm256_and_si256(shifted, _mm256_set1_epi8(15));
    let bytes = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(bytes), nibbles);
    (bytes, _mm256_set1_ps(half_scale(scale)))
}

/// Sums of four products and the offset, by multiply-add of bytes and of pairs; no sum leaves its type's range:
/// 2·24·127 < 2^15.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn products(w: __m256i, x: &Int8Block) -> __m256i {
    let pairs = _mm256_maddubs_epi16(w, values(x));
    _mm256_add_epi32(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1)), offsets(x))
}

/// [`products`] in one instruction of AVX-512 VNNI.
#[inline]
#[target_feature(enable = "avx2,avx512vnni,avx512vl")]
pub(crate) fn products_avx512_vnni(w: __m256i, x: &Int8Block) -> __m256i {
    _mm256_dpbusd_epi32(offsets(x), w, values(x))
}

/// [`products`] in one instruction of AVX-VNNI.
#[inline]
#[target_feature(enable = "avx2,avxvnni")]
pub(crate) fn products_avx_vnni(w: __m256i, x: &Int8Block) -> __m256i {
    _mm256_dpbusd_avx_epi32(offsets(x), w, values(x))
}

/// `sum + products · (w_scale · x.scale)`.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(crate) fn add_scaled(sum: __m256, products: __m256i, w_scale: __m256, x: &Int8Block) -> __m256 {
    let scale = _mm256_mul_ps(w_scale, _mm256_set1_ps(x.scale));
    _mm256_fmadd_ps(_mm256_cvtepi32_ps(products), scale, sum)
}

/// The lanes' sum, halves first.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn sum(a: __m256) -> f32 {
    let half = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
    let quarter = _mm_add_ps(half, _mm_movehl_ps(half, half));
    _mm_cvtss_f32(_mm_add_ss(quarter, _mm_movehdup_ps(quarter)))
}

#[inline]
#[target_feature(enable = "avx2")]
fn values(x: &Int8Block) -> __m256i {
    // SAFETY: 32 bytes.
    unsafe { _mm256_loadu_si256(x.values.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn offsets(x: &Int8Block) -> __m256i {
    // SAFETY: 8 times 4 bytes.
    unsafe { _mm256_loadu_si256(x.offsets.as_ptr().cast()) }
}
