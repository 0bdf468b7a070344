//! The KV store, laid out for the attention kernel.
//!
//! Slots come in groups of 16. In a group, the keys of a head lie `[head_dim, 16 slots]`, so that one vector holds
//! the same element of neighbouring positions, and the values `[16 slots, row]`, where a row is `head_dim` rounded up
//! to 16. A block of a full layer is a group; a ring is rounded up to whole groups, so that position p lies in
//! slot p % 16 of its group in either kind of layer. A sliding layer's window snapshots follow its rings, each like
//! a ring of its own.

use std::ops::Range;

use sostenuto_formats::codes::f32_to_bf16;
use sostenuto_ops::{
    DeviceError, KV_BLOCK_SLOTS, KvCopy, KvDtype, KvLayerId, KvLayerSpec, KvMemory, KvSpec, StepInputs,
};

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
    /// Groups of all rings of a layer.
    all_ring_groups: usize,
    /// Groups of a snapshot.
    snapshot_groups: usize,
    /// Groups of all snapshots of a layer.
    all_snapshot_groups: usize,
    /// Positions that a row of a sliding layer sees before itself.
    window_before: usize,
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
            let heads = geometry.layer_groups(spec, *kind) * geometry.kv_heads;
            let (keys, values) = (heads * geometry.key_elements(), heads * geometry.value_elements());
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

    /// Size in bytes, by use.
    pub(crate) fn memory(&self) -> KvMemory {
        let bytes = |wanted| -> usize {
            let layers = self.layers.iter().zip(&self.kinds).filter(|(_, kind)| **kind == wanted);
            layers.map(|(layer, _)| layer.bytes()).sum()
        };
        let (rings, snapshots) = (self.geometry.all_ring_groups, self.geometry.all_snapshot_groups);
        let both = bytes(KvLayerSpec::Sliding);
        let snapshots = both / (rings + snapshots).max(1) * snapshots;
        KvMemory { full: bytes(KvLayerSpec::Full), sliding: both - snapshots, snapshots }
    }

    /// What [`KvStore::memory`] is of a store made from `spec`. A head's elements in a group are whole cache lines.
    pub(crate) fn planned_memory(spec: &KvSpec) -> KvMemory {
        let geometry = Geometry::new(spec);
        let head_elements = geometry.key_elements() + geometry.value_elements();
        let group_bytes = geometry.kv_heads * head_elements * spec.dtype.bytes();
        let bytes = |kind, groups| spec.count(kind) * groups * group_bytes;
        KvMemory {
            full: bytes(KvLayerSpec::Full, spec.num_blocks),
            sliding: bytes(KvLayerSpec::Sliding, geometry.all_ring_groups),
            snapshots: bytes(KvLayerSpec::Sliding, geometry.all_snapshot_groups),
        }
    }

    pub(crate) fn layer(&self, layer: KvLayerId) -> &Elements {
        &self.layers[layer.0 as usize]
    }

    pub(crate) fn layer_mut(&mut self, layer: KvLayerId) -> &mut Elements {
        &mut self.layers[layer.0 as usize]
    }

    /// Where the groups of a sequence of the step lie.
    pub(crate) fn groups<'a>(&self, layer: KvLayerId, step: &StepInputs<'a>, sequence: usize) -> Groups<'a> {
        match self.kind(layer) {
            KvLayerSpec::Full => Groups::Table(step.block_table(sequence)),
            KvLayerSpec::Sliding => self.geometry.ring(step.rings[sequence]),
        }
    }

    pub(crate) fn kind(&self, layer: KvLayerId) -> KvLayerSpec {
        self.kinds[layer.0 as usize]
    }

    /// Runs a checked copy.
    pub(crate) fn copy(&mut self, copy: KvCopy) {
        let geometry = self.geometry;
        match copy {
            KvCopy::Block { from, to } => {
                self.copy_slots(KvLayerSpec::Full, from as usize, to as usize, 0..GROUP);
            }
            KvCopy::SaveWindow { ring, position, snapshot } => {
                self.copy_window(geometry.ring(ring), geometry.snapshot(snapshot), position);
            }
            KvCopy::RestoreWindow { snapshot, position, ring } => {
                self.copy_window(geometry.snapshot(snapshot), geometry.ring(ring), position);
            }
        }
    }

    /// Copies the positions that a row at `position` sees before itself, in every sliding layer.
    fn copy_window(&mut self, from: Groups<'_>, to: Groups<'_>, position: u32) {
        let end = position as usize;
        let mut start = end.saturating_sub(self.geometry.window_before);
        while start < end {
            let (index, slot) = (start / GROUP, start % GROUP);
            let slots = slot..GROUP.min(slot + end - start);
            start += slots.len();
            self.copy_slots(KvLayerSpec::Sliding, from.at(index), to.at(index), slots);
        }
    }

    /// Copies slots of a group to the same slots of another, in every layer of a kind.
    fn copy_slots(&mut self, kind: KvLayerSpec, from: usize, to: usize, slots: Range<usize>) {
        let geometry = self.geometry;
        for (layer, _) in self.layers.iter_mut().zip(&self.kinds).filter(|(_, layer)| **layer == kind) {
            match layer {
                Elements::F32 { keys, values } => geometry.copy_slots((keys, values), from, to, &slots),
                Elements::Bf16 { keys, values } => geometry.copy_slots((keys, values), from, to, &slots),
            }
        }
    }
}

