//! From weights as stored to packed panels.

use crate::kernel::pack::largest_magnitude;
use crate::kernel::packed::{E2m1, Format, GROUP_ROWS, Int8, Layout};
use crate::simd::int8::{INT8_OFFSET, QUAD, QUAD_ORDER, QUADS};
use crate::simd::{BLOCK, Kernel, Simd};

/// Bytes of a block as stored in bf16.
const BF16_BYTES: usize = 2 * BLOCK;

/// E8M0 scales with which all E2M1 codes but zeros are normal numbers in bf16.
pub(crate) const NORMAL_SCALES: std::ops::RangeInclusive<u8> = 2..=127 + 125;

/// Bytes of the codes of an MX block.
const MX_BYTES: usize = BLOCK / 2;

/// Packs up to 16 rows of an MXFP4 matrix into a panel.
///
/// | argument | type | shape |
/// |---|---|---|
/// | `codes` | E2M1 pairs | `[rows, blocks, 16]` |
/// | `scales` | E8M0 | `[rows, blocks]` |
/// | `panel` | packed [`E2m1`] | one panel of `layout` |
///
/// Says whether all weights are normal numbers in bf16.
///
/// # Numerics
/// Exact: the same codes and scales at other places; zeros in rows beyond the last.
///
/// # Panics
/// If sizes do not belong together.
pub(crate) fn pack_mxfp4(codes: &[u8], scales: &[u8], layout: &Layout, panel: &mut [u8]) -> bool {
    let blocks = layout.blocks;
    let rows = scales.len() / blocks;
    assert!(rows <= GROUP_ROWS && codes.len() == rows * blocks * MX_BYTES, "whole rows of one panel");
    let (packed_scales, packed_codes) = panel.split_at_mut(layout.scales);
    packed_scales.fill(0);
    if rows < GROUP_ROWS {
        packed_codes.fill(0);
    }
    for (row, scales) in scales.chunks_exact(blocks).enumerate() {
        for (block, &scale) in scales.iter().enumerate() {
            packed_scales[block * GROUP_ROWS + row] = scale;
        }
    }
    let is_zero =
        |block: usize| codes[block * MX_BYTES..(block + 1) * MX_BYTES].iter().all(|pair| pair & 0x77 == 0);
    let is_normal =
        |(block, scale): (usize, &u8)| NORMAL_SCALES.contains(scale) || *scale < 2 && is_zero(block);
    let are_normal = scales.iter().enumerate().all(is_normal);
    let packed = packed_codes.as_chunks_mut::<{ GROUP_ROWS * QUAD }>().0;
    for (row, codes) in codes.chunks_exact(blocks * MX_BYTES).enumerate() {
        let quads = codes.as_chunks::<QUAD>().0;
        assert_eq!(quads.len(), packed.len(), "a quad of every row in each line");
        for (quad, line) in quads.iter().zip(&mut *packed) {
            line[row * QUAD..(row + 1) * QUAD].copy_from_slice(quad);
        }
    }
    are_normal
}

/// Rounds up to 16 rows of a bf16 matrix to int8 and packs them into a panel.
///
/// | argument | type | shape |
/// |---|---|---|
/// | `rows` | bf16 bytes | up to 16 times `[columns]` |
/// | `panel` | packed [`Int8`] | one panel of `layout` |
///
/// # Numerics
/// Per 32 columns: the scale is the smallest bf16 not below `max|w| / 127`, or the smallest power of two;
/// `value = round(w / scale)` to nearest even, so that `scale · value` is off by at most half a scale. Zeros beyond the
/// last row and column. A block with an infinity or a NaN gets the scale NaN.
///
/// # Panics
/// If sizes do not belong together.
pub(crate) struct PackInt8<'a> {
    pub(crate) rows: &'a [&'a [u8]],
    /// Whether scales are powers of two.
    pub(crate) powers: bool,
    pub(crate) layout: &'a Layout,
    pub(crate) panel: &'a mut [u8],
}

impl Kernel for PackInt8<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        assert!(self.rows.len() <= GROUP_ROWS, "rows of one panel");
        let (scales, codes) = self.panel.split_at_mut(self.layout.scales);
        scales.fill(0);
        if self.rows.len() < GROUP_ROWS {
            codes.fill(0);
        }
        let scales = scales.as_chunks_mut::<{ Int8::SCALE_BYTES }>().0;
        let codes = codes.as_chunks_mut::<{ Int8::CODE_BYTES }>().0;
        for (row, bytes) in self.rows.iter().enumerate() {
            assert_eq!(bytes.len().div_ceil(BF16_BYTES), codes.len(), "a block of codes per block");
            for (block, (bytes, codes)) in bytes.chunks(BF16_BYTES).zip(&mut *codes).enumerate() {
                let mut weights = [0.0; BLOCK];
                for (weight, pair) in weights.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *weight = sostenuto_formats::codes::bf16_to_f32(u16::from_le_bytes(*pair));
                }
                scales[block * GROUP_ROWS + row] =
                    round_block(s, &weights, self.powers, (row, codes)).to_le_bytes();
            }
        }
    }
}

