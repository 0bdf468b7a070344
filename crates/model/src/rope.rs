//! Rotary frequencies with YaRN scaling.

use sostenuto_formats::{ModelConfig, RopeScaling};

/// Angular frequencies and concentration of the rotary embedding.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeFrequencies {
    /// `head_dim / 2` frequencies, radians per position.
    pub inv_freq: Vec<f64>,
    /// Multiplies cosine and sine, so attention scores carry its square.
    pub concentration: f64,
}

impl RopeFrequencies {
    /// Frequencies of a model. Below the ramp a dimension keeps its frequency, above it the frequency is divided
    /// by the factor, and between the two are mixed.
    ///
    /// # Source
    /// YaRN (arXiv 2309.00071), section 3.2; `RotaryEmbedding` of the gpt-oss reference, which leaves the ends
    /// of the ramp unrounded (`truncate: false`).
    pub fn new(config: &ModelConfig) -> Self {
        let scaling = &config.rope_scaling;
        let half = config.head_dim / 2;
        let (low, high) = ramp_ends(config.rope_theta, config.head_dim, scaling);
        let inv_freq = (0..half)
            .map(|i| {
                let plain = config.rope_theta.powf(-2.0 * i as f64 / config.head_dim as f64);
                let ramp = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
                plain / scaling.factor * ramp + plain * (1.0 - ramp)
            })
            .collect();
        let concentration = if scaling.factor > 1.0 { 0.1 * scaling.factor.ln() + 1.0 } else { 1.0 };
        Self { inv_freq, concentration }
    }
}

/// Dimension indices where the ramp starts and ends.
fn ramp_ends(theta: f64, head_dim: usize, scaling: &RopeScaling) -> (f64, f64) {
    let original = scaling.original_max_position_embeddings as f64;
    let dimension = |rotations: f64| {
        head_dim as f64 * (original / (rotations * 2.0 * std::f64::consts::PI)).ln() / (2.0 * theta.ln())
    };
    let (low, high) = (dimension(scaling.beta_fast), dimension(scaling.beta_slow));
    let (low, high) = if scaling.truncate { (low.floor(), high.ceil()) } else { (low, high) };
    let (low, high) = (low.max(0.0), high.min(head_dim as f64 - 1.0));
    // A ramp of no length would divide by zero.
    (low, if low == high { high + 0.001 } else { high })
}
