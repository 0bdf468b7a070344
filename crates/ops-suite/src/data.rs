//! Seeded inputs in the formats of the contract, beside their f64 values.

use sostenuto_formats::SharedBytes;
use sostenuto_ops::{WeightData, WeightFormat, WeightSpec};

/// A small counter-based generator.
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `0..limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    /// Roughly normal: the sum of four uniform numbers, standard deviation `scale`.
    pub(crate) fn normal(&mut self, scale: f32) -> f32 {
        let sum: f32 = (0..4).map(|_| (self.next() >> 40) as f32 / (1u32 << 24) as f32 - 0.5).sum();
        sum * scale * 1.732
    }

    pub(crate) fn normals(&mut self, len: usize, scale: f32) -> Vec<f32> {
        (0..len).map(|_| self.normal(scale)).collect()
    }

    /// `0..len` in random order.
    pub(crate) fn permutation(&mut self, len: usize) -> Vec<u32> {
        let mut order: Vec<u32> = (0..len as u32).collect();
        for i in (1..len).rev() {
            order.swap(i, self.below(i + 1));
        }
        order
    }
}

/// A weight: what the device gets, and what its values mean.
#[derive(Clone)]
pub(crate) struct Tensor {
    pub(crate) spec: WeightSpec,
    values_bytes: Vec<u8>,
    scale_bytes: Vec<u8>,
    /// `[experts, out_features, in_features]`.
    pub(crate) values: Vec<f64>,
}

impl Tensor {
    /// A bf16 weight of random values.
    pub(crate) fn bf16(rng: &mut Rng, name: &str, shape: [usize; 3], scale: f32) -> Self {
        let values = rng.normals(shape.iter().product(), scale);
        Self::from_bf16(name, shape, &values)
    }

    /// A bf16 weight of the values given, cut (not rounded) to bf16.
    pub(crate) fn from_bf16(name: &str, shape: [usize; 3], values: &[f32]) -> Self {
        let bits: Vec<u16> = values.iter().map(|value| (value.to_bits() >> 16) as u16).collect();
        Self {
            spec: spec(name, WeightFormat::Bf16, shape),
            values_bytes: bits.iter().flat_map(|bits| bits.to_le_bytes()).collect(),
            scale_bytes: Vec::new(),
            values: bits.iter().map(|&bits| f64::from(f32::from_bits(u32::from(bits) << 16))).collect(),
        }
    }

    /// An MXFP4 weight of random codes; `code` and `scale` say which for each element and MX block of an expert.
    pub(crate) fn mxfp4(
        name: &str,
        shape: [usize; 3],
        mut code: impl FnMut(usize) -> u8,
        mut scale: impl FnMut(usize) -> u8,
    ) -> Self {
        // The E2M1 magnitudes, from the format's definition.
        let magnitudes = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
        let per_expert = shape[1] * shape[2];
        let elements = shape[0] * per_expert;
        let codes: Vec<u8> = (0..elements).map(|i| code(i / per_expert) & 15).collect();
        let scale_bytes: Vec<u8> = (0..elements / 32).map(|b| scale(b * 32 / per_expert)).collect();
        let value = |i: usize| {
            let sign = if codes[i] & 8 == 0 { 1.0 } else { -1.0 };
            sign * magnitudes[usize::from(codes[i] & 7)] * 2f64.powi(i32::from(scale_bytes[i / 32]) - 127)
        };
        Self {
            spec: spec(name, WeightFormat::Mxfp4, shape),
            values: (0..elements).map(value).collect(),
            values_bytes: codes.chunks_exact(2).map(|pair| pair[0] | pair[1] << 4).collect(),
            scale_bytes,
        }
    }

    /// An MXFP4 weight of random codes whose values have a standard deviation of about 2^exponent · 3.
    pub(crate) fn random_mxfp4(rng: &mut Rng, name: &str, shape: [usize; 3], exponent: i32) -> Self {
        let mut scales = Rng::new(rng.next());
        let base = 127 + exponent;
        Self::mxfp4(name, shape, |_| rng.next() as u8, |_| (base - scales.below(4) as i32) as u8)
    }

    /// The weight's bytes in `pieces` pieces: of whole rows where there are enough, at even offsets otherwise.
    pub(crate) fn data(&self, pieces: usize) -> WeightData {
        let row_bytes = self.values_bytes.len() / (self.spec.experts * self.spec.out_features);
        let unit = if self.spec.out_features > pieces { row_bytes } else { 2 };
        WeightData {
            values: cut(&self.values_bytes, pieces, unit),
            scales: cut(&self.scale_bytes, pieces, 2),
        }
    }

    /// A row of values.
    pub(crate) fn row(&self, expert: usize, row: usize) -> &[f64] {
        let k = self.spec.in_features;
        let start = (expert * self.spec.out_features + row) * k;
        &self.values[start..start + k]
    }
}

fn spec(name: &str, format: WeightFormat, [experts, out_features, in_features]: [usize; 3]) -> WeightSpec {
    WeightSpec { name: name.to_owned(), format, experts, out_features, in_features, may_round: false }
}

/// Cuts bytes into pieces at multiples of `unit`.
fn cut(bytes: &[u8], pieces: usize, unit: usize) -> Vec<SharedBytes> {
    if bytes.is_empty() {
        return Vec::new();
    }
    let step = (bytes.len() / pieces).next_multiple_of(unit).max(unit);
    bytes.chunks(step).map(|piece| SharedBytes::from_vec(piece.to_vec())).collect()
}
