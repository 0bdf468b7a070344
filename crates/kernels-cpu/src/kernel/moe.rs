//! Expert products.

// Tasks write disjoint columns of the output.
#![allow(unsafe_code)]

use std::ops::Range;

use crate::kernel::linear::bf16_at;
use crate::kernel::matrix::{Experts, Matrix};
use crate::kernel::panel::{MOST_TOKENS, PANEL_ROWS, Panel, multiply};
use crate::memory::Parts;
use crate::simd::{Kernel, Simd, math};

/// Most features of [`Down`]: fewer than a panel's, for products of all choices are kept.
pub(crate) const DOWN_ROWS: usize = 64;

/// A block of the activations that experts are multiplied with.
pub(crate) type Activation<E> = <<E as Experts>::Expert as Matrix>::Activation;

/// Which rows chose which experts. A choice is `row · k + place`.
#[derive(Debug, Default)]
pub(crate) struct Routing {
    /// Choices, those of expert 0 first; ascending within an expert.
    choices: Vec<u32>,
    /// For each expert that was chosen: the expert and where its choices start and end.
    active: Vec<(u32, u32, u32)>,
    /// Choices per expert.
    counts: Vec<u32>,
}

impl Routing {
    /// Room for `choices` choices among `experts` experts.
    pub(crate) fn reserve(&mut self, choices: usize, experts: usize) {
        self.choices.resize(self.choices.len().max(choices), 0);
        self.counts.resize(self.counts.len().max(experts), 0);
        self.active.clear();
        self.active.reserve_exact(experts);
    }

    /// Size in bytes of room for `choices` choices among `experts` experts.
    pub(crate) fn planned_bytes(choices: usize, experts: usize) -> usize {
        4 * (choices + experts) + size_of::<(u32, u32, u32)>() * experts
    }

    /// Sorts the choices by expert. Allocates nothing.
    ///
    /// # Panics
    /// If an expert is not below `experts`, or there was not room reserved for this many.
    pub(crate) fn sort(&mut self, chosen: &[u32], experts: usize) {
        let counts = &mut self.counts[..experts];
        counts.fill(0);
        for &expert in chosen {
            counts[expert as usize] += 1;
        }
        self.active.clear();
        let mut start = 0;
        for (expert, count) in counts.iter_mut().enumerate() {
            if *count > 0 {
                assert!(self.active.len() < self.active.capacity(), "room for every expert");
                self.active.push((expert as u32, start, start + *count));
            }
            start += std::mem::replace(count, start);
        }
        for (choice, &expert) in chosen.iter().enumerate() {
            let place = &mut counts[expert as usize];
            self.choices[*place as usize] = choice as u32;
            *place += 1;
        }
    }

    /// Number of choices.
    pub(crate) fn num_choices(&self) -> usize {
        self.active.last().map_or(0, |&(_, _, end)| end as usize)
    }

    /// Number of experts that were chosen.
    pub(crate) fn num_active(&self) -> usize {
        self.active.len()
    }

    /// The i-th chosen expert and its choices.
    pub(crate) fn active(&self, i: usize) -> (usize, &[u32]) {
        let (expert, start, end) = self.active[i];
        (expert as usize, &self.choices[start as usize..end as usize])
    }

    /// Size in bytes.
    pub(crate) fn bytes(&self) -> usize {
        4 * (self.choices.len() + self.counts.len()) + size_of::<(u32, u32, u32)>() * self.active.capacity()
    }
}

/// Products of one expert's rows with the inputs of a group of its choices. Choice c has input `c / per_input`.
#[inline(always)]
fn multiply_group<S: Simd, M: Matrix>(
    s: S,
    matrix: M,
    rows: Range<usize>,
    group: &[u32],
    (inputs, per_input): (&[M::Activation], usize),
    (sums, expanded): (&mut [f32], &mut [u8]),
) {
    let blocks = matrix.blocks();
    let mut gathered: [&[M::Activation]; MOST_TOKENS] = [&[]; MOST_TOKENS];
    for (input, &choice) in gathered.iter_mut().zip(group) {
        let row = choice as usize / per_input;
        *input = &inputs[row * blocks..(row + 1) * blocks];
    }
    multiply(s, matrix, rows, &mut Panel { inputs: &gathered[..group.len()], sums, expanded });
}