/// Rounds a row's block into a panel's block; gives the scale as bf16.
#[inline(always)]
fn round_block<S: Simd>(
    s: S,
    weights: &[f32; BLOCK],
    powers: bool,
    (row, codes): (usize, &mut [u8; Int8::CODE_BYTES]),
) -> u16 {
    let (scale, factor) = scale_for(largest_magnitude(s, weights), weights, powers);
    let mut rounded = [0.0; BLOCK];
    for (weights, rounded) in weights.chunks_exact(S::LANES).zip(rounded.chunks_exact_mut(S::LANES)) {
        s.store(s.round(s.mul(s.load(weights), s.splat(factor))), rounded);
    }
    let mut bytes = [0; BLOCK];
    for (byte, rounded) in bytes.iter_mut().zip(rounded) {
        *byte = (rounded as i32 + INT8_OFFSET) as u8;
    }
    for quad in 0..QUADS {
        let elements = &QUAD_ORDER[quad * QUAD..(quad + 1) * QUAD];
        let at = (quad * GROUP_ROWS + row) * QUAD;
        for (byte, &element) in codes[at..at + QUAD].iter_mut().zip(elements) {
            *byte = bytes[usize::from(element)];
        }
    }
    scale
}

/// The scale as bf16, and what weights are multiplied with.
fn scale_for(largest: f32, weights: &[f32; BLOCK], powers: bool) -> (u16, f32) {
    const BF16_NAN: u16 = 0x7fc0;
    if weights.iter().any(|weight| !weight.is_finite()) {
        return (BF16_NAN, 0.0);
    }
    // Rounded up. Of a magnitude so small that its scale is no normal number nothing is left.
    let kept = if powers { 0x7f80_0000 } else { 0x7fff_0000 };
    let scale = (((largest / 127.0).to_bits() + (!kept & 0x7fff_ffff)) & kept) >> 16;
    let scale = scale as u16;
    let value = sostenuto_formats::codes::bf16_to_f32(scale);
    if value.is_normal() && value > 4.0 * f32::MIN_POSITIVE { (scale, 1.0 / value) } else { (0, 0.0) }
}

const _: () = assert!(E2m1::CODE_BYTES == GROUP_ROWS * MX_BYTES, "packed codes are as many as stored ones");

#[cfg(test)]
mod tests {
    use sostenuto_formats::codes::{bf16_to_f32, f32_to_bf16};

    use super::*;
    use crate::simd::scalar::Scalar;

    #[test]
    fn int8_rows_are_off_by_at_most_half_a_scale() {
        for powers in [false, true] {
            check_int8_rows(powers);
        }
    }

    fn check_int8_rows(powers: bool) {
        let columns = 70;
        let layout = Layout::new::<Int8>(3, columns);
        let value = |row: usize, i: usize| ((row * 37 + i * 11) % 64) as f32 * 0.37 - 11.0;
        let rows: Vec<Vec<u8>> = (0..3)
            .map(|row| (0..columns).flat_map(|i| f32_to_bf16(value(row, i)).to_le_bytes()).collect())
            .collect();
        let rows: Vec<&[u8]> = rows.iter().map(Vec::as_slice).collect();
        let mut panel = vec![7; layout.bytes()];
        PackInt8 { rows: &rows, powers, layout: &layout, panel: &mut panel }.run(Scalar);
        let (scales, codes) = panel.split_at(layout.scales);
        for row in 0..GROUP_ROWS {
            for i in 0..layout.blocks * BLOCK {
                let block = i / BLOCK;
                let at = 2 * (block * GROUP_ROWS + row);
                let scale = bf16_to_f32(u16::from_le_bytes([scales[at], scales[at + 1]]));
                assert!(!powers || scale.to_bits().trailing_zeros() >= 23, "a power of two");
                let place = QUAD_ORDER.iter().position(|&e| usize::from(e) == i % BLOCK).unwrap();
                let at = block * Int8::CODE_BYTES + (place / QUAD * GROUP_ROWS + row) * QUAD + place % QUAD;
                let got = scale * (f32::from(codes[at]) - 128.0);
                if row < 3 && i < columns {
                    let want = bf16_to_f32(f32_to_bf16(value(row, i)));
                    assert!((got - want).abs() <= 0.5001 * scale, "row {row}, column {i}: {got} for {want}");
                } else {
                    assert_eq!(got, 0.0, "row {row}, column {i}");
                }
            }
        }
    }

    #[test]
    fn block_that_is_not_finite_stays_so() {
        let layout = Layout::new::<Int8>(1, BLOCK);
        for bad in [f32::NAN, f32::INFINITY] {
            let row: Vec<u8> =
                (0..BLOCK).flat_map(|i| f32_to_bf16(if i == 5 { bad } else { 1.0 }).to_le_bytes()).collect();
            let mut panel = vec![0; layout.bytes()];
            PackInt8 { rows: &[&row], powers: false, layout: &layout, panel: &mut panel }.run(Scalar);
            assert!(bf16_to_f32(u16::from_le_bytes([panel[0], panel[1]])).is_nan());
        }
    }

    #[test]
    fn weights_that_bf16_cannot_hold_are_told() {
        let layout = Layout::new::<E2m1>(1, 2 * BLOCK);
        let mut panel = vec![0; layout.bytes()];
        // Zeros of both signs, then ones.
        let codes = [[0x08; MX_BYTES], [0x22; MX_BYTES]].concat();
        for (scales, are_normal) in [
            ([2, 2], true),
            ([252, 252], true),
            ([0, 127], true),
            ([127, 1], false),
            ([127, 253], false),
            ([255, 127], false),
        ] {
            assert_eq!(pack_mxfp4(&codes, &scales, &layout, &mut panel), are_normal, "{scales:?}");
        }
    }
}
