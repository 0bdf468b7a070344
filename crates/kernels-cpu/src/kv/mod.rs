//! The KV store, laid out for the attention kernel.
//!
//! Slots come in groups of 16. In a group, the keys of a head lie `[head_dim, 16 slots]`, so that one vector holds
//! the same element of neighbouring positions, and the values `[16 slots, row]`, where a row is `head_dim` rounded up
//! to 16. The groups of a head lie side by side, one head's after another's: neighbouring blocks are mostly of one sequence,
//! and a task reads one head. A block of a full layer is a group; a ring is rounded up to whole groups, so that position p lies in
//! slot p % 16 of its group in either kind of layer. A sliding layer's window snapshots follow its rings, each like
//! a ring of its own.

mod element;
mod layer;

use std::ops::Range;

use sostenuto_ops::{
    DeviceError, KV_BLOCK_SLOTS, KvCopy, KvLayerId, KvLayerSpec, KvMemory, KvSpec, StepInputs,
};

use crate::pool::Pool;

pub(crate) use element::Element;
pub(crate) use layer::{Layer, Parts, Planes};

/// Slots of a group.
pub(crate) const GROUP: usize = KV_BLOCK_SLOTS;

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
    layers: Vec<Layer>,
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
    pub(crate) fn new(spec: &KvSpec, pool: &mut Pool) -> Result<Self, DeviceError> {
        let geometry = Geometry::new(spec);
        let mut layers = Vec::with_capacity(spec.layers.len());
        for kind in &spec.layers {
            let groups = geometry.layer_groups(spec, *kind);
            layers.push(Layer::new(spec.dtype, &geometry, groups, pool)?);
        }
        Ok(Self { geometry, kinds: spec.layers.clone(), layers })
    }

    /// Size in bytes, by use.
    pub(crate) fn memory(&self) -> KvMemory {
        let bytes = |wanted| -> usize {
            let layers = self.layers.iter().zip(&self.kinds).filter(|(_, kind)| **kind == wanted);
            layers.map(|(layer, _)| layer.bytes()).sum()
        };
        self.geometry.by_use(bytes(KvLayerSpec::Full), bytes(KvLayerSpec::Sliding))
    }

    /// What [`KvStore::memory`] is of a store made from `spec`.
    pub(crate) fn planned_memory(spec: &KvSpec) -> KvMemory {
        let geometry = Geometry::new(spec);
        let bytes = |kind| {
            let groups = geometry.layer_groups(spec, kind);
            spec.count(kind) * Layer::planned_bytes(spec.dtype, &geometry, groups)
        };
        geometry.by_use(bytes(KvLayerSpec::Full), bytes(KvLayerSpec::Sliding))
    }

    pub(crate) fn layer(&self, layer: KvLayerId) -> &Layer {
        &self.layers[layer.0 as usize]
    }

    pub(crate) fn layer_mut(&mut self, layer: KvLayerId) -> &mut Layer {
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
            layer.copy_slots(&geometry, from, to, &slots);
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

    /// Splits the bytes of sliding layers between rings and snapshots.
    fn by_use(&self, full: usize, sliding: usize) -> KvMemory {
        let (rings, snapshots) = (self.all_ring_groups, self.all_snapshot_groups);
        let snapshots = sliding / (rings + snapshots).max(1) * snapshots;
        KvMemory { full, sliding: sliding - snapshots, snapshots }
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
