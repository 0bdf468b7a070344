//! Eight lanes of plain code.

// Bytes are read and written at addresses that the callers vouch for.
#![allow(unsafe_code)]

use sostenuto_formats::codes::{bf16_to_f32, decode_mx_block};

use super::int8::{E2M1_BYTES, INT8_OFFSET};
use super::{BLOCK, Kernel, Simd};

/// Any processor has this.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scalar;

const LANES: usize = 8;

/// Elements as they come.
const IDENTITY: [u8; BLOCK] = {
    let mut order = [0; BLOCK];
    let mut i = 0;
    while i < BLOCK {
        order[i] = i as u8;
        i += 1;
    }
    order
};

type Lanes = [f32; LANES];

#[inline(always)]
fn each(mut f: impl FnMut(usize) -> f32) -> Lanes {
    let mut lanes = [0.0; LANES];
    for (i, lane) in lanes.iter_mut().enumerate() {
        *lane = f(i);
    }
    lanes
}

impl Simd for Scalar {
    const LANES: usize = LANES;
    const BF16_ORDER: [u8; BLOCK] = IDENTITY;
    const MX_ORDER: [u8; BLOCK] = IDENTITY;
    type F32 = Lanes;
    type Block = [f32; BLOCK];
    type Int = [i32; LANES];
    type Bytes = [[u8; 4]; LANES];

    #[inline(always)]
    fn vectorize<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Lanes {
        [value; LANES]
    }

    #[inline(always)]
    fn load(self, values: &[f32]) -> Lanes {
        each(|i| values[i])
    }

    #[inline(always)]
    fn load_bf16(self, values: &[u16]) -> Lanes {
        each(|i| bf16_to_f32(values[i]))
    }

    #[inline(always)]
    fn load_i8(self, values: &[i8]) -> Lanes {
        each(|i| f32::from(values[i]))
    }

    #[inline(always)]
    fn store(self, vector: Lanes, values: &mut [f32]) {
        values[..LANES].copy_from_slice(&vector);
    }

    #[inline(always)]
    fn add(self, a: Lanes, b: Lanes) -> Lanes {
        each(|i| a[i] + b[i])
    }

    #[inline(always)]
    fn sub(self, a: Lanes, b: Lanes) -> Lanes {
        each(|i| a[i] - b[i])
    }

    #[inline(always)]
    fn mul(self, a: Lanes, b: Lanes) -> Lanes {
        each(|i| a[i] * b[i])
    }

    #[inline(always)]
    fn div(self, a: Lanes, b: Lanes) -> Lanes {
        each(|i| a[i] / b[i])
    }

    #[inline(always)]
    fn mul_add(self, a: Lanes, b: Lanes, c: Lanes) -> Lanes {
        each(|i| a[i] * b[i] + c[i])
    }

    #[inline(always)]
    fn min(self, a: Lanes, b: Lanes) -> Lanes {
        each(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }

    #[inline(always)]
    fn max(self, a: Lanes, b: Lanes) -> Lanes {
        each(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }

    #[inline(always)]
    fn round(self, a: Lanes) -> Lanes {
        each(|i| a[i].round_ties_even())
    }

    #[inline(always)]
    fn pow2(self, n: Lanes) -> Lanes {
        each(|i| f32::from_bits(((n[i] as i32 + 127) as u32) << 23))
    }

    #[inline(always)]
    fn sum(self, a: Lanes) -> f32 {
        let half = [a[0] + a[4], a[1] + a[5], a[2] + a[6], a[3] + a[7]];
        (half[0] + half[2]) + (half[1] + half[3])
    }

    #[inline(always)]
    fn largest(self, a: Lanes) -> f32 {
        a.into_iter().fold(f32::NEG_INFINITY, f32::max)
    }

    #[inline(always)]
    fn bf16_block(self, bytes: &[u8; 2 * BLOCK]) -> [f32; BLOCK] {
        let mut block = [0.0; BLOCK];
        for (value, pair) in block.iter_mut().zip(bytes.as_chunks::<2>().0) {
            *value = bf16_to_f32(u16::from_le_bytes(*pair));
        }
        block
    }

    #[inline(always)]
    fn mx_block(self, codes: &[u8; BLOCK / 2], scale: u8) -> [f32; BLOCK] {
        decode_mx_block(codes, scale)
    }

    #[inline(always)]
    fn dot_block(self, mut acc: Lanes, w: [f32; BLOCK], x: &[f32; BLOCK]) -> Lanes {
        for (w, x) in w.as_chunks::<LANES>().0.iter().zip(x.as_chunks::<LANES>().0) {
            acc = self.mul_add(*w, *x, acc);
        }
        acc
    }

    #[inline(always)]
    fn load_e8m0(self, scales: &[u8]) -> Lanes {
        each(|i| f32::from_bits((u32::from(scales[i]) << 23).max(1 << 22)))
    }

    #[inline(always)]
    fn zero_bytes(self) -> Self::Bytes {
        [[0; 4]; LANES]
    }

    #[inline(always)]
    unsafe fn load_bytes(self, address: *const u8) -> Self::Bytes {
        // SAFETY: the caller vouches for 32 bytes.
        unsafe { *address.cast() }
    }

    #[inline(always)]
    unsafe fn store_bytes(self, bytes: Self::Bytes, address: *mut u8) {
        // SAFETY: the caller vouches for 32 bytes.
        unsafe { *address.cast() = bytes }
    }

    #[inline(always)]
    fn e2m1_pairs(self, pairs: Self::Bytes) -> [Self::Bytes; 2] {
        let decoded =
            |shift: u32| pairs.map(|lane| lane.map(|pair| E2M1_BYTES[usize::from(pair >> shift & 15)]));
        [decoded(0), decoded(4)]
    }

    #[inline(always)]
    fn splat_int(self, value: i32) -> Self::Int {
        [value; LANES]
    }

    #[inline(always)]
    fn dot_e2m1(self, mut sum: Self::Int, w: Self::Bytes, x: [i8; 4]) -> Self::Int {
        for (sum, w) in sum.iter_mut().zip(w) {
            *sum += w.iter().zip(x).map(|(&w, x)| i32::from(w) * i32::from(x)).sum::<i32>();
        }
        sum
    }

    #[inline(always)]
    fn start_int8(self, _: i32) -> Self::Int {
        [0; LANES]
    }

    #[inline(always)]
    fn dot_int8(self, mut sum: Self::Int, w: Self::Bytes, x: [i8; 4]) -> Self::Int {
        for (sum, w) in sum.iter_mut().zip(w) {
            let products = w.iter().zip(x).map(|(&w, x)| (i32::from(w) - INT8_OFFSET) * i32::from(x));
            *sum += products.sum::<i32>();
        }
        sum
    }

    #[inline(always)]
    fn to_f32(self, a: Self::Int) -> Lanes {
        each(|i| a[i] as f32)
    }

    #[inline(always)]
    fn prefetch(self, _: *const u8) {}

    #[inline(always)]
    fn prefetch_write(self, _: *const u8) {}
}
