//! Sixteen lanes of AVX-512.

// Intrinsics: each is called behind the witness.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::{BLOCK, E8M0, Kernel, Simd, avx2, int8};

/// Proof that the processor has AVX-512 F, BW, VL and DQ, AVX2 and FMA; and AVX-512 VNNI, where `VNNI`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512<const VNNI: bool>(());

impl<const VNNI: bool> Avx512<VNNI> {
    /// The proof, where the processor has all of them.
    pub(crate) fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && (!VNNI || is_x86_feature_detected!("avx512vnni"));
        has.then_some(Self(()))
    }
}

/// Runs intrinsics of AVX-512.
macro_rules! with {
    ($witness:expr, $code:expr) => {{
        let _: Avx512<_> = $witness;
        // SAFETY: the witness proves that the processor has the instructions; memory they touch lies in the slices
        // and arrays whose lengths the types or the asserts beside the call state.
        unsafe { $code }
    }};
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")]
fn vectorized<K: Kernel>(simd: Avx512<false>, kernel: K) -> K::Output {
    kernel.run(simd)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,avx512vnni")]
fn vectorized_vnni<K: Kernel>(simd: Avx512<true>, kernel: K) -> K::Output {
    kernel.run(simd)
}

/// The even elements, then the odd.
const SPLIT: [u8; BLOCK] = [
    0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30, //
    1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31,
];

impl<const VNNI: bool> Simd for Avx512<VNNI> {
    const LANES: usize = 16;
    const BF16_ORDER: [u8; BLOCK] = SPLIT;
    const MX_ORDER: [u8; BLOCK] = SPLIT;
    type F32 = __m512;
    type Block = [__m512; 2];
    type Int = __m512i;
    type Bytes = __m512i;

    #[inline(always)]
    fn vectorize<K: Kernel>(self, kernel: K) -> K::Output {
        if VNNI {
            with!(self, vectorized_vnni(Avx512::<true>(()), kernel))
        } else {
            with!(self, vectorized(Avx512::<false>(()), kernel))
        }
    }

    #[inline(always)]
    fn splat(self, value: f32) -> __m512 {
        with!(self, _mm512_set1_ps(value))
    }

    #[inline(always)]
    fn load(self, values: &[f32]) -> __m512 {
        assert!(values.len() >= 16);
        with!(self, _mm512_loadu_ps(values.as_ptr()))
    }

    #[inline(always)]
    fn load_bf16(self, values: &[u16]) -> __m512 {
        assert!(values.len() >= 16);
        with!(self, {
            let bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256(values.as_ptr().cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits))
        })
    }

    #[inline(always)]
    fn load_i8(self, values: &[i8]) -> __m512 {
        assert!(values.len() >= 16);
        with!(self, _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(values.as_ptr().cast()))))
    }

    #[inline(always)]
    fn store(self, vector: __m512, values: &mut [f32]) {
        assert!(values.len() >= 16);
        with!(self, _mm512_storeu_ps(values.as_mut_ptr(), vector));
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        with!(self, _mm512_add_ps(a, b))
    }

    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        with!(self, _mm512_sub_ps(a, b))
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        with!(self, _mm512_mul_ps(a, b))
    }

    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        with!(self, _mm512_div_ps(a, b))
    }

    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        with!(self, _mm512_fmadd_ps(a, b, c))
    }

    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        with!(self, _mm512_min_ps(a, b))
    }

    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        with!(self, _mm512_max_ps(a, b))
    }

    #[inline(always)]
    fn round(self, a: __m512) -> __m512 {
        with!(self, _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a))
    }

    #[inline(always)]
    fn pow2(self, n: __m512) -> __m512 {
        with!(self, {
            let biased = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(biased))
        })
    }

    #[inline(always)]
    fn sum(self, a: __m512) -> f32 {
        with!(self, {
            let half = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps::<1>(a));
            let quarter = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps::<1>(half));
            let eighth = _mm_add_ps(quarter, _mm_movehl_ps(quarter, quarter));
            _mm_cvtss_f32(_mm_add_ss(eighth, _mm_movehdup_ps(eighth)))
        })
    }

    #[inline(always)]
    fn largest(self, a: __m512) -> f32 {
        with!(self, _mm512_reduce_max_ps(a))
    }

    #[inline(always)]
    fn bf16_block(self, bytes: &[u8; 2 * BLOCK]) -> [__m512; 2] {
        with!(self, {
            let pairs = _mm512_loadu_si512(bytes.as_ptr().cast());
            let even = _mm512_slli_epi32::<16>(pairs);
            let odd = _mm512_and_si512(pairs, _mm512_set1_epi32(0xffff_0000_u32 as i32));
            [_mm512_castsi512_ps(even), _mm512_castsi512_ps(odd)]
        })
    }

    #[inline(always)]
    fn mx_block(self, codes: &[u8; BLOCK / 2], scale: u8) -> [__m512; 2] {
        with!(self, {
            // Only the low four bits of each index count.
            let low = _mm512_cvtepu8_epi32(_mm_loadu_si128(codes.as_ptr().cast()));
            let high = _mm512_srli_epi32::<4>(low);
            let values = _mm512_loadu_ps(sostenuto_formats::codes::E2M1_VALUES.as_ptr());
            let scale = _mm512_set1_ps(E8M0[usize::from(scale)]);
            [
                _mm512_mul_ps(_mm512_permutexvar_ps(low, values), scale),
                _mm512_mul_ps(_mm512_permutexvar_ps(high, values), scale),
            ]
        })
    }

    #[inline(always)]
    fn dot_block(self, acc: __m512, w: [__m512; 2], x: &[f32; BLOCK]) -> __m512 {
        with!(self, {
            let acc = _mm512_fmadd_ps(w[0], _mm512_loadu_ps(x.as_ptr()), acc);
            _mm512_fmadd_ps(w[1], _mm512_loadu_ps(x.as_ptr().add(16)), acc)
        })
    }

    #[inline(always)]
    fn load_e8m0(self, scales: &[u8]) -> __m512 {
        assert!(scales.len() >= 16);
        with!(self, {
            let biased = _mm512_cvtepu8_epi32(_mm_loadu_si128(scales.as_ptr().cast()));
            let bits = _mm512_max_epu32(_mm512_slli_epi32::<23>(biased), _mm512_set1_epi32(1 << 22));
            _mm512_castsi512_ps(bits)
        })
    }

    #[inline(always)]
    fn zero_bytes(self) -> Self::Bytes {
        with!(self, _mm512_setzero_si512())
    }

    #[inline(always)]
    unsafe fn load_bytes(self, address: *const u8) -> __m512i {
        with!(self, _mm512_loadu_si512(address.cast()))
    }

    #[inline(always)]
    unsafe fn store_bytes(self, bytes: __m512i, address: *mut u8) {
        with!(self, _mm512_storeu_si512(address.cast(), bytes));
    }

    #[inline(always)]
    fn e2m1_pairs(self, pairs: __m512i) -> [__m512i; 2] {
        with!(self, {
            let table = _mm512_broadcast_i32x4(_mm_loadu_si128(int8::E2M1_BYTES.as_ptr().cast()));
            let mask = _mm512_set1_epi8(15);
            let low = _mm512_and_si512(pairs, mask);
            let high = _mm512_and_si512(_mm512_srli_epi16::<4>(pairs), mask);
            [_mm512_shuffle_epi8(table, low), _mm512_shuffle_epi8(table, high)]
        })
    }

    #[inline(always)]
    fn splat_int(self, value: i32) -> __m512i {
        with!(self, _mm512_set1_epi32(value))
    }

    #[inline(always)]
    fn dot_e2m1(self, sum: __m512i, w: __m512i, x: [i8; 4]) -> __m512i {
        with!(self, {
            let x = _mm512_set1_epi32(quad(x));
            if VNNI { dot_vnni(sum, w, x) } else { dot(sum, w, x) }
        })
    }

    /// Without VNNI signs are handled in [`Self::dot_int8`]: sums of two products of bytes up to 255 leave 16 bits.
    #[inline(always)]
    fn start_int8(self, offset: i32) -> __m512i {
        self.splat_int(if VNNI { offset } else { 0 })
    }

    #[inline(always)]
    fn dot_int8(self, sum: __m512i, w: __m512i, x: [i8; 4]) -> __m512i {
        with!(self, {
            let x = _mm512_set1_epi32(quad(x));
            if VNNI {
                dot_vnni(sum, w, x)
            } else {
                let w = _mm512_xor_si512(w, _mm512_set1_epi8(-128));
                let negated = _mm512_mask_sub_epi8(x, _mm512_movepi8_mask(w), _mm512_setzero_si512(), x);
                dot(sum, _mm512_abs_epi8(w), negated)
            }
        })
    }

    #[inline(always)]
    fn to_f32(self, a: __m512i) -> __m512 {
        with!(self, _mm512_cvtepi32_ps(a))
    }

    #[inline(always)]
    fn transpose_quads(self, rows: [[u8; 16]; 4]) -> [[u8; 16]; 4] {
        avx2::transpose_quads(rows)
    }

    #[inline(always)]
    fn prefetch_write(self, address: *const u8) {
        avx2::prefetch_write(address);
    }

    #[inline(always)]
    fn prefetch(self, address: *const u8) {
        // To the second level: measured on Emerald Rapids to be better by a few percent for keys and values, and no worse
        // for weights.
        with!(self, _mm_prefetch::<_MM_HINT_T1>(address.cast()));
    }
}

#[inline(always)]
fn quad(x: [i8; 4]) -> i32 {
    i32::from_le_bytes(x.map(i8::cast_unsigned))
}

/// `sum` plus four products a lane. No pair of products may leave 16 bits: 2·24·127 and 2·127·127 don't.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn dot(sum: __m512i, w: __m512i, x: __m512i) -> __m512i {
    let pairs = _mm512_maddubs_epi16(w, x);
    _mm512_add_epi32(sum, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)))
}

/// [`dot`] in one instruction, of any bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
fn dot_vnni(sum: __m512i, w: __m512i, x: __m512i) -> __m512i {
    _mm512_dpbusd_epi32(sum, w, x)
}
