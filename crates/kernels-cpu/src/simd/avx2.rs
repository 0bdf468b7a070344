//! Eight lanes of AVX2 with FMA.

// Intrinsics: each is called behind the witness.
#![allow(unsafe_code)]

use std::arch::asm;
use std::arch::x86_64::*;

use super::{BLOCK, E2M1_HIGH, E2M1_LOW, E8M0, Kernel, Simd, int8};

/// Proof that the processor has AVX2 and FMA; and AVX-VNNI, where `VNNI`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2<const VNNI: bool>(());

impl<const VNNI: bool> Avx2<VNNI> {
    /// The proof, where the processor has all of them.
    pub(crate) fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && (!VNNI || is_x86_feature_detected!("avxvnni"));
        has.then_some(Self(()))
    }
}

/// Runs intrinsics of AVX2 and FMA.
macro_rules! with {
    ($witness:expr, $code:expr) => {{
        let _: Avx2<_> = $witness;
        // SAFETY: the witness proves that the processor has the instructions; memory they touch lies in the slices
        // and arrays whose lengths the types or the asserts beside the call state.
        unsafe { $code }
    }};
}

#[target_feature(enable = "avx2,fma")]
fn vectorized<K: Kernel>(simd: Avx2<false>, kernel: K) -> K::Output {
    kernel.run(simd)
}

#[target_feature(enable = "avx2,fma,avxvnni")]
fn vectorized_vnni<K: Kernel>(simd: Avx2<true>, kernel: K) -> K::Output {
    kernel.run(simd)
}

impl<const VNNI: bool> Simd for Avx2<VNNI> {
    const LANES: usize = 8;

    /// Each 16 bf16 are one vector of 32-bit lanes: the low halves are the even elements, the high ones the odd.
    const BF16_ORDER: [u8; BLOCK] = [
        0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15, //
        16, 18, 20, 22, 24, 26, 28, 30, 17, 19, 21, 23, 25, 27, 29, 31,
    ];

    /// Low nibbles lie in the lower 128 bits and high nibbles in the upper, as bf16; then as in `BF16_ORDER`.
    const MX_ORDER: [u8; BLOCK] = [
        0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15, //
        16, 20, 24, 28, 17, 21, 25, 29, 18, 22, 26, 30, 19, 23, 27, 31,
    ];

    type F32 = __m256;
    type Block = [__m256; 4];
    type Int = __m256i;
    type Bytes = __m256i;

    #[inline(always)]
    fn vectorize<K: Kernel>(self, kernel: K) -> K::Output {
        if VNNI {
            with!(self, vectorized_vnni(Avx2::<true>(()), kernel))
        } else {
            with!(self, vectorized(Avx2::<false>(()), kernel))
        }
    }

    #[inline(always)]
    fn splat(self, value: f32) -> __m256 {
        with!(self, _mm256_set1_ps(value))
    }

    #[inline(always)]
    fn load(self, values: &[f32]) -> __m256 {
        assert!(values.len() >= 8);
        with!(self, _mm256_loadu_ps(values.as_ptr()))
    }

    #[inline(always)]
    fn load_bf16(self, values: &[u16]) -> __m256 {
        assert!(values.len() >= 8);
        with!(self, {
            let bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(values.as_ptr().cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(bits))
        })
    }

