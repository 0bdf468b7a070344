//! Eight lanes of NEON: two vectors of four.

// Intrinsics and instructions: each is called behind the witness.
#![allow(unsafe_code)]

use std::arch::aarch64::*;
use std::arch::asm;

use super::{BLOCK, E2M1_HIGH, E2M1_LOW, E8M0, Kernel, Simd, int8};

/// Proof that the processor has NEON; and the dot product extension, where `DOT`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Neon<const DOT: bool>(());

impl<const DOT: bool> Neon<DOT> {
    /// The proof, where the processor has all of them.
    pub(crate) fn detect() -> Option<Self> {
        let has = std::arch::is_aarch64_feature_detected!("neon")
            && (!DOT || std::arch::is_aarch64_feature_detected!("dotprod"));
        has.then_some(Self(()))
    }
}

/// Runs intrinsics of NEON.
macro_rules! with {
    ($witness:expr, $code:expr) => {{
        let _: Neon<_> = $witness;
        // SAFETY: the witness proves that the processor has the instructions; memory they touch lies in the slices
        // and arrays whose lengths the types or the asserts beside the call state.
        unsafe { $code }
    }};
}

/// Runs one intrinsic on the halves of its operands.
macro_rules! halves {
    ($witness:expr, $intrinsic:ident($($operand:expr),+)) => {
        with!($witness, [$intrinsic($($operand[0]),+), $intrinsic($($operand[1]),+)])
    };
}

#[target_feature(enable = "neon")]
fn vectorized<K: Kernel>(simd: Neon<false>, kernel: K) -> K::Output {
    kernel.run(simd)
}

#[target_feature(enable = "neon,dotprod")]
fn vectorized_dot<K: Kernel>(simd: Neon<true>, kernel: K) -> K::Output {
    kernel.run(simd)
}

/// Eight lanes, the first four in the first vector.
type F32 = [float32x4_t; 2];

impl<const DOT: bool> Simd for Neon<DOT> {
    const LANES: usize = 8;

    /// Elements as they come.
    const BF16_ORDER: [u8; BLOCK] = [
        0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, //
        16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31,
    ];

    /// Low nibbles, then high nibbles.
    const MX_ORDER: [u8; BLOCK] = [
        0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30, //
        1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31,
    ];

    type F32 = F32;
    type Block = [F32; 4];
    type Int = [int32x4_t; 2];
    type Bytes = [uint8x16_t; 2];

    #[inline(always)]
    fn vectorize<K: Kernel>(self, kernel: K) -> K::Output {
        if DOT {
            with!(self, vectorized_dot(Neon::<true>(()), kernel))
        } else {
            with!(self, vectorized(Neon::<false>(()), kernel))
        }
    }

    #[inline(always)]
    fn splat(self, value: f32) -> F32 {
        [with!(self, vdupq_n_f32(value)); 2]
    }

    #[inline(always)]
    fn load(self, values: &[f32]) -> F32 {
        assert!(values.len() >= 8);
        with!(self, [vld1q_f32(values.as_ptr()), vld1q_f32(values.as_ptr().add(4))])
    }

    #[inline(always)]
    fn load_bf16(self, values: &[u16]) -> F32 {
        assert!(values.len() >= 8);
        with!(self, widen(vld1q_u16(values.as_ptr())))
    }

    #[inline(always)]
    fn load_i8(self, values: &[i8]) -> F32 {
        assert!(values.len() >= 8);
        with!(self, {
            let wide = vmovl_s8(vld1_s8(values.as_ptr()));
            [vcvtq_f32_s32(vmovl_s16(vget_low_s16(wide))), vcvtq_f32_s32(vmovl_high_s16(wide))]
        })
    }

    #[inline(always)]
    fn store(self, vector: F32, values: &mut [f32]) {
        assert!(values.len() >= 8);
        with!(self, {
            vst1q_f32(values.as_mut_ptr(), vector[0]);
            vst1q_f32(values.as_mut_ptr().add(4), vector[1]);
        });
    }

    #[inline(always)]
    fn add(self, a: F32, b: F32) -> F32 {
        halves!(self, vaddq_f32(a, b))
    }

    #[inline(always)]
    fn sub(self, a: F32, b: F32) -> F32 {
        halves!(self, vsubq_f32(a, b))
    }

    #[inline(always)]
    fn mul(self, a: F32, b: F32) -> F32 {
        halves!(self, vmulq_f32(a, b))
    }

