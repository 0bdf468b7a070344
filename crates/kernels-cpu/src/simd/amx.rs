//! Tiles of AMX: bf16 products with f32 sums, 16 rows of weights by up to 16 rows of activations at once.
//!
//! A tile register has 16 rows of 64 bytes. Registers 0 to 3 hold sums, 4 and 5 activations, 6 and 7 weights. The compiler
//! does not use them (this must not be compiled with the feature `amx-tile`), so they keep what they hold between two
//! calls.

// Instructions and intrinsics: each is called behind the witness.
#![allow(unsafe_code)]

use std::arch::asm;
use std::arch::x86_64::*;
use std::sync::OnceLock;

use super::avx512::Avx512;
use super::{BLOCK, Kernel};
use crate::kernel::repack::NORMAL_SCALES;

/// Most rows of activations of a tile; also the rows of weights.
pub(crate) const TILE_ROWS: usize = 16;

/// Bytes of a row of a tile of activations or weights: a block in bf16.
pub(crate) const TILE_ROW: usize = 2 * BLOCK;

/// Bytes of a block of 16 rows of weights as a tile: 16 pairs of elements, each of all rows side by side.
pub(crate) const WEIGHT_TILE: usize = TILE_ROWS * TILE_ROW;

/// Which elements of a block come as pairs in [`Amx::expand_e2m1`]'s tiles.
pub(crate) const E2M1_PAIRS: [u16; BLOCK] = pairs([0, 4, 1, 5, 2, 6, 3, 7]);

/// The same for [`Amx::expand_int8`].
pub(crate) const INT8_PAIRS: [u16; BLOCK] = pairs([0, 2, 4, 6, 1, 3, 5, 7]);

/// The order of each eight elements, for a block.
const fn pairs(eight: [u16; 8]) -> [u16; BLOCK] {
    let mut order = [0; BLOCK];
    let mut i = 0;
    while i < BLOCK {
        order[i] = eight[i % 8] + 8 * (i as u16 / 8);
        i += 1;
    }
    order
}

/// E2M1 codes times 2^125, the largest of [`NORMAL_SCALES`], in bf16; twice: the instruction that looks them up takes five
/// bits, and the fifth is another code's. Negative zero is zero.
const E2M1_HUGE: [u16; 32] = {
    let eight = [0, 0x7d80, 0x7e00, 0x7e40, 0x7e80, 0x7ec0, 0x7f00, 0x7f40];
    let mut table = [0; 32];
    let mut i = 0;
    while i < 32 {
        let magnitude = eight[i % 8];
        table[i] = if i % 16 > 8 { magnitude | 0x8000 } else { magnitude };
        i += 1;
    }
    table
};

/// Positions of [`Amx::soften`].
pub(crate) const SOFTENED: usize = 2 * BLOCK;

/// `2^r = 1 + r·(c₁ + r·(c₂ + …))` for r from 0 to 1, with relative error at most 3e-6: a thousandth of what rounding to bf16
/// takes.
const EXP2: [f32; 4] = [0.693_044_84, 0.241_280_21, 0.052_242_47, 0.013_426_69];

/// 32 activations in bf16, in the order of the weights' pairs.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct Bf16Block(pub(crate) [u16; BLOCK]);

/// Proof that the processor has AMX with bf16 and AVX-512 with VNNI and bf16, and that the operating system lets this
/// process use the tiles.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Amx {
    vectors: Avx512<true>,
}

impl Amx {
    /// The proof, where there is one. The first call asks the operating system.
    pub(crate) fn detect() -> Option<Self> {
        static DETECTED: OnceLock<Option<Amx>> = OnceLock::new();
        *DETECTED.get_or_init(|| {
            let vectors = Avx512::detect()?;
            (is_x86_feature_detected!("avx512bf16") && has_tiles() && ask_for_tiles())
                .then_some(Self { vectors })
        })
    }

    /// The vectors beside the tiles.
    pub(crate) fn vectors(self) -> Avx512<true> {
        self.vectors
    }

