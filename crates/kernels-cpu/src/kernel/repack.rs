//! From weights as stored to packed panels.

use sostenuto_formats::codes::bf16_to_f32;

use crate::kernel::packed::{E2m1, Format, GROUP_ROWS, Int8, LINE, Layout};
use crate::simd::int8::{INT8_OFFSET, QUAD};
use crate::simd::{BLOCK, Kernel, Simd};

/// Bytes of a block as stored in bf16.
const BF16_BYTES: usize = 2 * BLOCK;

/// E8M0 scales with which all E2M1 codes but zeros are normal numbers in bf16.
pub(crate) const NORMAL_SCALES: std::ops::RangeInclusive<u8> = 2..=127 + 125;

/// Bytes of the codes of an MX block.
const MX_BYTES: usize = BLOCK / 2;

/// Rows that are packed side by side.
const ROWS_AT_ONCE: usize = 4;

/// How far ahead a panel's lines are asked for: they were zeroed a moment before, and lie in a farther cache.
const WRITE_AHEAD: usize = 4096;

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
        let (stored, blocks) = (self.codes.as_chunks::<MX_BYTES>().0, self.layout.blocks);
        let rows = self.scales.len() / blocks;
        assert!(rows <= GROUP_ROWS && self.scales.len() == rows * blocks, "rows of one panel");
        assert_eq!(self.codes.len(), self.scales.len() * MX_BYTES, "codes of a block per scale");
        let (scales, codes) = self.panel.split_at_mut(self.layout.scales);
        let (scales, padding) = scales.split_at_mut(blocks * GROUP_ROWS);
        padding.fill(0);
        let scales = scales.as_chunks_mut::<GROUP_ROWS>().0;
        let codes = codes.as_chunks_mut::<{ E2m1::CODE_BYTES }>().0;
        assert_eq!(codes.len(), blocks, "a panel of the layout");
        for (block, (codes, scales)) in codes.iter_mut().zip(scales).enumerate() {
            for line in 0..E2m1::CODE_BYTES / LINE {
                // The next panel's rows, which lie after these.
                let next = stored.as_ptr().wrapping_add(GROUP_ROWS * (blocks + block)).cast::<u8>();
                s.prefetch(next.wrapping_add(line * LINE));
                s.prefetch_write(codes.as_ptr().wrapping_add(WRITE_AHEAD + line * LINE));
            }
            // Rows beyond the last are zeros.
            for first in (0..GROUP_ROWS).step_by(ROWS_AT_ONCE) {
                let mut quads = [[0; MX_BYTES]; ROWS_AT_ONCE];
                for (i, quads) in quads.iter_mut().enumerate() {
                    *quads = stored.get((first + i) * blocks + block).copied().unwrap_or_default();
                }
                write_quads(codes, [0, 1, 2, 3], first, s.transpose_quads(quads));
            }
            for (row, scale) in scales.iter_mut().enumerate() {
                *scale = self.scales.get(row * blocks + block).copied().unwrap_or_default();
            }
        }
        are_normal(stored, self.scales)
    }
}

/// Codes of a block of a row, as stored.
type MxBlock = [u8; MX_BYTES];

