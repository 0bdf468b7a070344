//! The reference device's KV store.

use sostenuto_formats::codes::{bf16_to_f32, f32_to_bf16};

use super::zeroed;
use crate::backend::DeviceError;
use crate::spec::{KV_BLOCK_SLOTS, KvDtype, KvLayerId, KvLayerSpec, KvSpec};
use crate::step::StepInputs;

/// Keys and values of every layer, `[slot, key or value, kv_head, head_dim]` each.
#[derive(Debug)]
pub(super) struct KvStore {
    spec: KvSpec,
    layers: Vec<Elements>,
}

#[derive(Debug)]
enum Elements {
    F32(Vec<f32>),
    Bf16(Vec<u16>),
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
            let elements = spec.layer_slots(layer) * 2 * spec.num_kv_heads * spec.head_dim;
            layers.push(match spec.dtype {
                KvDtype::F32 => Elements::F32(zeroed(elements, "KV store")?),
                KvDtype::Bf16 => Elements::Bf16(zeroed(elements, "KV store")?),
            });
        }
        Ok(Self { spec, layers })
    }

    pub(super) fn spec(&self) -> &KvSpec {
        &self.spec
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
            KvLayerSpec::Sliding => {
                let ring = step.rings[sequence] as usize;
                ring * self.spec.ring_slots + position % self.spec.ring_slots
            }
        }
    }

    pub(super) fn set(
        &mut self,
        layer: KvLayerId,
        slot: usize,
        part: Part,
        head: usize,
        index: usize,
        value: f32,
    ) {
        let at = self.at(slot, part, head) + index;
        match &mut self.layers[layer.0 as usize] {
            Elements::F32(elements) => elements[at] = value,
            Elements::Bf16(elements) => elements[at] = f32_to_bf16(value),
        }
    }

    pub(super) fn get(&self, layer: KvLayerId, slot: usize, part: Part, head: usize, index: usize) -> f64 {
        let at = self.at(slot, part, head) + index;
        f64::from(match &self.layers[layer.0 as usize] {
            Elements::F32(elements) => elements[at],
            Elements::Bf16(elements) => bf16_to_f32(elements[at]),
        })
    }

    /// Index of the first element of a head in a slot.
    fn at(&self, slot: usize, part: Part, head: usize) -> usize {
        let heads = self.spec.num_kv_heads;
        let part = match part {
            Part::Key => 0,
            Part::Value => heads,
        };
        (slot * 2 * heads + part + head) * self.spec.head_dim
    }
}