/// Gate and up of one expert with SwiGLU, for the intermediate features `features`:
/// `g = W[2i]·x + b[2i]`, `u = W[2i+1]·x + b[2i+1]`, `out = g'·σ(alpha·g')·(u' + 1)` with
/// `g' = min(g, limit)`, `u' = clamp(u, −limit, limit)`.
///
/// | argument | type | shape |
/// |---|---|---|
/// | `weight` | MXFP4 | `[2·intermediate, hidden]`, gate and up interleaved |
/// | `bias` | bf16 bytes | `[2·intermediate]` |
/// | `inputs` | packed f32 blocks, or int8 blocks | `[rows, hidden/32]` |
/// | `choices` | `row · k + place` | those of this expert |
/// | `features` | | within `intermediate`, at most 64, starting at a multiple of 8 |
/// | `out` | f32 | `[rows·k, intermediate]` |
/// | `expanded`, `sums` | scratch | see [`Panel`] |
///
/// # Numerics
/// Sums as in the crate's documentation. SwiGLU in f32 with [`math::sigmoid`].
///
/// # Panics
/// If sizes do not belong together.
///
/// # Cost
/// 17 bytes per 32 weights, once per group of choices (12 with f32 activations, 64 with int8).
///
/// # Source
/// `MLPBlock` and `swiglu` of openai/gpt-oss `gpt_oss/torch/model.py`; OCP MX specification 6.1.
///
/// # Safety
/// Whoever makes it vouches that no other task writes columns `features` of the choices' rows.
pub(crate) struct GateUp<'a, M: Matrix> {
    pub(crate) weight: M,
    pub(crate) bias: &'a [u8],
    pub(crate) inputs: &'a [M::Activation],
    pub(crate) choices: &'a [u32],
    pub(crate) k: usize,
    pub(crate) features: Range<usize>,
    pub(crate) limit: f32,
    pub(crate) alpha: f32,
    pub(crate) out: Parts<'a, f32>,
    pub(crate) expanded: &'a mut [u8],
    pub(crate) sums: &'a mut [f32],
}

impl<M: Matrix> Kernel for GateUp<'_, M> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let rows = 2 * self.features.start..2 * self.features.end;
        let intermediate = self.weight.rows() / 2;
        let (expanded, sums) = (std::mem::take(&mut self.expanded), std::mem::take(&mut self.sums));
        for group in self.choices.chunks(M::TOKENS) {
            let inputs = (self.inputs, self.k);
            multiply_group(s, self.weight, rows.clone(), group, inputs, (&mut *sums, &mut *expanded));
            for (&choice, sums) in group.iter().zip(sums.chunks_exact(PANEL_ROWS)) {
                let start = choice as usize * intermediate;
                // SAFETY: no other task has these columns of this choice's row.
                let out = unsafe { self.out.get(start + self.features.start..start + self.features.end) };
                self.finish(s, &sums[..rows.len()], out);
            }
        }
    }
}

impl<M: Matrix> GateUp<'_, M> {
    /// Bias and SwiGLU.
    #[inline(always)]
    fn finish<S: Simd>(&self, s: S, sums: &[f32], out: &mut [f32]) {
        let (mut gates, mut ups) = ([0.0; PANEL_ROWS], [0.0; PANEL_ROWS]);
        let first = 2 * self.features.start;
        for (i, pair) in sums.as_chunks::<2>().0.iter().enumerate() {
            gates[i] = pair[0] + bf16_at(self.bias, first + 2 * i);
            ups[i] = pair[1] + bf16_at(self.bias, first + 2 * i + 1);
        }
        for (i, out) in out.chunks_mut(S::LANES).enumerate() {
            let at = i * S::LANES;
            let gate = s.min(s.splat(self.limit), s.load(&gates[at..]));
            let up = s.min(s.splat(self.limit), s.max(s.splat(-self.limit), s.load(&ups[at..])));
            let swish = s.mul(gate, math::sigmoid(s, s.mul(gate, s.splat(self.alpha))));
            s.store_partial(s.mul(swish, s.add(up, s.splat(1.0))), out);
        }
    }
}

