//! Expert products.

// Tasks write disjoint columns of the output.
#![allow(unsafe_code)]

use std::ops::Range;

use sostenuto_formats::codes::bf16_to_f32;

use crate::kernel::matrix::Matrix;
use crate::kernel::panel::{PANEL_ROWS, PanelScratch, multiply, panels};
use crate::memory::Parts;
use crate::simd::{Kernel, Simd, math};

/// Which rows chose which experts. A choice is `row · k` plus which of the row's it is.
#[derive(Debug, Default)]
pub(crate) struct Routing {
    /// Choices, those of expert 0 first; ascending within an expert.
    choices: Vec<u32>,
    /// Where each choice stands among them.
    places: Vec<u32>,
    /// For each expert that was chosen: the expert and where its choices start and end.
    active: Vec<(u32, u32, u32)>,
    /// Choices per expert.
    counts: Vec<u32>,
}

impl Routing {
    /// Room for `choices` choices among `experts` experts.
    pub(crate) fn reserve(&mut self, choices: usize, experts: usize) {
        self.choices.resize(self.choices.len().max(choices), 0);
        self.places.resize(self.places.len().max(choices), 0);
        self.counts.resize(self.counts.len().max(experts), 0);
        self.active.clear();
        self.active.reserve_exact(experts);
    }

    /// Size in bytes of room for `choices` choices among `experts` experts.
    pub(crate) fn planned_bytes(choices: usize, experts: usize) -> usize {
        4 * (2 * choices + experts) + size_of::<(u32, u32, u32)>() * experts
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
            self.places[choice] = *place;
            *place += 1;
        }
    }

    /// Choices of an expert that was chosen, on average and rounded down.
    pub(crate) fn mean(&self) -> usize {
        let choices = self.active.last().map_or(0, |&(_, _, end)| end as usize);
        choices / self.active.len().max(1)
    }

    /// Number of experts that were chosen.
    pub(crate) fn num_active(&self) -> usize {
        self.active.len()
    }

    /// The i-th chosen expert and the places of its choices.
    pub(crate) fn active(&self, i: usize) -> (usize, Range<usize>) {
        let (expert, start, end) = self.active[i];
        (expert as usize, start as usize..end as usize)
    }

    /// The choices at some places.
    pub(crate) fn choices(&self, places: Range<usize>) -> &[u32] {
        &self.choices[places]
    }

    /// The places of some choices.
    pub(crate) fn places(&self, choices: Range<usize>) -> &[u32] {
        &self.places[choices]
    }

    /// Size in bytes.
    pub(crate) fn bytes(&self) -> usize {
        4 * (self.choices.len() + self.places.len() + self.counts.len())
            + size_of::<(u32, u32, u32)>() * self.active.capacity()
    }
}

/// Gate and up of one expert with SwiGLU, for the intermediate features `features`:
/// `g = W[2i]·x + b[2i]`, `u = W[2i+1]·x + b[2i+1]`, `out = g'·σ(alpha·g')·(u' + 1)` with
/// `g' = min(g, limit)`, `u' = clamp(u, −limit, limit)`.
///
/// | argument | type | shape |
/// |---|---|---|
/// | `weight` | MXFP4 | `[2·intermediate, hidden]`, gate and up interleaved |
/// | `bias` | bf16 bytes | `[2·intermediate]` |
/// | `inputs` | blocks as the matrix takes them | `[choices, hidden/32]` |
/// | `choices` | rows of `out` | those of this expert |
/// | `features` | | within `intermediate`, starting at a multiple of 8 |
/// | `out` | f32 | `[rows·k, intermediate]` |
/// | `scratch` | | see [`PanelScratch`] |
///
/// # Numerics
/// Sums as in the crate's documentation. SwiGLU in f32 with [`math::sigmoid`].
///
/// # Panics
/// If sizes do not belong together.
///
/// # Cost
/// 17 bytes per 32 weights, once and then from the caches, once per [`Matrix::TOKENS`] choices.
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
    pub(crate) features: Range<usize>,
    pub(crate) limit: f32,
    pub(crate) alpha: f32,
    pub(crate) out: Parts<'a, f32>,
    pub(crate) scratch: PanelScratch<'a>,
}

