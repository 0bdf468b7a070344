//! What a device is asked to hold: activation buffers, weights and the KV store.

use sostenuto_formats::SharedBytes;

use crate::backend::KvMemory;

/// Slots (token places) of one KV block of a full-attention layer.
pub const KV_BLOCK_SLOTS: usize = 16;

/// An activation buffer of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BufferId(pub u32);

/// A weight of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WeightId(pub u32);

/// A compiled program of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProgramId(pub u32);

/// A transformer layer's place in the KV store, counted over all layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KvLayerId(pub u32);

/// Element type of an activation buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BufferKind {
    /// 32-bit floats.
    F32,
    /// 32-bit unsigned integers (expert ids).
    U32,
}

/// An activation buffer `[rows, width]`, row-major.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BufferSpec {
    /// What it holds, for messages.
    pub name: &'static str,
    /// Element type.
    pub kind: BufferKind,
    /// Rows it can hold: the most rows of a step, or the most logit rows.
    pub rows: usize,
    /// Elements per row.
    pub width: usize,
}

impl BufferSpec {
    /// Size in bytes.
    pub fn bytes(&self) -> usize {
        self.rows * self.width * 4
    }
}

/// How a weight's values are stored on the host, and so in the device's account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightFormat {
    /// bfloat16, little endian.
    Bf16,
    /// MXFP4: 16 bytes of E2M1 pairs (low nibble first) per 32 values of the last dimension, and one E8M0
    /// scale byte for each.
    Mxfp4,
}

/// A weight `[experts, out_features, in_features]`; vectors have `out_features` 1, and everything but the expert
/// weights and expert biases has `experts` 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightSpec {
    /// Name in the checkpoint, for messages.
    pub name: String,
    /// Storage format.
    pub format: WeightFormat,
    /// Number of experts, 1 where the weight has none.
    pub experts: usize,
    /// Rows: output features.
    pub out_features: usize,
    /// Columns: input features, the reduction dimension.
    pub in_features: usize,
    /// Whether [`Precision::Fast`](crate::Precision::Fast) may round it to 8 bits, with a scale for every 32 elements of
    /// a row: a large bf16 matrix that is only multiplied with, where no decision hangs on a single product.
    pub may_round: bool,
}

impl WeightSpec {
    /// A bf16 matrix `[out_features, in_features]`, kept as it is.
    pub fn matrix(name: impl Into<String>, out_features: usize, in_features: usize) -> Self {
        Self {
            name: name.into(),
            format: WeightFormat::Bf16,
            experts: 1,
            out_features,
            in_features,
            may_round: false,
        }
    }

    /// A bf16 matrix `[out_features, in_features]` that is only multiplied with and may be rounded.
    pub fn product(name: impl Into<String>, out_features: usize, in_features: usize) -> Self {
        Self { may_round: true, ..Self::matrix(name, out_features, in_features) }
    }

    /// A bf16 vector `[len]`.
    pub fn vector(name: impl Into<String>, len: usize) -> Self {
        Self::matrix(name, 1, len)
    }

    /// Bytes of the values as stored: packed nibbles for MXFP4.
    pub fn value_bytes(&self) -> usize {
        let elements = self.experts * self.out_features * self.in_features;
        match self.format {
            WeightFormat::Bf16 => elements * 2,
            WeightFormat::Mxfp4 => elements / 2,
        }
    }

    /// Bytes of the E8M0 scales, 0 for bf16.
    pub fn scale_bytes(&self) -> usize {
        match self.format {
            WeightFormat::Bf16 => 0,
            WeightFormat::Mxfp4 => self.experts * self.out_features * self.in_features / 32,
        }
    }

    /// Total bytes.
    pub fn bytes(&self) -> usize {
        self.value_bytes() + self.scale_bytes()
    }
}

/// A weight's bytes on the host. Pieces lie one after another row-wise (q, k and v become one matrix). A device in
/// host memory may keep the shared bytes instead of copying them.
#[derive(Clone, Debug)]
pub struct WeightData {
    /// Values, in the spec's format; lengths sum to [`WeightSpec::value_bytes`].
    pub values: Vec<SharedBytes>,
    /// E8M0 scales; lengths sum to [`WeightSpec::scale_bytes`].
    pub scales: Vec<SharedBytes>,
}