    #[inline(always)]
    fn load_i8(self, values: &[i8]) -> __m256 {
        assert!(values.len() >= 8);
        with!(self, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(values.as_ptr().cast()))))
    }

    #[inline(always)]
    fn store(self, vector: __m256, values: &mut [f32]) {
        assert!(values.len() >= 8);
        with!(self, _mm256_storeu_ps(values.as_mut_ptr(), vector));
    }

    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        with!(self, _mm256_add_ps(a, b))
    }

    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        with!(self, _mm256_sub_ps(a, b))
    }

    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        with!(self, _mm256_mul_ps(a, b))
    }

    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        with!(self, _mm256_div_ps(a, b))
    }

    #[inline(always)]
    fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        with!(self, _mm256_fmadd_ps(a, b, c))
    }

    #[inline(always)]
    fn min(self, a: __m256, b: __m256) -> __m256 {
        with!(self, _mm256_min_ps(a, b))
    }

    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        with!(self, _mm256_max_ps(a, b))
    }

    #[inline(always)]
    fn round(self, a: __m256) -> __m256 {
        with!(self, _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a))
    }

    #[inline(always)]
    fn pow2(self, n: __m256) -> __m256 {
        with!(self, {
            let biased = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased))
        })
    }

    #[inline(always)]
    fn sum(self, a: __m256) -> f32 {
        with!(self, {
            let half = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let quarter = _mm_add_ps(half, _mm_movehl_ps(half, half));
            _mm_cvtss_f32(_mm_add_ss(quarter, _mm_movehdup_ps(quarter)))
        })
    }

    #[inline(always)]
    fn largest(self, a: __m256) -> f32 {
        with!(self, {
            let half = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let quarter = _mm_max_ps(half, _mm_movehl_ps(half, half));
            _mm_cvtss_f32(_mm_max_ss(quarter, _mm_movehdup_ps(quarter)))
        })
    }

    #[inline(always)]
    fn bf16_block(self, bytes: &[u8; 2 * BLOCK]) -> [__m256; 4] {
        with!(self, {
            let first = _mm256_loadu_si256(bytes.as_ptr().cast());
            let second = _mm256_loadu_si256(bytes.as_ptr().add(32).cast());
            let ([a, b], [c, d]) = (widen(first), widen(second));
            [a, b, c, d]
        })
    }

    #[inline(always)]
    fn mx_block(self, codes: &[u8; BLOCK / 2], scale: u8) -> [__m256; 4] {
        with!(self, {
            let high_bytes = _mm256_broadcastsi128_si256(_mm_loadu_si128(E2M1_HIGH.as_ptr().cast()));
            let low_bytes = _mm256_broadcastsi128_si256(_mm_loadu_si128(E2M1_LOW.as_ptr().cast()));
            let pairs = _mm256_broadcastsi128_si256(_mm_loadu_si128(codes.as_ptr().cast()));
            // The lower half keeps the low nibbles, the upper half gets the high ones.
            let shifted = _mm256_srlv_epi32(pairs, _mm256_setr_epi32(0, 0, 0, 0, 4, 4, 4, 4));
            let nibbles = _mm256_and_si256(shifted, _mm256_set1_epi8(15));
            let high = _mm256_shuffle_epi8(high_bytes, nibbles);
            let low = _mm256_shuffle_epi8(low_bytes, nibbles);
            let [a, b] = widen(_mm256_unpacklo_epi8(low, high));
            let [c, d] = widen(_mm256_unpackhi_epi8(low, high));
            let scale = _mm256_set1_ps(E8M0[usize::from(scale)]);
            [
                _mm256_mul_ps(a, scale),
                _mm256_mul_ps(b, scale),
                _mm256_mul_ps(c, scale),
                _mm256_mul_ps(d, scale),
            ]
        })
    }

    #[inline(always)]
    fn dot_block(self, acc: __m256, w: [__m256; 4], x: &[f32; BLOCK]) -> __m256 {
        with!(self, {
            let acc = _mm256_fmadd_ps(w[0], _mm256_loadu_ps(x.as_ptr()), acc);
            let acc = _mm256_fmadd_ps(w[1], _mm256_loadu_ps(x.as_ptr().add(8)), acc);
            let acc = _mm256_fmadd_ps(w[2], _mm256_loadu_ps(x.as_ptr().add(16)), acc);
            _mm256_fmadd_ps(w[3], _mm256_loadu_ps(x.as_ptr().add(24)), acc)
        })
    }

    #[inline(always)]
    fn load_e8m0(self, scales: &[u8]) -> __m256 {
        assert!(scales.len() >= 8);
        with!(self, {
            let biased = _mm256_cvtepu8_epi32(_mm_loadl_epi64(scales.as_ptr().cast()));
            let bits = _mm256_max_epu32(_mm256_slli_epi32::<23>(biased), _mm256_set1_epi32(1 << 22));
            _mm256_castsi256_ps(bits)
        })
    }

    #[inline(always)]
    fn zero_bytes(self) -> Self::Bytes {
        with!(self, _mm256_setzero_si256())
    }

    #[inline(always)]
    unsafe fn load_bytes(self, address: *const u8) -> __m256i {
        with!(self, _mm256_loadu_si256(address.cast()))
    }

    #[inline(always)]
    unsafe fn store_bytes(self, bytes: __m256i, address: *mut u8) {
        with!(self, _mm256_storeu_si256(address.cast(), bytes));
    }

    #[inline(always)]
    fn e2m1_pairs(self, pairs: __m256i) -> [__m256i; 2] {
        with!(self, {
            let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(int8::E2M1_BYTES.as_ptr().cast()));
            let mask = _mm256_set1_epi8(15);
            let low = _mm256_and_si256(pairs, mask);
            let high = _mm256_and_si256(_mm256_srli_epi16::<4>(pairs), mask);
            [_mm256_shuffle_epi8(table, low), _mm256_shuffle_epi8(table, high)]
        })
    }

    #[inline(always)]
    fn splat_int(self, value: i32) -> __m256i {
        with!(self, _mm256_set1_epi32(value))
    }

    #[inline(always)]
    fn dot_e2m1(self, sum: __m256i, w: __m256i, x: [i8; 4]) -> __m256i {
        with!(self, {
            let x = _mm256_set1_epi32(quad(x));
            if VNNI { dot_vnni(sum, w, x) } else { dot(sum, w, x) }
        })
    }

    /// Without VNNI signs are handled in [`Self::dot_int8`]: sums of two products of bytes up to 255 leave 16 bits.
    #[inline(always)]
    fn start_int8(self, offset: i32) -> __m256i {
        self.splat_int(if VNNI { offset } else { 0 })
    }

    #[inline(always)]
    fn dot_int8(self, sum: __m256i, w: __m256i, x: [i8; 4]) -> __m256i {
        with!(self, {
            let x = _mm256_set1_epi32(quad(x));
            if VNNI {
                dot_vnni(sum, w, x)
            } else {
                let w = _mm256_xor_si256(w, _mm256_set1_epi8(-128));
                dot(sum, _mm256_abs_epi8(w), _mm256_sign_epi8(x, w))
            }
        })
    }

    #[inline(always)]
    fn to_f32(self, a: __m256i) -> __m256 {
        with!(self, _mm256_cvtepi32_ps(a))
    }

    #[inline(always)]
    fn transpose_quads(self, rows: [[u8; 16]; 4]) -> [[u8; 16]; 4] {
        transpose_quads(rows)
    }

    #[inline(always)]
    fn prefetch_write(self, address: *const u8) {
        prefetch_write(address);
    }

    #[inline(always)]
    fn prefetch(self, address: *const u8) {
        with!(self, _mm_prefetch::<_MM_HINT_T0>(address.cast()));
    }
}

