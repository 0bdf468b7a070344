//! What a device holds, and the checks every device makes before it trusts a program or a step.

mod copies;
mod error;
mod program;
mod step;

use std::ops::Range;

pub use error::ContractError;
pub use step::{SlidingLimits, StepLimits};

use crate::backend::DeviceMemory;
use crate::copy::KvCopy;
use crate::op::Program;
use crate::spec::{
    BufferId, BufferKind, BufferSpec, KvLayerId, KvLayerSpec, KvSpec, WeightData, WeightFormat, WeightId,
    WeightSpec,
};

/// The specs of everything a device holds, in the order of their ids.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    buffers: Vec<BufferSpec>,
    weights: Vec<WeightSpec>,
    kv: Option<KvSpec>,
}

impl Registry {
    /// A registry of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes a buffer and gives it the next id.
    ///
    /// # Errors
    /// [`ContractError::Rule`] where it has no rows or no width.
    pub fn add_buffer(&mut self, spec: BufferSpec) -> Result<BufferId, ContractError> {
        require("create_buffer", "rows", spec.rows, spec.rows > 0, "at least 1")?;
        require("create_buffer", "width", spec.width, spec.width > 0, "at least 1")?;
        self.buffers.push(spec);
        Ok(BufferId(self.buffers.len() as u32 - 1))
    }

    /// Notes a weight and gives it the next id, after checking that `data` has the bytes the spec speaks of.
    ///
    /// # Errors
    /// As for [`Registry::declare_weight`]; [`ContractError::Size`] for data of another length.
    pub fn add_weight(&mut self, spec: WeightSpec, data: &WeightData) -> Result<WeightId, ContractError> {
        check_weight(&spec)?;
        let values = data.values.iter().map(|piece| piece.len()).sum();
        same("load_weight", "value bytes", &spec.name, spec.value_bytes(), values)?;
        let scales = data.scales.iter().map(|piece| piece.len()).sum();
        same("load_weight", "scale bytes", &spec.name, spec.scale_bytes(), scales)?;
        self.declare_weight(spec)
    }

    /// Notes a weight by its spec alone and gives it the next id.
    ///
    /// # Errors
    /// [`ContractError::Rule`] for an empty dimension or MXFP4 rows that are not whole MX blocks.
    pub fn declare_weight(&mut self, spec: WeightSpec) -> Result<WeightId, ContractError> {
        check_weight(&spec)?;
        self.weights.push(spec);
        Ok(WeightId(self.weights.len() as u32 - 1))
    }

    /// Notes the KV store.
    ///
    /// # Errors
    /// [`ContractError::KvExists`] the second time; [`ContractError::Rule`] for an empty dimension, an odd
    /// `head_dim` or a window that no ring holds.
    pub fn set_kv(&mut self, spec: KvSpec) -> Result<(), ContractError> {
        if self.kv.is_some() {
            return Err(ContractError::KvExists);
        }
        let op = "create_kv";
        require(op, "layers", spec.layers.len(), !spec.layers.is_empty(), "at least 1")?;
        require(op, "num_kv_heads", spec.num_kv_heads, spec.num_kv_heads > 0, "at least 1")?;
        let even = spec.head_dim > 0 && spec.head_dim.is_multiple_of(2);
        require(op, "head_dim", spec.head_dim, even, "even, at least 2")?;
        if spec.layers.contains(&KvLayerSpec::Full) {
            require(op, "num_blocks", spec.num_blocks, spec.num_blocks > 0, "at least 1")?;
        }
        if spec.layers.contains(&KvLayerSpec::Sliding) {
            require(op, "num_rings", spec.num_rings, spec.num_rings > 0, "at least 1")?;
            let window = spec.window > 0 && spec.window <= spec.ring_slots;
            require(op, "window", spec.window, window, "at least 1, at most ring_slots")?;
        }
        self.kv = Some(spec);
        Ok(())
    }

    /// Spec of a buffer. `op` is for the message.
    ///
    /// # Errors
    /// [`ContractError::UnknownBuffer`].
    pub fn buffer(&self, op: &'static str, id: BufferId) -> Result<&BufferSpec, ContractError> {
        let count = self.buffers.len();
        self.buffers.get(id.0 as usize).ok_or(ContractError::UnknownBuffer { op, id, count })
    }

    /// Spec of a weight. `op` is for the message.
    ///
    /// # Errors
    /// [`ContractError::UnknownWeight`].
    pub fn weight(&self, op: &'static str, id: WeightId) -> Result<&WeightSpec, ContractError> {
        let count = self.weights.len();
        self.weights.get(id.0 as usize).ok_or(ContractError::UnknownWeight { op, id, count })
    }