/// Element type of the KV store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvDtype {
    /// 32-bit floats, the exact mode.
    F32,
    /// bfloat16, rounded to nearest even on write.
    Bf16,
    /// 8-bit integers with one f32 scale for each key head and each value head of a slot, rounded on write as
    /// [`crate::int8_scale`] and [`crate::to_int8`] say: an element reads as `integer · scale`.
    Int8,
}

impl KvDtype {
    /// Bytes of one key head or value head of a slot, with its scale where it has one.
    pub fn head_bytes(self, head_dim: usize) -> usize {
        match self {
            Self::F32 => 4 * head_dim,
            Self::Bf16 => 2 * head_dim,
            Self::Int8 => head_dim + 4,
        }
    }

    /// Name in messages and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        }
    }
}

/// KV memory of one transformer layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvLayerSpec {
    /// Full attention: blocks of [`KV_BLOCK_SLOTS`] slots, addressed through a sequence's block table: position
    /// `p` lies in slot `p % 16` of block `table[p / 16]`.
    Full,
    /// Sliding window: a ring of slots per running sequence, position `p` in slot `p % ring_slots`.
    Sliding,
}

/// The KV store: keys and values of every layer. Full layers share block numbers: block `b` is block `b` of
/// each of them. The same holds for ring numbers and sliding layers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvSpec {
    /// One entry per transformer layer.
    pub layers: Vec<KvLayerSpec>,
    /// Element type.
    pub dtype: KvDtype,
    /// KV heads per layer.
    pub num_kv_heads: usize,
    /// Elements per head.
    pub head_dim: usize,
    /// Blocks in the pool of each full layer.
    pub num_blocks: usize,
    /// Rings in each sliding layer: the most sequences that run at once.
    pub num_rings: usize,
    /// Slots per ring: at least the window plus the most rows one sequence may have in a step, less one.
    pub ring_slots: usize,
    /// Positions that a row of a sliding layer sees at most, its own included; at most `ring_slots`.
    pub window: usize,
    /// Window snapshots: places in each sliding layer beside the rings, for the positions that a row at one position
    /// sees before itself. See [`crate::KvCopy`].
    pub num_snapshots: usize,
}

impl KvSpec {
    /// Bytes of one slot of one layer, key and value.
    pub fn slot_bytes(&self) -> usize {
        2 * self.num_kv_heads * self.dtype.head_bytes(self.head_dim)
    }

    /// Slots of one layer, without snapshots.
    pub fn layer_slots(&self, layer: KvLayerSpec) -> usize {
        match layer {
            KvLayerSpec::Full => self.num_blocks * KV_BLOCK_SLOTS,
            KvLayerSpec::Sliding => self.num_rings * self.ring_slots,
        }
    }

    /// Slots of one window snapshot in a sliding layer.
    pub fn snapshot_slots(&self) -> usize {
        self.window.saturating_sub(1)
    }

    /// Bytes by use.
    pub fn memory(&self) -> KvMemory {
        KvMemory {
            full: self.layer_bytes(KvLayerSpec::Full),
            sliding: self.layer_bytes(KvLayerSpec::Sliding),
            snapshots: self.snapshot_bytes(),
        }
    }

    /// Bytes of all layers of a kind, without snapshots.
    pub fn layer_bytes(&self, kind: KvLayerSpec) -> usize {
        self.count(kind) * self.layer_slots(kind) * self.slot_bytes()
    }

    /// Bytes of all window snapshots.
    pub fn snapshot_bytes(&self) -> usize {
        let slots = self.num_snapshots * self.snapshot_slots();
        self.count(KvLayerSpec::Sliding) * slots * self.slot_bytes()
    }

    /// Total bytes.
    pub fn bytes(&self) -> usize {
        self.memory().total()
    }

    /// Number of layers of a kind.
    pub fn count(&self, kind: KvLayerSpec) -> usize {
        self.layers.iter().filter(|&&layer| layer == kind).count()
    }
}
