//! The device boundary.

use crate::copy::KvCopy;
use crate::op::Program;
use crate::registry::{ContractError, Registry};
use crate::spec::{BufferId, BufferSpec, KvSpec, ProgramId, WeightData, WeightId, WeightSpec};
use crate::step::StepInputs;

/// How a backend trades accuracy for speed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// f32 activations and exact weights: the reference for comparisons.
    Exact,
    /// The default for use: activations may be quantised where the backend documents it.
    Fast,
}

/// The kernel a backend chose for an op.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelChoice {
    /// Op name.
    pub op: &'static str,
    /// Kernel name, such as `f32_mf4w_moe_gate_up_swiglu_avx2`.
    pub kernel: &'static str,
}

/// What a backend is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendInfo {
    /// Such as `cpu` or `scalar`.
    pub name: &'static str,
    /// Instruction set or device, such as `avx2`.
    pub device: String,
    /// Worker threads.
    pub threads: usize,
    /// Memory nodes (NUMA) over which weights and threads are spread where the operating system lets them.
    pub memory_nodes: usize,
    /// Numeric mode.
    pub precision: Precision,
    /// The kernel of each op.
    pub kernels: Vec<KernelChoice>,
}

/// Bytes a device holds, by purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceMemory {
    /// Weights, copied or adopted.
    pub weights: usize,
    /// Activation buffers.
    pub buffers: usize,
    /// KV store.
    pub kv: KvMemory,
    /// Kernels' scratch.
    pub scratch: usize,
}

impl DeviceMemory {
    /// Sum of all purposes, in bytes.
    pub fn total(&self) -> usize {
        self.weights + self.buffers + self.kv.total() + self.scratch
    }
}

/// Bytes of a KV store, by use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KvMemory {
    /// Blocks of full-attention layers.
    pub full: usize,
    /// Rings of sliding-window layers.
    pub sliding: usize,
    /// Window snapshots of sliding-window layers.
    pub snapshots: usize,
}

impl KvMemory {
    /// Sum over the uses, in bytes.
    pub fn total(&self) -> usize {
        self.full + self.sliding + self.snapshots
    }
}

/// What can go wrong on a device.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// A spec, program or step breaks the contract: a bug above the device.
    #[error(transparent)]
    Contract(#[from] ContractError),
    /// The device has no room.
    #[error("out of device memory for {what}: {needed} bytes needed")]
    OutOfMemory {
        /// What was to be held.
        what: String,
        /// Its size in bytes.
        needed: usize,
    },
}

/// A device that runs programs. One owner thread drives it.
pub trait Backend: Send {
    /// Name, device and kernels.
    fn info(&self) -> BackendInfo;

    /// Bytes held at present.
    fn memory(&self) -> DeviceMemory;

    /// What [`Backend::memory`] would say of a fresh device of this kind that was given everything in `registry` and
    /// had compiled `program`: a closed form, byte for byte. Allocates nothing on the device.
    ///
    /// # Errors
    /// What is wrong with the first op that does not agree with the specs.
    fn planned_memory(&self, registry: &Registry, program: &Program) -> Result<DeviceMemory, ContractError>;

    /// Allocates a zeroed activation buffer.
    fn create_buffer(&mut self, spec: BufferSpec) -> Result<BufferId, DeviceError>;

    /// Whether [`Backend::load_weight`] keeps the shared bytes of such a weight and reads them in every step, so that they
    /// must stay in memory. Otherwise it is done with them when it returns: the caller may let them go, and nothing of
    /// them stands beside what the device made of them. A joined copy of small pieces may count as either.
    fn keeps_host_bytes(&self, spec: &WeightSpec) -> bool;

    /// Takes a weight: copies it to the device, repacks it, or keeps the shared bytes, as
    /// [`Backend::keeps_host_bytes`] says.
    fn load_weight(&mut self, spec: WeightSpec, data: WeightData) -> Result<WeightId, DeviceError>;

    /// Allocates the KV store. Called once, before [`Backend::compile`].
    fn create_kv(&mut self, spec: KvSpec) -> Result<(), DeviceError>;

    /// Checks a program against the specs of everything it names and prepares it; allocates all scratch that
    /// [`Backend::submit`] needs.
    fn compile(&mut self, program: Program) -> Result<ProgramId, DeviceError>;

    /// Runs one step. Allocates nothing. Results are readable when the call returns or at the next
    /// [`Backend::read`], whichever the device prefers.
    fn submit(&mut self, program: ProgramId, step: &StepInputs<'_>) -> Result<(), DeviceError>;

    /// Copies within the KV store, one after another, after all submitted steps and before later ones. Allocates
    /// nothing. Where one is refused, none has run.
    fn copy_kv(&mut self, copies: &[KvCopy]) -> Result<(), DeviceError>;

    /// Copies whole rows of an f32 buffer from the host, from `first_row` on.
    fn write(&mut self, buffer: BufferId, first_row: usize, values: &[f32]) -> Result<(), DeviceError>;

    /// Copies whole rows of an f32 buffer to the host, from `first_row` on, after all submitted steps.
    fn read(&mut self, buffer: BufferId, first_row: usize, values: &mut [f32]) -> Result<(), DeviceError>;

    /// Like [`Backend::write`], for a u32 buffer.
    fn write_u32(&mut self, buffer: BufferId, first_row: usize, values: &[u32]) -> Result<(), DeviceError>;

    /// Like [`Backend::read`], for a u32 buffer.
    fn read_u32(&mut self, buffer: BufferId, first_row: usize, values: &mut [u32])
    -> Result<(), DeviceError>;
}