    /// Specs of all weights, in the order of their ids.
    pub fn weights(&self) -> &[WeightSpec] {
        &self.weights
    }

    /// Specs of all buffers, in the order of their ids.
    pub fn buffers(&self) -> &[BufferSpec] {
        &self.buffers
    }

    /// Bytes of everything noted, as the specs have them; no scratch.
    pub fn memory(&self) -> DeviceMemory {
        DeviceMemory {
            weights: self.weights.iter().map(WeightSpec::bytes).sum(),
            buffers: self.buffers.iter().map(BufferSpec::bytes).sum(),
            kv: self.kv.as_ref().map(KvSpec::memory).unwrap_or_default(),
            scratch: 0,
        }
    }

    /// The KV store's spec, where there is one.
    pub fn kv(&self) -> Option<&KvSpec> {
        self.kv.as_ref()
    }

    /// Kind of a layer of the KV store. `op` is for the message.
    ///
    /// # Errors
    /// [`ContractError::UnknownKvLayer`].
    pub fn kv_layer(&self, op: &'static str, id: KvLayerId) -> Result<(&KvSpec, KvLayerSpec), ContractError> {
        let unknown = |count| ContractError::UnknownKvLayer { op, id, count };
        let kv = self.kv.as_ref().ok_or_else(|| unknown(0))?;
        let layer = kv.layers.get(id.0 as usize).ok_or_else(|| unknown(kv.layers.len()))?;
        Ok((kv, *layer))
    }

    /// Checks a program: every id exists, kinds, formats and widths agree, nothing is read and written at once
    /// that may not be. The limits it returns are what [`StepLimits::check`] checks each step against.
    ///
    /// # Errors
    /// What is wrong with the first op that is.
    pub fn check_program(&self, program: &Program) -> Result<StepLimits, ContractError> {
        program::check(self, program)
    }

    /// Checks copies within the KV store: every number lies within its range, and no block is copied to itself.
    ///
    /// # Errors
    /// [`ContractError::CopyRange`], [`ContractError::CopyToItself`]: the first breach found.
    pub fn check_copies(&self, copies: &[KvCopy]) -> Result<(), ContractError> {
        copies::check(self.kv.as_ref(), copies)
    }

    /// Checks a transfer of `len` elements from or to whole rows, and gives the range of elements.
    ///
    /// # Errors
    /// [`ContractError::UnknownBuffer`], [`ContractError::BufferKind`], [`ContractError::Transfer`].
    pub fn check_transfer(
        &self,
        id: BufferId,
        kind: BufferKind,
        first_row: usize,
        len: usize,
    ) -> Result<Range<usize>, ContractError> {
        let spec = self.buffer("transfer", id)?;
        if spec.kind != kind {
            let (expected, got) = (kind, spec.kind);
            return Err(ContractError::BufferKind { op: "transfer", buffer: spec.name, expected, got });
        }
        let fits = len.is_multiple_of(spec.width)
            && first_row <= spec.rows
            && len / spec.width <= spec.rows - first_row;
        if !fits {
            let BufferSpec { name: buffer, rows, width, .. } = *spec;
            return Err(ContractError::Transfer { buffer, first_row, len, rows, width });
        }
        let start = first_row * spec.width;
        Ok(start..start + len)
    }
}

fn check_weight(spec: &WeightSpec) -> Result<(), ContractError> {
    require("load_weight", "experts", spec.experts, spec.experts > 0, "at least 1")?;
    require("load_weight", "out_features", spec.out_features, spec.out_features > 0, "at least 1")?;
    require("load_weight", "in_features", spec.in_features, spec.in_features > 0, "at least 1")?;
    let whole = spec.format != WeightFormat::Mxfp4 || spec.in_features.is_multiple_of(32);
    require("load_weight", "in_features", spec.in_features, whole, "a multiple of 32 for MXFP4")
}

/// `Ok` where `holds`, else the broken rule.
fn require(
    op: &'static str,
    what: &'static str,
    got: usize,
    holds: bool,
    rule: &'static str,
) -> Result<(), ContractError> {
    if holds { Ok(()) } else { Err(ContractError::Rule { op, what, got, rule }) }
}

/// `Ok` where the sizes are equal.
fn same(
    op: &'static str,
    what: &'static str,
    name: &str,
    expected: usize,
    got: usize,
) -> Result<(), ContractError> {
    if expected == got {
        return Ok(());
    }
    Err(ContractError::Size { op, what, name: name.to_owned(), expected, got })
}
