//! Rotary frequencies against values of OpenAI's reference formula, evaluated by hand for gpt-oss-20b.

use sostenuto_formats::ModelConfig;
use sostenuto_model::RopeFrequencies;

#[test]
fn frequencies_are_kept_below_the_ramp_and_divided_above_it() {
    let config = ModelConfig::gpt_oss_20b();
    let rope = RopeFrequencies::new(&config);
    let plain = |i: i32| 150_000f64.powf(-f64::from(i) / 32.0);
    assert_eq!(rope.inv_freq.len(), 32);
    for i in 0..=8 {
        assert!((rope.inv_freq[i as usize] / plain(i) - 1.0).abs() < 1e-12, "dimension {i}");
    }
    for i in 18..32 {
        assert!((rope.inv_freq[i as usize] * 32.0 / plain(i) - 1.0).abs() < 1e-12, "dimension {i}");
    }
    // The ramp runs from 8.0928 to 17.3980, its ends unrounded.
    let share = (12.0 - 8.0928) / (17.3980 - 8.0928);
    let mixed = plain(12) * (share / 32.0 + 1.0 - share);
    assert!((rope.inv_freq[12] / mixed - 1.0).abs() < 1e-4);
    assert!((rope.concentration - 1.3465735902799727).abs() < 1e-15);
}
