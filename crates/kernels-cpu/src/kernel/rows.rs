//! Kernels on one row.

use crate::kernel::linear::bf16_at;
use crate::simd::{Kernel, Simd};

/// `out[i] = table[token][i]`.
///
/// | argument | type | shape |
/// |---|---|---|
/// | `row` | bf16 bytes | `[n]` |
/// | `out` | f32 | `[n]` |
///
/// # Numerics
/// Exact.
pub(crate) fn embed(row: &[u8], out: &mut [f32]) {
    sostenuto_formats::codes::bf16_bytes_to_f32(row, out);
}

/// `row[i] = row[i] / sqrt(mean(row²) + eps) · weight[i]`, in place.
///
/// | argument | type | shape |
/// |---|---|---|
/// | `row` | f32 | `[n]` |
/// | `weight` | bf16 bytes | `[n]` |
///
/// # Numerics
/// Squares are summed in f32 in one vector accumulator, the root is f32; then `row · scale · weight`.
///
/// # Panics
/// If the lengths differ.
///
/// # Cost
/// Reads the row twice and writes it once.
///
/// # Source
/// `RMSNorm` of openai/gpt-oss `gpt_oss/torch/model.py`.
pub(crate) struct RmsNorm<'a> {
    pub(crate) row: &'a mut [f32],
    pub(crate) weight: &'a [u8],
    pub(crate) eps: f32,
}

impl Kernel for RmsNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        assert_eq!(self.weight.len(), 2 * self.row.len(), "a weight per element");
        let mut sum = s.splat(0.0);
        let mut chunks = self.row.chunks_exact(S::LANES);
        for chunk in &mut chunks {
            let x = s.load(chunk);
            sum = s.mul_add(x, x, sum);
        }
        let tail = s.load_partial(chunks.remainder());
        let mean = s.sum(s.mul_add(tail, tail, sum)) / self.row.len() as f32;
        let scale = 1.0 / (mean + self.eps).sqrt();
        for (i, x) in self.row.iter_mut().enumerate() {
            *x = *x * scale * bf16_at(self.weight, i);
        }
    }
}

/// `out = [cos(p·f_i)·c …, sin(p·f_i)·c …]`.
///
/// | argument | type | shape |
/// |---|---|---|
/// | `inv_freq` | f64 | `[head_dim / 2]`, radians per position |
/// | `out` | f32 | `[head_dim]` |
///
/// # Numerics
/// Angles, functions and products in f64, rounded once.
///
/// # Source
/// `RotaryEmbedding` of openai/gpt-oss `gpt_oss/torch/model.py`; YaRN, arXiv 2309.00071.
pub(crate) fn rope_table(position: u32, inv_freq: &[f64], concentration: f64, out: &mut [f32]) {
    let (cosines, sines) = out.split_at_mut(inv_freq.len());
    for ((cos, sin), frequency) in cosines.iter_mut().zip(sines).zip(inv_freq) {
        let (s, c) = (f64::from(position) * frequency).sin_cos();
        *cos = (c * concentration) as f32;
        *sin = (s * concentration) as f32;
    }
}

/// Rotates the heads of a row in place: `a' = a·cos − b·sin`, `b' = b·cos + a·sin`.
///
/// | argument | type | shape |
/// |---|---|---|
/// | `heads` | f32 | `[heads, head_dim]` |
/// | `angles` | f32 | `[head_dim]`: cosines, then sines |
///
/// # Numerics
/// f32; the second product of each line is rounded before it is subtracted or added.
pub(crate) struct Rotate<'a> {
    pub(crate) heads: &'a mut [f32],
    pub(crate) angles: &'a [f32],
}

impl Kernel for Rotate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let half = self.angles.len() / 2;
        let (cosines, sines) = self.angles.split_at(half);
        let whole = half - half % S::LANES;
        for head in self.heads.chunks_exact_mut(2 * half) {
            let (first, second) = head.split_at_mut(half);
            for i in (0..whole).step_by(S::LANES) {
                let (a, b) = (s.load(&first[i..]), s.load(&second[i..]));
                let (cos, sin) = (s.load(&cosines[i..]), s.load(&sines[i..]));
                s.store(s.sub(s.mul(a, cos), s.mul(b, sin)), &mut first[i..]);
                s.store(s.add(s.mul(b, cos), s.mul(a, sin)), &mut second[i..]);
            }
            for i in whole..half {
                let (a, b) = (first[i], second[i]);
                first[i] = a * cosines[i] - b * sines[i];
                second[i] = b * cosines[i] + a * sines[i];
            }
        }
    }
}

/// The largest logits in descending order, the lower index first where equal, and the softmax over them.
///
/// | argument | type | shape |
/// |---|---|---|
/// | `logits` | f32 | `[num_experts]` |
/// | `experts` | u32 | `[k]` |
/// | `weights` | f32 | `[k]` |
///
/// # Numerics
/// Exponentials of f32 differences to the largest, by the platform's `exp` in f64, summed in f64.
///
/// # Panics
/// If k is more than the number of experts.
///
/// # Source
/// `MLPBlock` of openai/gpt-oss `gpt_oss/torch/model.py`.
pub(crate) fn top_k(logits: &[f32], experts: &mut [u32], weights: &mut [f32]) {
    let k = experts.len();
    assert!(k <= logits.len() && weights.len() == k, "k experts and weights");
    for place in 0..k {
        let (chosen, _) = experts.split_at(place);
        let mut best = None;
        for (e, &logit) in logits.iter().enumerate() {
            let better = best.is_none_or(|best: usize| logit > logits[best]);
            if better && !chosen.contains(&(e as u32)) {
                best = Some(e);
            }
        }
        experts[place] = best.expect("an expert is left") as u32;
    }
    let largest = logits[experts[0] as usize];
    let share = |e: u32| f64::from(logits[e as usize] - largest).exp();
    let sum: f64 = experts.iter().map(|&e| share(e)).sum();
    for (weight, &e) in weights.iter_mut().zip(&*experts) {
        *weight = (share(e) / sum) as f32;
    }
}
