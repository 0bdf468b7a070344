use sostenuto_formats::codes::*;

/// E2M1 by its definition: sign, two exponent bits with bias 1, one mantissa bit, subnormals at exponent 0.
fn e2m1_by_definition(code: u8) -> f64 {
    let sign = if code & 8 != 0 { -1.0 } else { 1.0 };
    let (exponent, mantissa) = (i32::from(code >> 1 & 3), f64::from(code & 1));
    let magnitude = match exponent {
        0 => mantissa * 0.5,
        _ => (1.0 + mantissa * 0.5) * 2_f64.powi(exponent - 1),
    };
    sign * magnitude
}

#[test]
fn each_of_the_16_e2m1_codes_has_the_value_of_the_definition() {
    for code in 0..16 {
        let expected = e2m1_by_definition(code) as f32;
        assert_eq!(e2m1_to_f32(code).to_bits(), expected.to_bits(), "code {code}");
        assert_eq!(e2m1_to_f32(code | 0xf0).to_bits(), expected.to_bits(), "high bits of code {code}");
    }
}

#[test]
fn each_of_the_256_e8m0_codes_is_a_power_of_two_and_255_is_nan() {
    for code in 0..=254_u8 {
        let expected = 2_f64.powi(i32::from(code) - 127);
        assert_eq!(f64::from(e8m0_to_f32(code)), expected, "code {code}");
    }
    assert!(e8m0_to_f32(E8M0_NAN).is_nan());
}

#[test]
fn an_mx_block_decodes_low_nibble_first_and_exactly_under_every_scale() {
    // Byte b holds the codes b (low) and 15 − b (high), so every code is at an even and at an odd place.
    let codes: [u8; 16] = std::array::from_fn(|b| (b | (15 - b) << 4) as u8);
    for scale in 0..=254_u8 {
        let values = decode_mx_block(&codes, scale);
        for (index, value) in values.into_iter().enumerate() {
            let code = if index % 2 == 0 { index / 2 } else { 15 - index / 2 };
            let exact = e2m1_by_definition(code as u8) * 2_f64.powi(i32::from(scale) - 127);
            if exact.abs() > f64::from(f32::MAX) {
                assert_eq!(f64::from(value), exact.signum() * f64::INFINITY, "code {code}, scale {scale}");
            } else {
                assert_eq!(f64::from(value).to_bits(), exact.to_bits(), "code {code}, scale {scale}");
            }
        }
    }
    assert!(decode_mx_block(&[1; 16], E8M0_NAN).iter().all(|value| value.is_nan()));
}

#[test]
fn a_row_decodes_block_by_block() {
    let codes: Vec<u8> = (0..48).map(|byte| byte * 5).collect();
    let scales = [127, 120, 130];
    let mut row = [0.0; 96];
    decode_mx_row(&codes, &scales, &mut row);
    for block in 0..3 {
        let expected = decode_mx_block(codes[block * 16..][..16].try_into().unwrap(), scales[block]);
        assert_eq!(row[block * 32..][..32], expected);
    }
}

#[test]
#[should_panic(expected = "16 code bytes per scale")]
fn a_row_with_a_scale_too_few_panics() {
    decode_mx_row(&[0; 32], &[127], &mut [0.0; 64]);
}

#[test]
fn each_of_the_65536_bf16_values_survives_widening_and_rounding() {
    for bits in 0..=u16::MAX {
        let wide = bf16_to_f32(bits);
        assert_eq!(wide.to_bits() >> 16, u32::from(bits));
        if wide.is_nan() {
            assert!(bf16_to_f32(f32_to_bf16(wide)).is_nan());
        } else {
            assert_eq!(f32_to_bf16(wide), bits);
        }
    }
}

#[test]
fn rounding_to_bf16_takes_the_nearest_and_ties_to_even() {
    for (value, bits) in [
        (1.0, 0x3f80),
        (f32::from_bits(0x3f80_8000), 0x3f80),
        (f32::from_bits(0x3f80_8001), 0x3f81),
        (f32::from_bits(0x3f81_8000), 0x3f82),
        (f32::from_bits(0x3f81_7fff), 0x3f81),
        (-f32::from_bits(0x3f81_8000), 0xbf82),
        (f32::MAX, 0x7f80),
        (f32::from_bits(1), 0x0000),
        (-0.0, 0x8000),
    ] {
        assert_eq!(f32_to_bf16(value), bits, "{value:e}");
    }
    assert!(bf16_to_f32(f32_to_bf16(f32::from_bits(0x7f80_0001))).is_nan());
}
