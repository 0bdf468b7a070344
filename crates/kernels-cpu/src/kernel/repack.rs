//! From weights as stored to packed panels.

use sostenuto_formats::codes::bf16_to_f32;

use crate::kernel::packed::{E2m1, Format, GROUP_ROWS, Int8, Layout};
use crate::simd::int8::{INT8_OFFSET, QUAD, QUAD_ORDER, QUADS};
use crate::simd::{BLOCK, Kernel, Simd};

/// Bytes of a block as stored in bf16.
const BF16_BYTES: usize = 2 * BLOCK;

/// E8M0 scales with which all E2M1 codes but zeros are normal numbers in bf16.
pub(crate) const NORMAL_SCALES: std::ops::RangeInclusive<u8> = 2..=127 + 125;

/// Bytes of the codes of an MX block.
const MX_BYTES: usize = BLOCK / 2;

/// Rows that are packed side by side.
const ROWS_AT_ONCE: usize = 4;

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
pub(crate) struct PackMxfp4<'a> {
    pub(crate) codes: &'a [u8],
    pub(crate) scales: &'a [u8],
    pub(crate) layout: &'a Layout,
    pub(crate) panel: &'a mut [u8],
}

impl Kernel for PackMxfp4<'_> {
    type Output = bool;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> bool {
        let (codes, blocks) = (self.codes.as_chunks().0, self.layout.blocks);
        let rows = self.scales.len() / blocks;
        assert!(rows <= GROUP_ROWS && self.codes.len() == rows * blocks * MX_BYTES, "rows of one panel");
        let (packed_scales, packed_codes) = self.panel.split_at_mut(self.layout.scales);
        if rows < GROUP_ROWS {
            packed_scales.fill(0);
            packed_codes.fill(0);
        }
        let (packed_scales, padding) = packed_scales.split_at_mut(blocks * GROUP_ROWS);
        padding.fill(0);
        let mut panel: MxPanel<'_> = (packed_scales.as_chunks_mut().0, packed_codes.as_chunks_mut().0);
        assert_eq!(panel.1.len(), blocks, "a panel of the layout");
        let mut row = 0;
        while row < rows {
            let stored = (&codes[row * blocks..], &self.scales[row * blocks..]);
            if row + ROWS_AT_ONCE <= rows {
                pack_rows::<S, ROWS_AT_ONCE>(s, stored, row, &mut panel);
                row += ROWS_AT_ONCE;
            } else {
                pack_rows::<S, 1>(s, stored, row, &mut panel);
                row += 1;
            }
        }
        are_normal(codes, self.scales)
    }
}

/// Codes of a block of a row, as stored.
type MxBlock = [u8; MX_BYTES];

/// Scales and codes of a panel, block by block.
type MxPanel<'a> = (&'a mut [[u8; GROUP_ROWS]], &'a mut [[u8; E2m1::CODE_BYTES]]);

/// Packs ROWS rows, with which `codes` and `scales` begin, at `row` and after it: their quads are one write.
#[inline(always)]
fn pack_rows<S: Simd, const ROWS: usize>(
    s: S,
    (codes, scales): (&[MxBlock], &[u8]),
    row: usize,
    (packed_scales, packed_codes): &mut MxPanel<'_>,
) {
    let blocks = packed_scales.len();
    let mut row_codes: [&[MxBlock]; ROWS] = [&[]; ROWS];
    let mut row_scales: [&[u8]; ROWS] = [&[]; ROWS];
    for i in 0..ROWS {
        row_codes[i] = &codes[i * blocks..][..blocks];
        row_scales[i] = &scales[i * blocks..][..blocks];
    }
    for block in 0..blocks {
        for codes in row_codes {
            s.prefetch(codes.as_ptr().wrapping_add(ROWS * blocks + block).cast());
        }
        let to = &mut packed_codes[block];
        for quad in 0..MX_BYTES / QUAD {
            let mut quads = [[0; QUAD]; ROWS];
            for i in 0..ROWS {
                quads[i].copy_from_slice(&row_codes[i][block][quad * QUAD..(quad + 1) * QUAD]);
            }
            let at = (quad * GROUP_ROWS + row) * QUAD;
            to[at..at + ROWS * QUAD].copy_from_slice(quads.as_flattened());
        }
        for i in 0..ROWS {
            packed_scales[block][row + i] = row_scales[i][block];
        }
    }
}

/// Whether all weights are normal numbers in bf16, or zeros.
#[inline(always)]
fn are_normal(codes: &[MxBlock], scales: &[u8]) -> bool {
    let (lowest, highest) = (*NORMAL_SCALES.start(), *NORMAL_SCALES.end());
    let mut any_else = false;
    for &scale in scales {
        any_else |= scale.wrapping_sub(lowest) > highest - lowest;
    }
    if !any_else {
        return true;
    }
    let is_zero = |codes: &MxBlock| codes.iter().all(|pair| pair & 0x77 == 0);
    let mut blocks = codes.iter().zip(scales);
    blocks.all(|(codes, scale)| NORMAL_SCALES.contains(scale) || *scale < lowest && is_zero(codes))
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
    fn run<S: Simd>(self, _: S) {
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
            for (block, codes) in codes.iter_mut().enumerate() {
                let bytes = &bytes[block * BF16_BYTES..];
                let mut stored = [0; BF16_BYTES];
                match bytes.first_chunk() {
                    Some(whole) => stored = *whole,
                    None => stored[..bytes.len()].copy_from_slice(bytes),
                }
                let (scale, rounded) = round_block(&stored, self.powers);
                scales[block * GROUP_ROWS + row] = scale.to_le_bytes();
                for quad in 0..QUADS {
                    let at = (quad * GROUP_ROWS + row) * QUAD;
                    codes[at..at + QUAD].copy_from_slice(&rounded[quad * QUAD..(quad + 1) * QUAD]);
                }
            }
        }
    }
}

