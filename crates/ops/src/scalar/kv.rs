//! The reference device's KV store.

use std::ops::Range;

use sostenuto_formats::codes::{bf16_to_f32, f32_to_bf16};

use super::zeroed;
use crate::backend::DeviceError;
use crate::copy::KvCopy;
use crate::int8::{int8_scale, to_int8};
use crate::spec::{KV_BLOCK_SLOTS, KvDtype, KvLayerId, KvLayerSpec, KvSpec};
use crate::step::StepInputs;

/// Keys and values of every layer, `[slot, key or value, kv_head, head_dim]` each. In sliding layers the snapshots'
/// slots follow the rings'; position p lies in slot `p % snapshot_slots` of a snapshot.
#[derive(Debug)]
pub(super) struct KvStore {
    spec: KvSpec,
    layers: Vec<Elements>,
}

#[derive(Debug)]
enum Elements {
    F32(Vec<f32>),
    Bf16(Vec<u16>),
    /// Integers, and the scale of each head: `[slot, key or value, kv_head]`.
    Int8(Vec<i8>, Vec<f32>),
}

/// Which of the two things a slot holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part {
    Key,
    Value,
}

impl KvStore {
    pub(super) fn new(spec: KvSpec) -> Result<Self, DeviceError> {
        let mut layers = Vec::with_capacity(spec.layers.len());
        for &layer in &spec.layers {
            let snapshots = match layer {
                KvLayerSpec::Full => 0,
                KvLayerSpec::Sliding => spec.num_snapshots * spec.snapshot_slots(),
            };
            let heads = (spec.layer_slots(layer) + snapshots) * 2 * spec.num_kv_heads;
            let elements = heads * spec.head_dim;
            layers.push(match spec.dtype {
                KvDtype::F32 => Elements::F32(zeroed(elements, "KV store")?),
                KvDtype::Bf16 => Elements::Bf16(zeroed(elements, "KV store")?),
                KvDtype::Int8 => Elements::Int8(zeroed(elements, "KV store")?, zeroed(heads, "KV store")?),
            });
        }
        Ok(Self { spec, layers })
    }

    pub(super) fn spec(&self) -> &KvSpec {
        &self.spec
    }

    pub(super) fn kind(&self, layer: KvLayerId) -> KvLayerSpec {
        self.spec.layers[layer.0 as usize]
    }

    /// Slot of a position of a sequence of the step.
    pub(super) fn slot(
        &self,
        layer: KvLayerId,
        step: &StepInputs<'_>,
        sequence: usize,
        position: usize,
    ) -> usize {
        match self.spec.layers[layer.0 as usize] {
            KvLayerSpec::Full => {
                let block = step.block_table(sequence)[position / KV_BLOCK_SLOTS] as usize;
                block * KV_BLOCK_SLOTS + position % KV_BLOCK_SLOTS
            }
            KvLayerSpec::Sliding => self.ring_slot(step.rings[sequence], position),
        }
    }

    /// Runs a checked copy.
    pub(super) fn copy(&mut self, copy: KvCopy) {
        match copy {
            KvCopy::Block { from, to } => {
                for i in 0..KV_BLOCK_SLOTS {
                    let slot = |block: u32| block as usize * KV_BLOCK_SLOTS + i;
                    self.copy_slot(KvLayerSpec::Full, slot(from), slot(to));
                }
            }
            KvCopy::SaveWindow { ring, position, snapshot } => {
                for p in self.window_before(position) {
                    let (from, to) = (self.ring_slot(ring, p), self.snapshot_slot(snapshot, p));
                    self.copy_slot(KvLayerSpec::Sliding, from, to);
                }
            }
            KvCopy::RestoreWindow { snapshot, position, ring } => {
                for p in self.window_before(position) {
                    let (from, to) = (self.snapshot_slot(snapshot, p), self.ring_slot(ring, p));
                    self.copy_slot(KvLayerSpec::Sliding, from, to);
                }
            }
        }
    }

    /// The positions that a row at `position` sees before itself.
    fn window_before(&self, position: u32) -> Range<usize> {
        let position = position as usize;
        position.saturating_sub(self.spec.snapshot_slots())..position
    }

    fn ring_slot(&self, ring: u32, position: usize) -> usize {
        ring as usize * self.spec.ring_slots + position % self.spec.ring_slots
    }

    fn snapshot_slot(&self, snapshot: u32, position: usize) -> usize {
        let slots = self.spec.snapshot_slots();
        self.spec.layer_slots(KvLayerSpec::Sliding) + snapshot as usize * slots + position % slots
    }

    /// Copies a slot in every layer of a kind.
    fn copy_slot(&mut self, kind: KvLayerSpec, from: usize, to: usize) {
        let (heads, dim) = (2 * self.spec.num_kv_heads, self.spec.head_dim);
        let (from, to) = (from * heads, to * heads);
        let elements = from * dim..(from + heads) * dim;
        for (layer, _) in self.layers.iter_mut().zip(&self.spec.layers).filter(|(_, layer)| **layer == kind) {
            match layer {
                Elements::F32(values) => values.copy_within(elements.clone(), to * dim),
                Elements::Bf16(values) => values.copy_within(elements.clone(), to * dim),
                Elements::Int8(values, scales) => {
                    values.copy_within(elements.clone(), to * dim);
                    scales.copy_within(from..from + heads, to);
                }
            }
        }
    }

    /// Writes a head of a slot.
    pub(super) fn set(&mut self, layer: KvLayerId, slot: usize, part: Part, head: usize, values: &[f32]) {
        let (head, dim) = (self.head(slot, part, head), self.spec.head_dim);
        let range = head * dim..(head + 1) * dim;
        match &mut self.layers[layer.0 as usize] {
            Elements::F32(elements) => elements[range].copy_from_slice(values),
            Elements::Bf16(elements) => {
                elements[range].iter_mut().zip(values).for_each(|(e, &value)| *e = f32_to_bf16(value));
            }
            Elements::Int8(elements, scales) => {
                let scale = int8_scale(values);
                elements[range].iter_mut().zip(values).for_each(|(e, &value)| *e = to_int8(value, scale));
                scales[head] = scale;
            }
        }
    }

    pub(super) fn get(&self, layer: KvLayerId, slot: usize, part: Part, head: usize, index: usize) -> f64 {
        let head = self.head(slot, part, head);
        let at = head * self.spec.head_dim + index;
        match &self.layers[layer.0 as usize] {
            Elements::F32(elements) => f64::from(elements[at]),
            Elements::Bf16(elements) => f64::from(bf16_to_f32(elements[at])),
            Elements::Int8(elements, scales) => f64::from(elements[at]) * f64::from(scales[head]),
        }
    }

    /// Index of a head of a slot.
    fn head(&self, slot: usize, part: Part, head: usize) -> usize {
        let heads = self.spec.num_kv_heads;
        let part = match part {
            Part::Key => 0,
            Part::Value => heads,
        };
        slot * 2 * heads + part + head
    }
}
