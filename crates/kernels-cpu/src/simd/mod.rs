//! The vector operations that kernels are written in, and their wrappers for each instruction set.

// Bytes are loaded from and stored to addresses that the callers vouch for.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
pub(crate) mod amx;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
pub(crate) mod int8;
pub(crate) mod math;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
pub(crate) mod scalar;

/// Elements of a block: of an MX block, and of the steps in which every dot product goes.
pub(crate) const BLOCK: usize = 32;

/// Most lanes of any instruction set.
pub(crate) const MAX_LANES: usize = 16;

/// Code generic over the instruction set.
pub(crate) trait Kernel {
    type Output;

    /// The code; must be `#[inline(always)]`, so that it is compiled for the instruction set of its caller.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// Vectors of f32. A value of an implementing type proves that the processor has the instruction set.
///
/// Every method does per lane what its scalar twin does; rounding is to nearest even.
pub(crate) trait Simd: Copy + Send + Sync + 'static {
    /// Lanes of a vector: 8 or 16.
    const LANES: usize;

    /// Which element of 32 activations comes at each place of a packed block, for [`Self::bf16_block`].
    const BF16_ORDER: [u8; BLOCK];

    /// The same for [`Self::mx_block`].
    const MX_ORDER: [u8; BLOCK];

    /// A vector of [`Self::LANES`] f32.
    type F32: Copy;

    /// 32 weights as f32, in the order of `BF16_ORDER` or `MX_ORDER`.
    type Block: Copy;

    /// A vector of [`Self::LANES`] i32.
    type Int: Copy;

    /// Four bytes for each lane.
    type Bytes: Copy;

    /// Runs a kernel compiled for this instruction set.
    fn vectorize<K: Kernel>(self, kernel: K) -> K::Output;

    /// The same value in every lane.
    fn splat(self, value: f32) -> Self::F32;

    /// The first lanes of `values`.
    fn load(self, values: &[f32]) -> Self::F32;

    /// The first lanes of bf16 `values`, widened.
    fn load_bf16(self, values: &[u16]) -> Self::F32;

    /// The first lanes of int8 `values`, as f32.
    fn load_i8(self, values: &[i8]) -> Self::F32;

    /// Writes the first lanes of `values`.
    fn store(self, vector: Self::F32, values: &mut [f32]);

    /// `a + b`.
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32;

    /// `a - b`.
    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32;

    /// `a · b`.
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32;

    /// `a / b`.
    fn div(self, a: Self::F32, b: Self::F32) -> Self::F32;