/// Writes quads of four rows, the first of them being `first`, to these places of a block's codes.
#[inline(always)]
fn write_quads(codes: &mut [u8], places: [usize; 4], first: usize, quads: [[u8; 4 * QUAD]; ROWS_AT_ONCE]) {
    for (place, quads) in places.into_iter().zip(quads) {
        let at = (place * GROUP_ROWS + first) * QUAD;
        codes[at..at + quads.len()].copy_from_slice(&quads);
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
    fn run<S: Simd>(self, s: S) {
        assert!(self.rows.len() <= GROUP_ROWS, "rows of one panel");
        let (scales, codes) = self.panel.split_at_mut(self.layout.scales);
        let codes = codes.as_chunks_mut::<{ Int8::CODE_BYTES }>().0;
        let (scales, padding) = scales.split_at_mut(codes.len() * GROUP_ROWS * Int8::SCALE_BYTES);
        padding.fill(0);
        let scales = scales.as_chunks_mut::<{ Int8::SCALE_BYTES }>().0.as_chunks_mut::<GROUP_ROWS>().0;
        assert!(
            self.rows.iter().all(|bytes| bytes.len().div_ceil(BF16_BYTES) == codes.len()),
            "a block of codes per block"
        );
        // Block by block, so that what is written stays in the nearest cache until all rows are there.
        for (block, (codes, scales)) in codes.iter_mut().zip(scales).enumerate() {
            for line in 0..Int8::CODE_BYTES / LINE {
                s.prefetch_write(codes.as_ptr().wrapping_add(WRITE_AHEAD + line * LINE));
            }
            for first in (0..GROUP_ROWS).step_by(ROWS_AT_ONCE) {
                let [mut even, mut odd] = [[[0; BLOCK / 2]; ROWS_AT_ONCE]; 2];
                for i in 0..ROWS_AT_ONCE {
                    let Some(bytes) = self.rows.get(first + i) else {
                        scales[first + i] = [0; Int8::SCALE_BYTES];
                        continue;
                    };
                    // The next panel's row, where there is one.
                    s.prefetch(bytes.as_ptr().wrapping_add(GROUP_ROWS * bytes.len() + block * BF16_BYTES));
                    let whole = bytes.as_chunks::<BF16_BYTES>().0.get(block);
                    let stored = whole.copied().unwrap_or_else(|| last_block(bytes));
                    let elements = widened(&stored);
                    let (scale, factor) = scale_for(largest_magnitude(&elements), self.powers);
                    scales[first + i] = scale.to_le_bytes();
                    (even[i], odd[i]) = (rounded(&elements[0], factor), rounded(&elements[1], factor));
                }
                // Four even elements, the four odd ones beside them, and so on: QUAD_ORDER.
                write_quads(codes, [0, 2, 4, 6], first, s.transpose_quads(even));
                write_quads(codes, [1, 3, 5, 7], first, s.transpose_quads(odd));
            }
        }
    }
}

/// The block at a row's end that is not whole, with zeros beyond.
#[cold]
fn last_block(row: &[u8]) -> [u8; BF16_BYTES] {
    let mut stored = [0; BF16_BYTES];
    let bytes = row.as_chunks::<BF16_BYTES>().1;
    stored[..bytes.len()].copy_from_slice(bytes);
    stored
}

/// The even and the odd elements of a block, as bits of f32.
#[inline(always)]
fn widened(stored: &[u8; BF16_BYTES]) -> [[u32; BLOCK / 2]; 2] {
    let [mut even, mut odd] = [[0; BLOCK / 2]; 2];
    for (i, pair) in stored.as_chunks::<4>().0.iter().enumerate() {
        let pair = u32::from_le_bytes(*pair);
        (even[i], odd[i]) = (pair << 16, pair & 0xffff_0000);
    }
    [even, odd]
}

/// The largest magnitude. An infinity or NaN is the largest.
#[inline(always)]
fn largest_magnitude([even, odd]: &[[u32; BLOCK / 2]; 2]) -> f32 {
    let mut largest = 0;
    for i in 0..BLOCK / 2 {
        largest = largest.max(even[i] & 0x7fff_ffff).max(odd[i] & 0x7fff_ffff);
    }
    f32::from_bits(largest)
}

/// Elements multiplied with `factor` and rounded, as bytes.
#[inline(always)]
fn rounded(elements: &[u32; BLOCK / 2], factor: f32) -> [u8; BLOCK / 2] {
    /// To which an integer between −128 and 127 is added so that the sum's last byte is the integer and its offset: the
    /// sum's last place is 1, so that adding rounds, to nearest even.
    const ROUNDING: f32 = 3.0 * (1 << 22) as f32 + INT8_OFFSET as f32;
    let mut bytes = [0; BLOCK / 2];
    for i in 0..BLOCK / 2 {
        bytes[i] = (f32::from_bits(elements[i]) * factor + ROUNDING).to_bits() as u8;
    }
    bytes
}

/// The scale as bf16, and what weights are multiplied with, for the largest magnitude of a block.
#[inline(always)]
fn scale_for(largest: f32, powers: bool) -> (u16, f32) {
    const BF16_NAN: u16 = 0x7fc0;
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
    use crate::simd::int8::QUAD_ORDER;
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
            let elements = widened(&stored);
            let (scale, factor) = scale_for(largest_magnitude(&elements), false);
            let [even, odd] = elements.map(|elements| rounded(&elements, factor));
            let scale = bf16_to_f32(scale);
            assert_eq!(scale, if largest == 127.0 { 1.0 } else { 0.0 });
            for (element, bits) in bits.into_iter().enumerate() {
                let byte = if element % 2 == 0 { even[element / 2] } else { odd[element / 2] };
                // The scale is 1, or 0, which leaves nothing.
                let value = bf16_to_f32(bits) * scale;
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
