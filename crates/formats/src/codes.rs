//! The number codes of a gpt-oss checkpoint: E2M1, E8M0, MXFP4 (both together) and bf16; scalar and exact.
//!
//! # Source
//! OCP Microscaling Formats (MX) specification v1.0: sections 5.3.3 (E2M1), 5.4.1 (E8M0), 6.1 (block semantics). The
//! order of nibbles is that of openai/gpt-oss, `gpt_oss/torch/weights.py`.

/// Values in one MX block; they share one scale.
pub const MX_BLOCK_VALUES: usize = 32;

/// Bytes that hold the 32 E2M1 codes of one MX block.
pub const MX_BLOCK_BYTES: usize = 16;

/// The E8M0 code that stands for NaN. A checkpoint that has one is refused.
pub const E8M0_NAN: u8 = 255;

/// The value of each E2M1 code: one sign bit (the highest), two exponent bits (bias 1), one mantissa bit.
pub const E2M1_VALUES: [f32; 16] =
    [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];

/// Decodes an E2M1 code; the high four bits of `code` are ignored.
#[inline]
pub const fn e2m1_to_f32(code: u8) -> f32 {
    E2M1_VALUES[(code & 0x0f) as usize]
}

/// Decodes an E8M0 scale: 2^(`code` − 127), NaN for [`E8M0_NAN`]. Code 0 is 2^−127, a subnormal `f32`.
#[inline]
pub const fn e8m0_to_f32(code: u8) -> f32 {
    match code {
        0 => f32::from_bits(0x0040_0000),
        E8M0_NAN => f32::NAN,
        _ => f32::from_bits((code as u32) << 23),
    }
}

/// Decodes one MX block: element 2b is the low nibble of byte b, element 2b + 1 the high one, each times
/// 2^(`scale` − 127).
///
/// # Numerics
/// Exact: every product is an `f32`, except that codes of magnitude ≥ 2 under scale 254, and ≥ 4 under scale 253, lie
/// beyond `f32::MAX` and give an infinity of their sign.
#[inline]
pub fn decode_mx_block(codes: &[u8; MX_BLOCK_BYTES], scale: u8) -> [f32; MX_BLOCK_VALUES] {
    let scale = e8m0_to_f32(scale);
    let mut values = [0.0; MX_BLOCK_VALUES];
    for (pair, byte) in values.chunks_exact_mut(2).zip(codes) {
        pair[0] = e2m1_to_f32(*byte) * scale;
        pair[1] = e2m1_to_f32(*byte >> 4) * scale;
    }
    values
}

/// Decodes a row of MX blocks.
///
/// | argument | type | shape |
/// |---|---|---|
/// | `codes` | E2M1 pairs, low nibble first | `[n / 32, 16]` |
/// | `scales` | E8M0 | `[n / 32]` |
/// | `out` | f32 | `[n]` |
///
/// # Panics
/// If the three lengths do not belong together.
pub fn decode_mx_row(codes: &[u8], scales: &[u8], out: &mut [f32]) {
    assert_eq!(codes.len(), scales.len() * MX_BLOCK_BYTES, "16 code bytes per scale");
    assert_eq!(out.len(), scales.len() * MX_BLOCK_VALUES, "32 values per scale");
    let blocks = codes.as_chunks::<MX_BLOCK_BYTES>().0;
    for ((block, scale), out) in blocks.iter().zip(scales).zip(out.chunks_exact_mut(MX_BLOCK_VALUES)) {
        out.copy_from_slice(&decode_mx_block(block, *scale));
    }
}

/// Widens the bits of a bf16 to `f32`; exact, NaN payloads included.
#[inline]
pub const fn bf16_to_f32(bits: u16) -> f32 {
    f32::from_bits((bits as u32) << 16)
}

/// Rounds to the nearest bf16, ties to even; overflow gives an infinity, a NaN stays a (quiet) NaN.
#[inline]
pub const fn f32_to_bf16(value: f32) -> u16 {
    half::bf16::from_f32_const(value).to_bits()
}

/// Widens little-endian bf16 values to `f32`; the bytes may lie at any alignment.
///
/// # Panics
/// If `bytes` is not two bytes per element of `out`.
pub fn bf16_bytes_to_f32(bytes: &[u8], out: &mut [f32]) {
    assert_eq!(bytes.len(), out.len() * 2, "two bytes per bf16");
    for (pair, out) in bytes.as_chunks::<2>().0.iter().zip(out) {
        *out = bf16_to_f32(u16::from_le_bytes(*pair));
    }
}