impl Elements {
    fn bytes(&self) -> usize {
        match self {
            Self::F32 { keys, values } => keys.bytes() + values.bytes(),
            Self::Bf16 { keys, values } => keys.bytes() + values.bytes(),
        }
    }
}

impl Geometry {
    pub(crate) fn new(spec: &KvSpec) -> Self {
        let ring_groups = spec.ring_slots.div_ceil(GROUP);
        let snapshot_groups = spec.snapshot_slots().div_ceil(GROUP);
        Self {
            kv_heads: spec.num_kv_heads,
            dim: spec.head_dim,
            value_row: spec.head_dim.next_multiple_of(GROUP),
            ring_groups,
            all_ring_groups: spec.num_rings * ring_groups,
            snapshot_groups,
            all_snapshot_groups: spec.num_snapshots * snapshot_groups,
            window_before: spec.snapshot_slots(),
        }
    }

    fn ring(&self, ring: u32) -> Groups<'static> {
        Groups::Ring { first: ring as usize * self.ring_groups, groups: self.ring_groups }
    }

    fn snapshot(&self, snapshot: u32) -> Groups<'static> {
        let first = self.all_ring_groups + snapshot as usize * self.snapshot_groups;
        Groups::Ring { first, groups: self.snapshot_groups }
    }

    /// Copies slots of all heads of a group of a layer to another.
    fn copy_slots<E: Element>(
        &self,
        (keys, values): (&mut [E], &mut [E]),
        from: usize,
        to: usize,
        slots: &Range<usize>,
    ) {
        let key_rows = self.kv_heads * self.dim;
        for row in 0..key_rows {
            let at = |group: usize| (group * key_rows + row) * GROUP;
            keys.copy_within(at(from) + slots.start..at(from) + slots.end, at(to) + slots.start);
        }
        for head in 0..self.kv_heads {
            let at =
                |group: usize, slot: usize| ((group * self.kv_heads + head) * GROUP + slot) * self.value_row;
            values.copy_within(at(from, slots.start)..at(from, slots.end), at(to, slots.start));
        }
    }

    /// Groups of a layer.
    fn layer_groups(&self, spec: &KvSpec, kind: KvLayerSpec) -> usize {
        match kind {
            KvLayerSpec::Full => spec.num_blocks,
            KvLayerSpec::Sliding => self.all_ring_groups + self.all_snapshot_groups,
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