    #[inline(always)]
    fn div(self, a: F32, b: F32) -> F32 {
        halves!(self, vdivq_f32(a, b))
    }

    #[inline(always)]
    fn mul_add(self, a: F32, b: F32, c: F32) -> F32 {
        halves!(self, vfmaq_f32(c, a, b))
    }

    /// The instruction of that name gives NaN where either is.
    #[inline(always)]
    fn min(self, a: F32, b: F32) -> F32 {
        let is_less = halves!(self, vcltq_f32(a, b));
        halves!(self, vbslq_f32(is_less, a, b))
    }

    /// As for [`Self::min`].
    #[inline(always)]
    fn max(self, a: F32, b: F32) -> F32 {
        let is_greater = halves!(self, vcgtq_f32(a, b));
        halves!(self, vbslq_f32(is_greater, a, b))
    }

    #[inline(always)]
    fn round(self, a: F32) -> F32 {
        halves!(self, vrndnq_f32(a))
    }

    #[inline(always)]
    fn pow2(self, n: F32) -> F32 {
        with!(self, {
            let bits = |n| vshlq_n_s32::<23>(vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127)));
            [vreinterpretq_f32_s32(bits(n[0])), vreinterpretq_f32_s32(bits(n[1]))]
        })
    }

    #[inline(always)]
    fn sum(self, a: F32) -> f32 {
        with!(self, {
            let half = vaddq_f32(a[0], a[1]);
            vaddv_f32(vadd_f32(vget_low_f32(half), vget_high_f32(half)))
        })
    }

    #[inline(always)]
    fn largest(self, a: F32) -> f32 {
        with!(self, vmaxnmvq_f32(vmaxnmq_f32(a[0], a[1])))
    }

    #[inline(always)]
    fn bf16_block(self, bytes: &[u8; 2 * BLOCK]) -> [F32; 4] {
        with!(self, {
            let eight = |i: usize| widen(vreinterpretq_u16_u8(vld1q_u8(bytes.as_ptr().add(16 * i))));
            [eight(0), eight(1), eight(2), eight(3)]
        })
    }

    #[inline(always)]
    fn mx_block(self, codes: &[u8; BLOCK / 2], scale: u8) -> [F32; 4] {
        with!(self, {
            let pairs = vld1q_u8(codes.as_ptr());
            let [a, b] = decode(vandq_u8(pairs, vdupq_n_u8(15)));
            let [c, d] = decode(vshrq_n_u8::<4>(pairs));
            let scale = self.splat(E8M0[usize::from(scale)]);
            [self.mul(a, scale), self.mul(b, scale), self.mul(c, scale), self.mul(d, scale)]
        })
    }

    #[inline(always)]
    fn dot_block(self, mut acc: F32, w: [F32; 4], x: &[f32; BLOCK]) -> F32 {
        for (w, x) in w.into_iter().zip(x.as_chunks::<8>().0) {
            acc = self.mul_add(w, self.load(x), acc);
        }
        acc
    }

    #[inline(always)]
    fn load_e8m0(self, scales: &[u8]) -> F32 {
        assert!(scales.len() >= 8);
        with!(self, {
            let biased = vmovl_u8(vld1_u8(scales.as_ptr()));
            let scale = |biased| vmaxq_u32(vshlq_n_u32::<23>(biased), vdupq_n_u32(1 << 22));
            let (first, second) = (vmovl_u16(vget_low_u16(biased)), vmovl_high_u16(biased));
            [vreinterpretq_f32_u32(scale(first)), vreinterpretq_f32_u32(scale(second))]
        })
    }

    #[inline(always)]
    fn zero_bytes(self) -> Self::Bytes {
        [with!(self, vdupq_n_u8(0)); 2]
    }

    #[inline(always)]
    unsafe fn load_bytes(self, address: *const u8) -> Self::Bytes {
        with!(self, [vld1q_u8(address), vld1q_u8(address.add(16))])
    }

    #[inline(always)]
    unsafe fn store_bytes(self, bytes: Self::Bytes, address: *mut u8) {
        with!(self, {
            vst1q_u8(address, bytes[0]);
            vst1q_u8(address.add(16), bytes[1]);
        });
    }

    #[inline(always)]
    fn e2m1_pairs(self, pairs: Self::Bytes) -> [Self::Bytes; 2] {
        with!(self, {
            let table = vld1q_u8(int8::E2M1_BYTES.as_ptr());
            let low = |pairs| vqtbl1q_u8(table, vandq_u8(pairs, vdupq_n_u8(15)));
            let high = |pairs| vqtbl1q_u8(table, vshrq_n_u8::<4>(pairs));
            [[low(pairs[0]), low(pairs[1])], [high(pairs[0]), high(pairs[1])]]
        })
    }

    #[inline(always)]
    fn splat_int(self, value: i32) -> Self::Int {
        [with!(self, vdupq_n_s32(value)); 2]
    }

    /// The bytes are signed to the instruction, which those up to 24 stand.
    #[inline(always)]
    fn dot_e2m1(self, sum: Self::Int, w: Self::Bytes, x: [i8; 4]) -> Self::Int {
        with!(self, {
            let x = vreinterpretq_s8_s32(vdupq_n_s32(quad(x)));
            let w = [vreinterpretq_s8_u8(w[0]), vreinterpretq_s8_u8(w[1])];
            if DOT {
                [dot_extension(sum[0], w[0], x), dot_extension(sum[1], w[1], x)]
            } else {
                [dot(sum[0], w[0], x), dot(sum[1], w[1], x)]
            }
        })
    }

    /// The bytes of weights lose their offset in [`Self::dot_int8`], as the instructions multiply signed ones.
    #[inline(always)]
    fn start_int8(self, _: i32) -> Self::Int {
        self.splat_int(0)
    }

    #[inline(always)]
    fn dot_int8(self, sum: Self::Int, w: Self::Bytes, x: [i8; 4]) -> Self::Int {
        let offset = [with!(self, vdupq_n_u8(int8::INT8_OFFSET as u8)); 2];
        self.dot_e2m1(sum, halves!(self, veorq_u8(w, offset)), x)
    }

    #[inline(always)]
    fn to_f32(self, a: Self::Int) -> F32 {
        halves!(self, vcvtq_f32_s32(a))
    }

    #[inline(always)]
    fn prefetch(self, address: *const u8) {
        // SAFETY: a hint, whatever the address.
        unsafe {
            asm!("prfm pldl1keep, [{0}]", in(reg) address, options(readonly, nostack, preserves_flags))
        };
    }

    #[inline(always)]
    fn prefetch_write(self, address: *const u8) {
        // SAFETY: a hint, whatever the address.
        unsafe {
            asm!("prfm pstl1keep, [{0}]", in(reg) address, options(readonly, nostack, preserves_flags))
        };
    }
}

