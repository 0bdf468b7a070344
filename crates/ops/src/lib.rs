//! The op contract: what a device must do, and nothing about how.
//!
//! A device owns opaque buffers, weights and a KV store. The model builds one [`Program`], a list of [`Op`]s over
//! ids, and compiles it once; each step hands the device the program and the step's row metadata
//! ([`StepInputs`]) as a whole and later reads results back by explicit transfer. No pointer crosses the
//! boundary in either direction, so a device with memory of its own fits behind it unchanged.
//!
//! Every implementation gives each row the same bits whatever other rows share the step: the reduction
//! dimension is never split by row count or thread count.

mod backend;
mod copy;
mod int8;
mod op;
mod registry;
pub mod scalar;
mod spec;
mod step;

pub use backend::{Backend, BackendInfo, DeviceError, DeviceMemory, KernelChoice, KvMemory, Precision};
pub use copy::KvCopy;
pub use int8::{int8_scale, to_int8};
pub use op::{Op, Program, Rows};
pub use registry::{ContractError, Registry, SlidingLimits, StepLimits};
pub use spec::{
    BufferId, BufferKind, BufferSpec, KV_BLOCK_SLOTS, KvDtype, KvLayerId, KvLayerSpec, KvSpec, ProgramId,
    WeightData, WeightFormat, WeightId, WeightSpec,
};
pub use step::StepInputs;