    /// `a · b + c`, rounded once where the instruction set has it so.
    fn mul_add(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32;

    /// The smaller; `b` where either is NaN.
    fn min(self, a: Self::F32, b: Self::F32) -> Self::F32;

    /// The larger; `b` where either is NaN.
    fn max(self, a: Self::F32, b: Self::F32) -> Self::F32;

    /// To the nearest integer, ties to even.
    fn round(self, a: Self::F32) -> Self::F32;

    /// 2^n for whole n in −126..=127.
    fn pow2(self, n: Self::F32) -> Self::F32;

    /// The lanes' sum, halves first: lane i and lane i + LANES/2, and so on.
    fn sum(self, a: Self::F32) -> f32;

    /// The lanes' maximum.
    fn largest(self, a: Self::F32) -> f32;

    /// Widens 32 little-endian bf16.
    fn bf16_block(self, bytes: &[u8; 2 * BLOCK]) -> Self::Block;

    /// Decodes an MX block: E2M1 times 2^(scale − 127).
    fn mx_block(self, codes: &[u8; BLOCK / 2], scale: u8) -> Self::Block;

    /// `acc + w · x` lane by lane: the block's vectors one after another into the same accumulator. `x` is in the
    /// block's order.
    fn dot_block(self, acc: Self::F32, w: Self::Block, x: &[f32; BLOCK]) -> Self::F32;

    /// 2^(e − 127) for each of the first lanes of E8M0 `scales`; the NaN code gives infinity.
    fn load_e8m0(self, scales: &[u8]) -> Self::F32;

    /// Zeros.
    fn zero_bytes(self) -> Self::Bytes;

    /// The bytes at an address.
    ///
    /// # Safety
    /// `4 · LANES` bytes can be read there.
    unsafe fn load_bytes(self, address: *const u8) -> Self::Bytes;

    /// # Safety
    /// `4 · LANES` bytes can be written there, and no one else uses them.
    unsafe fn store_bytes(self, bytes: Self::Bytes, address: *mut u8);

    /// The E2M1 codes in the low and in the high nibbles, each as [`int8::E2M1_BYTES`] says.
    fn e2m1_pairs(self, pairs: Self::Bytes) -> [Self::Bytes; 2];

    /// The same value in every lane.
    fn splat_int(self, value: i32) -> Self::Int;

    /// `sum + w · x` lane by lane: four products of unsigned `w` up to 24 and the signed bytes of `x`.
    fn dot_e2m1(self, sum: Self::Int, w: Self::Bytes, x: [i8; 4]) -> Self::Int;

    /// What a sum of [`Self::dot_int8`] starts with, where the sum of all `x` times −128 is `offset`.
    fn start_int8(self, offset: i32) -> Self::Int;

    /// `sum + w · x` lane by lane, where `w` is bytes with [`int8::INT8_OFFSET`] too much and the offset is in the
    /// sum's start.
    fn dot_int8(self, sum: Self::Int, w: Self::Bytes, x: [i8; 4]) -> Self::Int;

    /// To f32.
    fn to_f32(self, a: Self::Int) -> Self::F32;

    /// Quads of rows: bytes `4·i..4·i + 4` of each row come together, row after row, as the i-th of the results.
    #[inline(always)]
    fn transpose_quads(self, rows: [[u8; 16]; 4]) -> [[u8; 16]; 4] {
        let mut quads = [[0; 16]; 4];
        for i in 0..4 {
            for row in 0..4 {
                quads[i][4 * row..4 * row + 4].copy_from_slice(&rows[row][4 * i..4 * i + 4]);
            }
        }
        quads
    }

    /// Hints that the cache line at `address` will be read soon. Any address will do.
    fn prefetch(self, address: *const u8);

    /// Hints that the cache line at `address` will be written soon. Any address will do.
    fn prefetch_write(self, address: *const u8);

    /// As [`Self::load`], with zeros beyond the end of a short slice.
    #[inline(always)]
    fn load_partial(self, values: &[f32]) -> Self::F32 {
        let mut padded = [0.0; MAX_LANES];
        padded[..values.len()].copy_from_slice(values);
        self.load(&padded)
    }

    /// As [`Self::store`], leaving out what lies beyond the end of a short slice.
    #[inline(always)]
    fn store_partial(self, vector: Self::F32, values: &mut [f32]) {
        let mut padded = [0.0; MAX_LANES];
        self.store(vector, &mut padded);
        values.copy_from_slice(&padded[..values.len()]);
    }
}

/// E8M0 scales as f32: 2^(e − 127); the NaN code gives NaN.
pub(crate) static E8M0: [f32; 256] = {
    let mut table = [0.0; 256];
    let mut code = 0;
    while code < 256 {
        table[code] = sostenuto_formats::codes::e8m0_to_f32(code as u8);
        code += 1;
    }
    table
};

/// The high byte of each E2M1 code as bf16.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
const E2M1_HIGH: [u8; 16] =
    [0x00, 0x3f, 0x3f, 0x3f, 0x40, 0x40, 0x40, 0x40, 0x80, 0xbf, 0xbf, 0xbf, 0xc0, 0xc0, 0xc0, 0xc0];

/// The low byte.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
const E2M1_LOW: [u8; 16] =
    [0x00, 0x00, 0x80, 0xc0, 0x00, 0x40, 0x80, 0xc0, 0x00, 0x00, 0x80, 0xc0, 0x00, 0x40, 0x80, 0xc0];

#[cfg(test)]
mod tests;