/// Eight bf16, widened.
#[inline]
#[target_feature(enable = "neon")]
fn widen(halves: uint16x8_t) -> F32 {
    [
        vreinterpretq_f32_u32(vshll_n_u16::<16>(vget_low_u16(halves))),
        vreinterpretq_f32_u32(vshll_high_n_u16::<16>(halves)),
    ]
}

/// 16 E2M1 codes as f32.
#[inline]
#[target_feature(enable = "neon")]
fn decode(codes: uint8x16_t) -> [F32; 2] {
    // SAFETY: both tables have 16 bytes.
    let (high, low) = unsafe { (vld1q_u8(E2M1_HIGH.as_ptr()), vld1q_u8(E2M1_LOW.as_ptr())) };
    let (high, low) = (vqtbl1q_u8(high, codes), vqtbl1q_u8(low, codes));
    [widen(vreinterpretq_u16_u8(vzip1q_u8(low, high))), widen(vreinterpretq_u16_u8(vzip2q_u8(low, high)))]
}

#[inline(always)]
fn quad(x: [i8; 4]) -> i32 {
    i32::from_le_bytes(x.map(i8::cast_unsigned))
}

/// `sum` plus four products a lane. No pair of products may leave 16 bits: 2·24·127 and 2·127·127 don't.
#[inline]
#[target_feature(enable = "neon")]
fn dot(sum: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
    let first = vmull_s8(vget_low_s8(w), vget_low_s8(x));
    let pairs = vpaddq_s16(first, vmull_high_s8(w, x));
    vpadalq_s16(sum, pairs)
}

/// [`dot`] in one instruction, of any bytes.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn dot_extension(mut sum: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
    // SAFETY: arithmetic of registers, and the function's callers have the instruction.
    unsafe {
        asm!(
            "sdot {sum:v}.4s, {w:v}.16b, {x:v}.16b",
            sum = inout(vreg) sum,
            w = in(vreg) w,
            x = in(vreg) x,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sum
}
