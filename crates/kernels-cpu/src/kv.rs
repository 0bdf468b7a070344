//! The KV store, laid out for the attention kernel.
//!
//! Slots come in groups of 16. In a group, the keys of a head lie `[head_dim, 16 slots]`, so that one vector holds
//! the same element of neighbouring positions, and the values `[16 slots, row]`, where a row is `head_dim` rounded up
//! to 16. A block of a full layer is a group; a ring is rounded up to whole groups, so that position p lies in
//! slot p % 16 of its group in either kind of layer.

use sostenuto_formats::codes::f32_to_bf16;
use sostenuto_ops::{DeviceError, KV_BLOCK_SLOTS, KvDtype, KvLayerId, KvLayerSpec, KvSpec, StepInputs};

use crate::memory::{Memory, Number};
use crate::simd::Simd;

/// Slots of a group.
pub(crate) const GROUP: usize = KV_BLOCK_SLOTS;

/// How a KV element is kept.
pub(crate) trait Element: Number {
    fn from_f32(value: f32) -> Self;

    /// The first lanes of `values`.
    fn load<S: Simd>(s: S, values: &[Self]) -> S::F32;
}

impl Element for f32 {
    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        value
    }

    #[inline(always)]
    fn load<S: Simd>(s: S, values: &[Self]) -> S::F32 {
        s.load(values)
    }
}

/// A bf16, by its bits.
impl Element for u16 {
    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        f32_to_bf16(value)
    }

    #[inline(always)]
    fn load<S: Simd>(s: S, values: &[Self]) -> S::F32 {
        s.load_bf16(values)
    }
}

/// Keys and values of one layer.
pub(crate) enum Elements {
    F32 { keys: Memory<f32>, values: Memory<f32> },
    Bf16 { keys: Memory<u16>, values: Memory<u16> },
}

/// Sizes within a layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Geometry {
    pub(crate) kv_heads: usize,
    pub(crate) dim: usize,
    /// Elements of a value row: `dim` rounded up to 16.
    pub(crate) value_row: usize,
    /// Groups of a ring.
    ring_groups: usize,
}

/// Keys and values of every layer.
pub(crate) struct KvStore {
    pub(crate) geometry: Geometry,
    kinds: Vec<KvLayerSpec>,
    layers: Vec<Elements>,
}

/// Where a sequence's groups lie in a layer.
#[derive(Clone, Copy)]
pub(crate) enum Groups<'a> {
    /// Full: by block table.
    Table(&'a [u32]),
    /// Sliding: consecutive groups from `first`, used in turn.
    Ring { first: usize, groups: usize },
}

impl KvStore {
    /// # Errors
    /// [`DeviceError::OutOfMemory`].
    pub(crate) fn new(spec: &KvSpec) -> Result<Self, DeviceError> {
        let geometry = Geometry::new(spec);
        let mut layers = Vec::with_capacity(spec.layers.len());
        for kind in &spec.layers {
            let groups = match kind {
                KvLayerSpec::Full => spec.num_blocks,
                KvLayerSpec::Sliding => spec.num_rings * geometry.ring_groups,
            };
            let keys = groups * geometry.kv_heads * geometry.key_elements();
            let values = groups * geometry.kv_heads * geometry.value_elements();
            layers.push(match spec.dtype {
                KvDtype::F32 => Elements::F32 {
                    keys: Memory::zeroed(keys, "keys")?,
                    values: Memory::zeroed(values, "values")?,
                },
                KvDtype::Bf16 => Elements::Bf16 {
                    keys: Memory::zeroed(keys, "keys")?,
                    values: Memory::zeroed(values, "values")?,
                },
            });
        }
        Ok(Self { geometry, kinds: spec.layers.clone(), layers })
    }

    /// Size in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let layer = |layer: &Elements| match layer {
            Elements::F32 { keys, values } => keys.bytes() + values.bytes(),
            Elements::Bf16 { keys, values } => keys.bytes() + values.bytes(),
        };
        self.layers.iter().map(layer).sum()
    }

    pub(crate) fn layer(&self, layer: KvLayerId) -> &Elements {
        &self.layers[layer.0 as usize]
    }

    pub(crate) fn layer_mut(&mut self, layer: KvLayerId) -> &mut Elements {
        &mut self.layers[layer.0 as usize]
    }

    /// Where the groups of a sequence of the step lie.
    pub(crate) fn groups<'a>(&self, layer: KvLayerId, step: &StepInputs<'a>, sequence: usize) -> Groups<'a> {
        let groups = self.geometry.ring_groups;
        match self.kinds[layer.0 as usize] {
            KvLayerSpec::Full => Groups::Table(step.block_table(sequence)),
            KvLayerSpec::Sliding => Groups::Ring { first: step.rings[sequence] as usize * groups, groups },
        }
    }
}

impl Geometry {
    pub(crate) fn new(spec: &KvSpec) -> Self {
        Self {
            kv_heads: spec.num_kv_heads,
            dim: spec.head_dim,
            value_row: spec.head_dim.next_multiple_of(GROUP),
            ring_groups: spec.ring_slots.div_ceil(GROUP),
        }
    }

    /// Key elements of a head in a group.
    pub(crate) fn key_elements(&self) -> usize {
        self.dim * GROUP
    }

    /// Value elements of a head in a group.
    pub(crate) fn value_elements(&self) -> usize {
        GROUP * self.value_row
    }
}

impl Groups<'_> {
    /// The layer's group that holds positions `16·index..16·index + 16`.
    #[inline]
    pub(crate) fn at(&self, index: usize) -> usize {
        match *self {
            Self::Table(table) => table[index] as usize,
            Self::Ring { first, groups } => first + index % groups,
        }
    }
}
