//! Keys and values in 8 bits.

/// Magnitudes below this count as zero: a scale of theirs would have too few bits.
const SMALLEST: f32 = 1e-36;

/// Scale of a key or value head that is kept as [`crate::KvDtype::Int8`]: `max|x| / 127`; 0 where every magnitude is
/// below 1e-36, and NaN where an element is not finite, so that what reads the head is NaN too.
pub fn int8_scale(head: &[f32]) -> f32 {
    if !head.iter().all(|x| x.is_finite()) {
        return f32::NAN;
    }
    let largest = head.iter().fold(0.0, |largest: f32, x| largest.max(x.abs()));
    if largest < SMALLEST { 0.0 } else { largest / 127.0 }
}

/// `x / scale` to the nearest integer, ties to even, for an element of the head that `scale` belongs to: from −127 to
/// 127. 0 where the scale is 0 or NaN.
pub fn to_int8(x: f32, scale: f32) -> i8 {
    // The quotient's rounding may carry the largest element to 127.00001, never to 127.5.
    if scale > 0.0 { (x / scale).round_ties_even() as i8 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_come_back_within_half_a_scale() {
        let head = [1.0, -3.5, 0.0, 2.25, f32::MIN_POSITIVE, -0.0137];
        let scale = int8_scale(&head);
        assert_eq!(scale, 3.5 / 127.0);
        assert_eq!(to_int8(-3.5, scale), -127);
        for x in head {
            assert!((f32::from(to_int8(x, scale)) * scale - x).abs() <= scale / 2.0 * 1.000_001, "{x}");
        }
    }

    #[test]
    fn every_largest_magnitude_is_kept_as_127() {
        let mut largest = SMALLEST;
        while largest.is_finite() {
            let scale = int8_scale(&[largest, -largest / 2.0]);
            assert_eq!((to_int8(largest, scale), to_int8(-largest, scale)), (127, -127), "{largest}");
            largest *= 1.37;
        }
    }

    #[test]
    fn head_of_zeros_stays_and_one_that_is_not_finite_becomes_nan() {
        assert_eq!((int8_scale(&[0.0, -0.0, 1e-37]), to_int8(1e-37, 0.0)), (0.0, 0));
        for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let scale = int8_scale(&[1.0, odd]);
            assert!(scale.is_nan());
            assert!((f32::from(to_int8(1.0, scale)) * scale).is_nan());
        }
    }
}