/// Rounds a row's block; gives the scale as bf16, and the bytes in [`QUAD_ORDER`].
#[inline(always)]
fn round_block(stored: &[u8; BF16_BYTES], powers: bool) -> (u16, [u8; BLOCK]) {
    /// To which an integer between −128 and 127 is added so that the sum's last byte is the integer and its offset: the
    /// sum's last place is 1, so that adding rounds, to nearest even.
    const ROUNDING: f32 = 3.0 * (1 << 22) as f32 + INT8_OFFSET as f32;
    let mut weights = [0; BLOCK];
    for (weight, pair) in weights.iter_mut().zip(stored.as_chunks::<2>().0) {
        *weight = u16::from_le_bytes(*pair);
    }
    // Bits of magnitudes are ordered as these are; infinity and NaN are the largest.
    let mut largest = 0;
    for weight in weights {
        largest = largest.max(weight & 0x7fff);
    }
    let (scale, factor) = scale_for(largest, powers);
    let mut bytes = [0; BLOCK];
    for (byte, weight) in bytes.iter_mut().zip(weights) {
        *byte = (bf16_to_f32(weight) * factor + ROUNDING).to_bits() as u8;
    }
    let mut ordered = [0; BLOCK];
    for (to, element) in ordered.iter_mut().zip(QUAD_ORDER) {
        *to = bytes[usize::from(element)];
    }
    (scale, ordered)
}

/// The scale as bf16, and what weights are multiplied with, for the largest magnitude of a block as bf16.
#[inline(always)]
fn scale_for(largest: u16, powers: bool) -> (u16, f32) {
    const BF16_NAN: u16 = 0x7fc0;
    let largest = bf16_to_f32(largest);
    if !largest.is_finite() {
        return (BF16_NAN, 0.0);
    }
    // Rounded up. Of a magnitude so small that its scale is no normal number nothing is left.
    let kept = if powers { 0x7f80_0000 } else { 0x7fff_0000 };
    let scale = (((largest / 127.0).to_bits() + (!kept & 0x7fff_ffff)) & kept) >> 16;
    let scale = scale as u16;
    let value = bf16_to_f32(scale);
    if value.is_normal() && value > 4.0 * f32::MIN_POSITIVE { (scale, 1.0 / value) } else { (0, 0.0) }
}

const _: () = assert!(E2m1::CODE_BYTES == GROUP_ROWS * MX_BYTES, "packed codes are as many as stored ones");

#[cfg(test)]
mod tests {
    use sostenuto_formats::codes::f32_to_bf16;

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
    fn ties_are_rounded_to_even() {
        let halves = [127.0, 0.5, 1.5, -0.5, -1.5, 2.5, -126.5, 62.5, -0.0];
        for largest in [127.0, 0.0, 1e-39] {
            let weight = |i: usize| if i < halves.len() { halves[i] / 127.0 * largest } else { 0.0 };
            let bits: [u16; BLOCK] = std::array::from_fn(|i| f32_to_bf16(weight(i)));
            let mut stored = [0; BF16_BYTES];
            stored.as_chunks_mut().0.iter_mut().zip(bits).for_each(|(to, bits)| *to = bits.to_le_bytes());
            let (scale, bytes) = round_block(&stored, false);
            assert_eq!(bf16_to_f32(scale), if largest == 127.0 { 1.0 } else { 0.0 });
            for (byte, element) in bytes.into_iter().zip(QUAD_ORDER) {
                // The scale is 1, or 0, which leaves nothing.
                let value = bf16_to_f32(bits[usize::from(element)]) * bf16_to_f32(scale);
                assert_eq!(f32::from(byte) - 128.0, value.round_ties_even(), "element {element}");
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
    fn mxfp4_rows_lie_side_by_side() {
        let blocks = 3;
        for rows in [1, 4, 7, GROUP_ROWS] {
            let codes: Vec<u8> = (0..rows * blocks * MX_BYTES).map(|i| (i * 7 % 255 + 1) as u8).collect();
            let scales: Vec<u8> = (0..rows * blocks).map(|i| (i + 100) as u8).collect();
            let layout = Layout::new::<E2m1>(rows, blocks * BLOCK);
            let mut panel = vec![9; layout.bytes()];
            PackMxfp4 { codes: &codes, scales: &scales, layout: &layout, panel: &mut panel }.run(Scalar);
            let (packed_scales, packed_codes) = panel.split_at(layout.scales);
            for (i, &code) in packed_codes.iter().enumerate() {
                let (block, quad) = (i / E2m1::CODE_BYTES, i % E2m1::CODE_BYTES / (GROUP_ROWS * QUAD));
                let (row, byte) = (i / QUAD % GROUP_ROWS, i % QUAD);
                let at = (row * blocks + block) * MX_BYTES + quad * QUAD + byte;
                assert_eq!(code, if row < rows { codes[at] } else { 0 }, "row {row} of {rows}, byte {i}");
            }
            for (i, &scale) in packed_scales.iter().enumerate() {
                let (block, row) = (i / GROUP_ROWS, i % GROUP_ROWS);
                let is_there = row < rows && block < blocks;
                assert_eq!(scale, if is_there { scales[row * blocks + block] } else { 0 }, "scale {i}");
            }
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
            let pack = PackMxfp4 { codes: &codes, scales: &scales, layout: &layout, panel: &mut panel };
            assert_eq!(pack.run(Scalar), are_normal, "{scales:?}");
        }
    }
}