/// See [`Simd::prefetch_write`]. The intrinsic asks for reading unless a target feature is on that nothing else needs; a
/// processor without the instruction does nothing.
#[inline(always)]
pub(super) fn prefetch_write(address: *const u8) {
    // SAFETY: a hint, whatever the address.
    unsafe { asm!("prefetchw [{0}]", in(reg) address, options(readonly, nostack, preserves_flags)) };
}

/// See [`Simd::transpose_quads`]. Every x86-64 has the instructions.
#[inline(always)]
pub(super) fn transpose_quads(rows: [[u8; 16]; 4]) -> [[u8; 16]; 4] {
    // SAFETY: sixteen bytes are a vector, and a vector is sixteen bytes.
    unsafe {
        let [a, b, c, d]: [__m128i; 4] = std::mem::transmute(rows);
        let [low_ab, low_cd] = [_mm_unpacklo_epi32(a, b), _mm_unpacklo_epi32(c, d)];
        let [high_ab, high_cd] = [_mm_unpackhi_epi32(a, b), _mm_unpackhi_epi32(c, d)];
        std::mem::transmute([
            _mm_unpacklo_epi64(low_ab, low_cd),
            _mm_unpackhi_epi64(low_ab, low_cd),
            _mm_unpacklo_epi64(high_ab, high_cd),
            _mm_unpackhi_epi64(high_ab, high_cd),
        ])
    }
}

/// The even and the odd of 16 bf16, widened.
#[inline]
#[target_feature(enable = "avx2")]
fn widen(pairs: __m256i) -> [__m256; 2] {
    let even = _mm256_slli_epi32::<16>(pairs);
    let odd = _mm256_and_si256(pairs, _mm256_set1_epi32(0xffff_0000_u32 as i32));
    [_mm256_castsi256_ps(even), _mm256_castsi256_ps(odd)]
}

#[inline(always)]
fn quad(x: [i8; 4]) -> i32 {
    i32::from_le_bytes(x.map(i8::cast_unsigned))
}

/// `sum` plus four products a lane. No pair of products may leave 16 bits: 2·24·127 and 2·127·127 don't.
#[inline]
#[target_feature(enable = "avx2")]
fn dot(sum: __m256i, w: __m256i, x: __m256i) -> __m256i {
    let pairs = _mm256_maddubs_epi16(w, x);
    _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
}

/// [`dot`] in one instruction, of any bytes.
#[inline]
#[target_feature(enable = "avx2,avxvnni")]
fn dot_vnni(sum: __m256i, w: __m256i, x: __m256i) -> __m256i {
    _mm256_dpbusd_avx_epi32(sum, w, x)
}