    /// Runs a kernel of vectors and tiles.
    #[inline]
    pub(crate) fn vectorize<K: Kernel>(self, kernel: K) -> K::Output {
        // SAFETY: the witness.
        unsafe { vectorized(self.vectors, kernel) }
    }

    /// Gives tiles of sums and activations `rows` rows, on this thread until [`Self::release`]. All tiles become zero.
    #[inline(always)]
    pub(crate) fn configure(self, rows: usize) {
        assert!((1..=TILE_ROWS).contains(&rows), "1 to 16 rows of a tile");
        #[repr(C, align(64))]
        struct Configuration {
            palette: u8,
            start_row: u8,
            reserved: [u8; 14],
            row_bytes: [u16; 16],
            rows: [u8; 16],
        }
        let mut configuration =
            Configuration { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        configuration.row_bytes[..8].fill(TILE_ROW as u16);
        configuration.rows[..6].fill(rows as u8);
        configuration.rows[6..8].fill(TILE_ROWS as u8);
        // SAFETY: the witness; the configuration is one that the processor has.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const configuration, options(nostack, readonly)) };
    }

    /// Ends the use of tiles on this thread, so that the operating system need not keep them.
    #[inline(always)]
    pub(crate) fn release(self) {
        // SAFETY: the witness.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }

    /// Sums become zero.
    #[inline(always)]
    pub(crate) fn zero(self) {
        // SAFETY: the witness; tiles are configured, or this faults.
        unsafe {
            asm!("tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3", options(nostack, nomem))
        };
    }

    /// Stores the four tiles of sums.
    ///
    /// # Safety
    /// Tiles are configured with rows that can be written there, and no one else uses these bytes.
    #[inline(always)]
    pub(crate) unsafe fn store(self, sums: [*mut f32; 4], stride: usize) {
        // SAFETY: the caller's.
        unsafe {
            asm!("tilestored [{0} + {4}], tmm0", "tilestored [{1} + {4}], tmm1",
                "tilestored [{2} + {4}], tmm2", "tilestored [{3} + {4}], tmm3",
                in(reg) sums[0], in(reg) sums[1], in(reg) sums[2], in(reg) sums[3], in(reg) stride,
                options(nostack));
        }
    }

    /// Loads the four tiles of sums.
    ///
    /// # Safety
    /// Tiles are configured with rows that can be read there.
    #[inline(always)]
    pub(crate) unsafe fn load(self, sums: [*mut f32; 4], stride: usize) {
        // SAFETY: the caller's.
        unsafe {
            asm!("tileloadd tmm0, [{0} + {4}]", "tileloadd tmm1, [{1} + {4}]",
                "tileloadd tmm2, [{2} + {4}]", "tileloadd tmm3, [{3} + {4}]",
                in(reg) sums[0], in(reg) sums[1], in(reg) sums[2], in(reg) sums[3], in(reg) stride,
                options(nostack, readonly));
        }
    }

    /// A block of one tile of activations with those of four tiles of weights that lie one after another.
    ///
    /// # Safety
    /// Tiles are configured; at `x` lie as many blocks, `stride` bytes apart, and four tiles at `weights`.
    #[inline(always)]
    pub(crate) unsafe fn step_1_by_4(self, x: *const Bf16Block, stride: usize, weights: *const u8) {
        // SAFETY: the caller's.
        unsafe {
            asm!("tileloadd tmm4, [{x} + {stride}]",
                "tileloadd tmm6, [{w} + {row}]", "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{w} + {row} + 1024]", "tdpbf16ps tmm1, tmm4, tmm7",
                "tileloadd tmm6, [{w} + {row} + 2048]", "tdpbf16ps tmm2, tmm4, tmm6",
                "tileloadd tmm7, [{w} + {row} + 3072]", "tdpbf16ps tmm3, tmm4, tmm7",
                x = in(reg) x, stride = in(reg) stride, w = in(reg) weights, row = in(reg) TILE_ROW,
                options(nostack, readonly));
        }
    }

    /// A block of two tiles of activations with those of two tiles of weights that lie one after another; sums of the
    /// first activations with both weights come first.
    ///
    /// # Safety
    /// As for [`Self::step_1_by_4`].
    #[inline(always)]
    pub(crate) unsafe fn step_2_by_2(self, x: [*const Bf16Block; 2], stride: usize, weights: *const u8) {
        // SAFETY: the caller's.
        unsafe {
            asm!("tileloadd tmm4, [{x0} + {stride}]",
                "tileloadd tmm6, [{w} + {row}]", "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{w} + {row} + 1024]", "tdpbf16ps tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{x1} + {stride}]",
                "tdpbf16ps tmm2, tmm5, tmm6", "tdpbf16ps tmm3, tmm5, tmm7",
                x0 = in(reg) x[0], x1 = in(reg) x[1], stride = in(reg) stride,
                w = in(reg) weights, row = in(reg) TILE_ROW,
                options(nostack, readonly));
        }
    }

    /// 32 activations in bf16, rounded to nearest even, in an order of pairs.
    #[inline(always)]
    pub(crate) fn to_bf16(self, x: &[f32; BLOCK], order: &[u16; BLOCK]) -> Bf16Block {
        // SAFETY: the witness.
        unsafe { to_bf16(x, order) }
    }

    /// 32 numbers in bf16, rounded to nearest even.
    #[inline(always)]
    pub(crate) fn round(self, x: &[f32; BLOCK]) -> Bf16Block {
        // SAFETY: the witness.
        unsafe { round(x) }
    }

    /// A row's scores times `scale` to weights `2^(score − maximum)` in bf16, relative to the larger of `maximum` and them.
    ///
    /// Gives the new maximum and the factor by which everything relative to the old one shrinks. `denominators` shrink,
    /// and lane by lane the weights are added to them as they are rounded. A score of −∞ has weight 0.
    #[inline(always)]
    pub(crate) fn soften(
        self,
        scores: &[f32; SOFTENED],
        (scale, maximum): (f32, f32),
        weights: &mut [Bf16Block; SOFTENED / BLOCK],
        denominators: &mut [f32; 16],
    ) -> (f32, f32) {
        // SAFETY: the witness.
        unsafe { soften(scores, (scale, maximum), weights, denominators) }
    }

    /// 16 elements and 16 others by turns, the first of `even` first.
    ///
    /// # Panics
    /// If there are fewer.
    #[inline(always)]
    pub(crate) fn interleave(self, even: &[u16], odd: &[u16]) -> Bf16Block {
        assert!(even.len() >= BLOCK / 2 && odd.len() >= BLOCK / 2, "half a block of each");
        // SAFETY: the witness, and as asserted.
        unsafe { interleave(even.as_ptr(), odd.as_ptr()) }
    }

    /// A block of 16 rows of MXFP4 as a tile of bf16; exact.
    ///
    /// # Safety
    /// Scales are [`NORMAL_SCALES`], or those of zeros. At `codes` and `scales` lie a block's of a packed panel; `out` has
    /// room for a tile and lies on a cache line.
    #[inline(always)]
    pub(crate) unsafe fn expand_e2m1(self, codes: *const u8, scales: *const u8, out: *mut u8) {
        // SAFETY: the caller's, and the witness.
        unsafe { expand_e2m1(codes, scales, out) };
    }

    /// A block of 16 rows of 8-bit weights as a tile of bf16; exact where the scales are powers of two.
    ///
    /// # Safety
    /// As for [`Self::expand_e2m1`].
    #[inline(always)]
    pub(crate) unsafe fn expand_int8(self, codes: *const u8, scales: *const u8, out: *mut u8) {
        // SAFETY: the caller's, and the witness.
        unsafe { expand_int8(codes, scales, out) };
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,avx512vnni,avx512bf16")]
fn vectorized<K: Kernel>(simd: Avx512<true>, kernel: K) -> K::Output {
    kernel.run(simd)
}

/// Whether the processor has tiles and their bf16 products.
fn has_tiles() -> bool {
    const TILE_BITS: u32 = 1 << 24 | 1 << 22;
    __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & TILE_BITS == TILE_BITS
}

/// Asks the operating system for leave to use the tiles' registers, for all threads of this process.
#[cfg(target_os = "linux")]
fn ask_for_tiles() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: a system call that touches no memory of ours; an older kernel refuses it.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

/// Only Linux is asked.
#[cfg(not(target_os = "linux"))]
fn ask_for_tiles() -> bool {
    false
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn to_bf16(x: &[f32; BLOCK], order: &[u16; BLOCK]) -> Bf16Block {
    // SAFETY: both are 32 elements, and so is a block.
    unsafe {
        let (low, high) = (_mm512_loadu_ps(x.as_ptr()), _mm512_loadu_ps(x.as_ptr().add(16)));
        let rounded: __m512i = std::mem::transmute(_mm512_cvtne2ps_pbh(high, low));
        let order = _mm512_loadu_si512(order.as_ptr().cast());
        std::mem::transmute(_mm512_permutexvar_epi16(order, rounded))
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn round(x: &[f32; BLOCK]) -> Bf16Block {
    // SAFETY: both are 32 elements.
    unsafe {
        let (low, high) = (_mm512_loadu_ps(x.as_ptr()), _mm512_loadu_ps(x.as_ptr().add(16)));
        std::mem::transmute(_mm512_cvtne2ps_pbh(high, low))
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512bf16")]
unsafe fn soften(
    scores: &[f32; SOFTENED],
    (scale, maximum): (f32, f32),
    weights: &mut [Bf16Block; SOFTENED / BLOCK],
    denominators: &mut [f32; 16],
) -> (f32, f32) {
    // SAFETY: vectors of 16 within the arrays.
    unsafe {
        let mut x = [_mm512_setzero_ps(); SOFTENED / 16];
        for (i, x) in x.iter_mut().enumerate() {
            *x = _mm512_mul_ps(_mm512_loadu_ps(scores.as_ptr().add(16 * i)), _mm512_set1_ps(scale));
        }
        let largest = _mm512_max_ps(_mm512_max_ps(x[0], x[1]), _mm512_max_ps(x[2], x[3]));
        let largest = maximum.max(_mm512_reduce_max_ps(largest));
        let base = _mm512_set1_ps(largest);
        let shrink = exp2(_mm512_sub_ps(_mm512_set1_ps(maximum), base));
        let mut sum = _mm512_mul_ps(_mm512_loadu_ps(denominators.as_ptr()), shrink);
        for (i, weights) in weights.iter_mut().enumerate() {
            let low = exp2(_mm512_sub_ps(x[2 * i], base));
            let high = exp2(_mm512_sub_ps(x[2 * i + 1], base));
            let rounded: __m512i = std::mem::transmute(_mm512_cvtne2ps_pbh(high, low));
            _mm512_storeu_si512(weights.0.as_mut_ptr().cast(), rounded);
            let even = _mm512_castsi512_ps(_mm512_slli_epi32::<16>(rounded));
            let odd =
                _mm512_castsi512_ps(_mm512_and_si512(rounded, _mm512_set1_epi32(0xffff_0000_u32 as i32)));
            sum = _mm512_add_ps(sum, _mm512_add_ps(even, odd));
        }
        _mm512_storeu_ps(denominators.as_mut_ptr(), sum);
        (largest, _mm512_cvtss_f32(shrink))
    }
}

/// `2^x` for x up to 127, as [`EXP2`] says; 0 for −∞.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn exp2(x: __m512) -> __m512 {
    // What is left of x above the integer below it; the scaling rounds the same way.
    let r = _mm512_reduce_ps::<1>(x);
    let mut p = _mm512_set1_ps(EXP2[3]);
    for coefficient in [EXP2[2], EXP2[1], EXP2[0], 1.0] {
        p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(coefficient));
    }
    _mm512_scalef_ps(p, x)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn interleave(even: *const u16, odd: *const u16) -> Bf16Block {
    const TURNS: [u16; BLOCK] = {
        let mut turns = [0; BLOCK];
        let mut i = 0;
        while i < BLOCK {
            turns[i] = (i / 2 + i % 2 * (BLOCK / 2)) as u16;
            i += 1;
        }
        turns
    };
    // SAFETY: the caller's: 16 elements at each.
    unsafe {
        let halves = _mm512_castsi256_si512(_mm256_loadu_si256(even.cast()));
        let halves = _mm512_inserti64x4::<1>(halves, _mm256_loadu_si256(odd.cast()));
        std::mem::transmute(_mm512_permutexvar_epi16(_mm512_loadu_si512(TURNS.as_ptr().cast()), halves))
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn expand_e2m1(codes: *const u8, scales: *const u8, out: *mut u8) {
    // SAFETY: the caller's.
    unsafe {
        let codes_of = |pairs: usize| _mm512_loadu_si512(codes.add(pairs * 64).cast());
        let scales = _mm512_cvtepu8_epi32(_mm_loadu_si128(scales.cast()));
        let huge = _mm512_set1_epi32(i32::from(*NORMAL_SCALES.end()));
        // By how much the table's exponents are too large; a zero stays one, for the difference saturates.
        let excess = _mm512_slli_epi32::<7>(_mm512_sub_epi32(huge, scales));
        let excess = _mm512_or_si512(excess, _mm512_slli_epi32::<16>(excess));
        let table = _mm512_loadu_si512(E2M1_HUGE.as_ptr().cast());
        let scaled = |codes| _mm512_subs_epu16(_mm512_permutexvar_epi16(codes, table), excess);
        for eight in 0..4 {
            let codes = codes_of(eight);
            let out: *mut __m512i = out.cast::<__m512i>().add(4 * eight);
            _mm512_store_si512(out, scaled(codes));
            _mm512_store_si512(out.add(1), scaled(_mm512_srli_epi16::<4>(codes)));
            _mm512_store_si512(out.add(2), scaled(_mm512_srli_epi16::<8>(codes)));
            _mm512_store_si512(out.add(3), scaled(_mm512_srli_epi16::<12>(codes)));
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn expand_int8(codes: *const u8, scales: *const u8, out: *mut u8) {
    const FOUR: [u32; 16] = [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3];
    const EVEN: [u32; 16] = [0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30];
    // SAFETY: the caller's.
    unsafe {
        let scales = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(_mm256_loadu_si256(scales.cast())));
        let scales = _mm512_castsi512_ps(scales);
        let (four, even) =
            (_mm512_loadu_si512(FOUR.as_ptr().cast()), _mm512_loadu_si512(EVEN.as_ptr().cast()));
        let odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
        let mut factors = [_mm512_setzero_ps(); 4];
        let mut offsets = [_mm512_setzero_ps(); 4];
        for i in 0..4 {
            let rows = _mm512_add_epi32(four, _mm512_set1_epi32(4 * i as i32));
            factors[i] = _mm512_permutexvar_ps(rows, scales);
            offsets[i] = _mm512_mul_ps(factors[i], _mm512_set1_ps(super::int8::INT8_OFFSET as f32));
        }
        // Four elements of four rows.
        let weights = |quad: usize, i: usize| {
            let bytes = _mm_loadu_si128(codes.add(64 * quad + 16 * i).cast());
            _mm512_fmsub_ps(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes)), factors[i], offsets[i])
        };
        for quad in 0..BLOCK / 4 {
            let low: __m512i = std::mem::transmute(_mm512_cvtne2ps_pbh(weights(quad, 1), weights(quad, 0)));
            let high: __m512i = std::mem::transmute(_mm512_cvtne2ps_pbh(weights(quad, 3), weights(quad, 2)));
            let out: *mut __m512i = out.cast::<__m512i>().add(2 * quad);
            _mm512_store_si512(out, _mm512_permutex2var_epi32(low, even, high));
            _mm512_store_si512(out.add(1), _mm512_permutex2var_epi32(low, odd, high));
        }
    }
}

#[cfg(test)]
mod tests {
    use sostenuto_formats::codes::{bf16_to_f32, e2m1_to_f32, e8m0_to_f32, f32_to_bf16};

    use super::*;

    #[repr(align(64))]
    struct Aligned([u8; WEIGHT_TILE]);

    /// Element `place` of a row in a tile of weights.
    fn weight(tile: &[u8], place: usize, row: usize) -> f32 {
        let at = 2 * ((place / 2 * TILE_ROWS + row) * 2 + place % 2);
        bf16_to_f32(u16::from_le_bytes([tile[at], tile[at + 1]]))
    }

    #[test]
    fn mxfp4_becomes_bf16_exactly() {
        let Some(amx) = Amx::detect() else { return println!("skipped: no AMX here") };
        for scale in NORMAL_SCALES {
            let codes: [u8; 256] = std::array::from_fn(|i| (i as u8).wrapping_mul(29).wrapping_add(scale));
            let scales: [u8; 16] = std::array::from_fn(|row| scale.saturating_sub(row as u8).max(2));
            let mut tile = Aligned([7; WEIGHT_TILE]);
            // SAFETY: a block of a panel, and room for a tile.
            unsafe { amx.expand_e2m1(codes.as_ptr(), scales.as_ptr(), tile.0.as_mut_ptr()) };
            for (place, &element) in E2M1_PAIRS.iter().enumerate() {
                for row in 0..TILE_ROWS {
                    let byte = codes[usize::from(element) / 8 * 64 + row * 4 + usize::from(element) % 8 / 2];
                    let code = byte >> (4 * (element % 2)) & 15;
                    let want = e2m1_to_f32(code) * e8m0_to_f32(scales[row]);
                    assert_eq!(weight(&tile.0, place, row), want);
                }
            }
        }
    }

    #[test]
    fn eight_bit_weights_become_bf16_of_value_times_scale() {
        let Some(amx) = Amx::detect() else { return println!("skipped: no AMX here") };
        let codes: [u8; 512] = std::array::from_fn(|i| (i as u8).wrapping_mul(37).max(1));
        let scales: [u16; 16] =
            std::array::from_fn(
                |row| if row == 5 { 0x7fc0 } else { f32_to_bf16(0.001 * 1.7f32.powi(row as i32)) },
            );
        let mut tile = Aligned([7; WEIGHT_TILE]);
        // SAFETY: a block of a panel, and room for a tile.
        unsafe { amx.expand_int8(codes.as_ptr(), scales.as_ptr().cast(), tile.0.as_mut_ptr()) };
        for (place, &element) in INT8_PAIRS.iter().enumerate() {
            let quad_place =
                super::super::int8::QUAD_ORDER.iter().position(|&e| u16::from(e) == element).unwrap();
            for row in 0..TILE_ROWS {
                let value = f32::from(codes[(quad_place / 4 * 16 + row) * 4 + quad_place % 4]) - 128.0;
                let want = bf16_to_f32(f32_to_bf16(value * bf16_to_f32(scales[row])));
                let got = weight(&tile.0, place, row);
                assert!(
                    got == want || got.is_nan() && row == 5,
                    "row {row}, element {element}: {got}, {want}"
                );
            }
        }
    }

    #[test]
    fn scores_become_weights_of_the_new_maximum() {
        let Some(amx) = Amx::detect() else { return println!("skipped: no AMX here") };
        let hidden = |i: usize| i < 3 || i == 40;
        let score = |i: usize| (i * 37 % 64) as f32 * 0.37 - 9.0;
        let scores = std::array::from_fn(|i| if hidden(i) { f32::NEG_INFINITY } else { score(i) });
        for maximum in [-50.0_f32, 40.0] {
            let mut weights = [Bf16Block([7; BLOCK]); 2];
            let mut denominators = [0.25; 16];
            let (new, shrink) = amx.soften(&scores, (2.0, maximum), &mut weights, &mut denominators);
            let largest = (0..64).filter(|&i| !hidden(i)).map(|i| 2.0 * score(i)).fold(maximum, f32::max);
            assert_eq!(new, largest);
            let want = f64::from(maximum - new).exp2();
            assert!((f64::from(shrink) / want - 1.0).abs() < 4e-6, "{shrink}, {want}");
            let weight = |i: usize| f64::from(bf16_to_f32(weights[i / BLOCK].0[i % BLOCK]));
            for i in 0..64 {
                let want = if hidden(i) { 0.0 } else { f64::from(2.0 * score(i) - new).exp2() };
                assert!((weight(i) - want).abs() <= want * (1.0 / 256.0), "{i}: {}, {want}", weight(i));
            }
            let sum = (0..64).map(weight).sum::<f64>() + 16.0 * 0.25 * f64::from(shrink);
            let got: f64 = denominators.iter().map(|&part| f64::from(part)).sum();
            assert!((got / sum - 1.0).abs() < 1e-5, "{got}, {sum}");
        }
        // What is shrunk by nothing stays as it is.
        let nothing = [f32::NEG_INFINITY; SOFTENED];
        let mut denominators = [0.3; 16];
        let kept = amx.soften(&nothing, (1.0, 5.0), &mut [Bf16Block([0; BLOCK]); 2], &mut denominators);
        assert_eq!((kept, denominators), ((5.0, 1.0), [0.3; 16]));
    }

    #[test]
    fn tiles_multiply_in_both_shapes() {
        let Some(amx) = Amx::detect() else { return println!("skipped: no AMX here") };
        for rows in [1, 5, 16] {
            let value = |i: usize| (i % 13) as f32 - 6.0;
            let block = |t: usize| Bf16Block(std::array::from_fn(|i| f32_to_bf16(value(t * 7 + i))));
            let x: Vec<Bf16Block> = (0..2 * rows).map(block).collect();
            let mut tiles = [const { Aligned([0; WEIGHT_TILE]) }; 4];
            for (n, tile) in tiles.iter_mut().enumerate() {
                for (i, pair) in tile.0.chunks_exact_mut(2).enumerate() {
                    pair.copy_from_slice(&f32_to_bf16(value(i * 5 + n)).to_le_bytes());
                }
            }
            let dot = |t: usize, n: usize, row: usize| {
                (0..BLOCK).map(|i| value(t * 7 + i) * weight(&tiles[n].0, i, row)).sum::<f32>()
            };
            let mut sums = [[0.0; TILE_ROWS * TILE_ROWS]; 4];
            let pointers: [*mut f32; 4] = sums.each_mut().map(|tile| tile.as_mut_ptr());
            let second = x[rows..].as_ptr();
            // SAFETY: rows of blocks, tiles of weights one after another, room for four tiles of sums.
            unsafe {
                amx.configure(rows);
                amx.step_1_by_4(x.as_ptr(), TILE_ROW, tiles[0].0.as_ptr());
                // Added to what there is.
                amx.step_1_by_4(second, TILE_ROW, tiles[0].0.as_ptr());
                amx.store(pointers, TILE_ROW);
            }
            for (n, sums) in sums.iter().enumerate() {
                for t in 0..rows {
                    let want = |row| dot(t, n, row) + dot(t + rows, n, row);
                    (0..16).for_each(|row| assert_eq!(sums[t * 16 + row], want(row)));
                }
            }
            // SAFETY: as above.
            unsafe {
                amx.zero();
                amx.step_2_by_2([x.as_ptr(), second], TILE_ROW, tiles[2].0.as_ptr());
                amx.store(pointers, TILE_ROW);
                amx.release();
            }
            for (n, sums) in sums.iter().enumerate() {
                for t in 0..rows {
                    let want = |row| dot(t + n / 2 * rows, 2 + n % 2, row);
                    (0..16).for_each(|row| assert_eq!(sums[t * 16 + row], want(row)));
                }
            }
        }
    }
}