impl<M: Matrix> Kernel for GateUp<'_, M> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let rows = 2 * self.features.start..2 * self.features.end;
        let (intermediate, blocks) = (self.weight.rows() / 2, self.weight.blocks());
        for (rows, places) in panels::<M>(rows, self.choices.len()) {
            let inputs = &self.inputs[places.start * blocks..places.end * blocks];
            multiply(s, self.weight, rows.clone(), &mut self.scratch.panel(inputs, blocks));
            let mut bias = [0.0; PANEL_ROWS];
            for (value, &bytes) in bias.iter_mut().zip(&self.bias.as_chunks::<2>().0[rows.clone()]) {
                *value = bf16_to_f32(u16::from_le_bytes(bytes));
            }
            for (&choice, sums) in
                self.choices[places].iter().zip(self.scratch.sums.as_chunks::<PANEL_ROWS>().0)
            {
                let start = choice as usize * intermediate;
                // SAFETY: no other task has these columns of this choice's row.
                let out = unsafe { self.out.get(start + rows.start / 2..start + rows.end / 2) };
                swiglu(s, (sums, &bias), self.limit, self.alpha, out);
            }
        }
    }
}

/// SwiGLU of interleaved sums, after the bias.
#[inline(always)]
fn swiglu<S: Simd>(
    s: S,
    (sums, bias): (&[f32; PANEL_ROWS], &[f32; PANEL_ROWS]),
    limit: f32,
    alpha: f32,
    out: &mut [f32],
) {
    let (mut gates, mut ups) = ([0.0; PANEL_ROWS / 2], [0.0; PANEL_ROWS / 2]);
    for i in 0..PANEL_ROWS / 2 {
        gates[i] = sums[2 * i] + bias[2 * i];
        ups[i] = sums[2 * i + 1] + bias[2 * i + 1];
    }
    for (i, out) in out.chunks_mut(S::LANES).enumerate() {
        let at = i * S::LANES;
        let gate = s.min(s.splat(limit), s.load(&gates[at..]));
        let up = s.min(s.splat(limit), s.max(s.splat(-limit), s.load(&ups[at..])));
        let swish = s.mul(gate, math::sigmoid(s, s.mul(gate, s.splat(alpha))));
        s.store_partial(s.mul(swish, s.add(up, s.splat(1.0))), out);
    }
}

/// `out[t] += Σ_e weights[t, e] · products[t, e]` for a row t.
///
/// | argument | type | shape |
/// |---|---|---|
/// | `products` | f32 | `[choices, hidden]`, in the order of the routing |
/// | `places` | | of the row's choices |
/// | `weights` | f32 | `[k]`, of the row's choices |
/// | `out` | f32 | `[hidden]` |
///
/// # Numerics
/// By ascending choice: the order does not depend on which experts other rows chose.
///
/// # Panics
/// If sizes do not belong together.
///
/// # Cost
/// Reads k rows.
///
/// # Source
/// `MLPBlock` of openai/gpt-oss `gpt_oss/torch/model.py`.
pub(crate) struct Combine<'a> {
    pub(crate) products: &'a [f32],
    pub(crate) places: &'a [u32],
    pub(crate) weights: &'a [f32],
    pub(crate) out: &'a mut [f32],
}

impl Kernel for Combine<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let width = self.out.len();
        for (&place, &weight) in self.places.iter().zip(self.weights) {
            let products = &self.products[place as usize * width..(place as usize + 1) * width];
            for (out, product) in self.out.iter_mut().zip(products) {
                *out += weight * product;
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
                let (expert, places) = routing.active(i);
                let choices = routing.choices(places.clone());
                for (place, &choice) in places.zip(choices) {
                    assert_eq!(routing.places(choice as usize..choice as usize + 1), [place as u32]);
                }
                assert!(choices.is_sorted() && !choices.is_empty());
                assert!(choices.iter().all(|&choice| chosen[choice as usize] as usize == expert));
                seen.extend_from_slice(choices);
            }
            seen.sort_unstable();
            assert!(seen.into_iter().eq(0..chosen.len() as u32));
        }
    }
}