/// `out[t][o] += Σ_e weights[t, e] · (W_e[o] · inputs[t, e] + b_e[o])` for the output features `features`.
///
/// | argument | type | shape |
/// |---|---|---|
/// | `weight` | MXFP4 of an expert | `[hidden, intermediate]` |
/// | `bias` | bf16 bytes of an expert | `[hidden]` |
/// | `inputs` | packed f32 blocks, or int8 blocks | `[rows·k, intermediate/32]` |
/// | `weights` | f32 | `[rows, k]` |
/// | `features` | | within `hidden`, at most 64, starting at a multiple of 16 |
/// | `products` | scratch | `[rows·k, 64]` |
/// | `expanded`, `sums` | scratch | see [`Panel`] |
/// | `out` | f32 | `[rows, hidden]` |
///
/// # Numerics
/// As [`GateUp`]; products are kept until all experts are done and then added in the order of `experts`, so that the
/// order does not depend on which experts other rows chose.
///
/// # Panics
/// If sizes do not belong together.
///
/// # Cost
/// As [`GateUp`].
///
/// # Source
/// `MLPBlock` of openai/gpt-oss `gpt_oss/torch/model.py`.
///
/// # Safety
/// Whoever makes it vouches that no other task writes columns `features` of `out`.
pub(crate) struct Down<'a, E: Experts> {
    pub(crate) weight: E,
    pub(crate) bias: &'a [u8],
    pub(crate) inputs: &'a [Activation<E>],
    pub(crate) routing: &'a Routing,
    pub(crate) weights: &'a [f32],
    pub(crate) k: usize,
    pub(crate) features: Range<usize>,
    pub(crate) products: &'a mut [f32],
    pub(crate) expanded: &'a mut [u8],
    pub(crate) sums: &'a mut [f32],
    pub(crate) out: Parts<'a, f32>,
}

impl<E: Experts> Kernel for Down<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (count, width) = (self.features.len(), self.weight.out_features());
        for i in 0..self.routing.num_active() {
            let (expert, choices) = self.routing.active(i);
            let matrix = self.weight.expert(expert);
            let bias = &self.bias[2 * expert * width..2 * (expert + 1) * width];
            for group in choices.chunks(E::Expert::TOKENS) {
                let scratch = (&mut *self.sums, &mut *self.expanded);
                multiply_group(s, matrix, self.features.clone(), group, (self.inputs, 1), scratch);
                for (&choice, sums) in group.iter().zip(self.sums.chunks_exact(PANEL_ROWS)) {
                    let products = &mut self.products[choice as usize * DOWN_ROWS..][..count];
                    for (o, (product, sum)) in products.iter_mut().zip(sums).enumerate() {
                        *product = sum + bf16_at(bias, self.features.start + o);
                    }
                }
            }
        }
        for (t, weights) in self.weights.chunks_exact(self.k).enumerate() {
            let start = t * width;
            // SAFETY: no other task has these columns.
            let out = unsafe { self.out.get(start + self.features.start..start + self.features.end) };
            for (e, &weight) in weights.iter().enumerate() {
                let products = &self.products[(t * self.k + e) * DOWN_ROWS..][..count];
                for (out, product) in out.iter_mut().zip(products) {
                    *out += weight * product;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routing_lists_every_choice_under_its_expert() {
        let mut routing = Routing::default();
        routing.reserve(8, 6);
        for chosen in [vec![3, 0, 3, 5, 0, 3], vec![2, 2], vec![]] {
            routing.sort(&chosen, 6);
            let mut seen = Vec::new();
            for i in 0..routing.num_active() {
                let (expert, choices) = routing.active(i);
                assert!(choices.is_sorted() && !choices.is_empty());
                assert!(choices.iter().all(|&choice| chosen[choice as usize] as usize == expert));
                seen.extend_from_slice(choices);
            }
            seen.sort_unstable();
            assert!(seen.into_iter().eq(0..chosen.len() as u32));
        }
    }
}
