//! The gpt-oss model: weights bound to named fields, the forward pass as one program of ops, and the memory plan.
//!
//! The model knows no request, sampler or clock. It is the same for every device: it speaks the contract of
//! [`sostenuto_ops`] alone.

mod error;
mod limits;
mod load;
mod plan;
mod program;
mod rope;
mod weights;

use sostenuto_formats::{Checkpoint, ModelConfig};
use sostenuto_ops::{
    Backend, BackendInfo, BufferId, DeviceError, DeviceMemory, KvCopy, ProgramId, StepInputs,
};

use load::load_weights;
use program::Buffers;

pub use error::ModelError;
pub use limits::ModelLimits;
pub use load::{WeightLoading, kept_weight_bytes};
pub use plan::{MemoryPlan, PlanRow, Purpose, memory_plan};
pub use rope::RopeFrequencies;

/// A model on a device, ready to run steps.
pub struct Model {
    config: ModelConfig,
    limits: ModelLimits,
    backend: Box<dyn Backend>,
    program: ProgramId,
    logits: BufferId,
}

impl Model {
    /// Loads the weights, allocates everything the limits ask for, and compiles the forward pass. Weights that the device
    /// keeps where a mapping has them come into memory as they are used. The checkpoint is not needed afterwards.
    ///
    /// # Errors
    /// What is wrong with the limits, a weight, or the device.
    pub fn load(
        checkpoint: &Checkpoint,
        backend: Box<dyn Backend>,
        limits: &ModelLimits,
    ) -> Result<Self, ModelError> {
        let mut loading =
            WeightLoading { make_resident: false, drop_cached: false, on_progress: &mut |_| {} };
        Self::load_with(checkpoint, backend, limits, &mut loading)
    }

    /// As [`Model::load`], as `loading` says.
    ///
    /// # Errors
    /// As for [`Model::load`].
    pub fn load_with(
        checkpoint: &Checkpoint,
        mut backend: Box<dyn Backend>,
        limits: &ModelLimits,
        loading: &mut WeightLoading<'_>,
    ) -> Result<Self, ModelError> {
        let config = checkpoint.config().clone();
        limits.check(&config)?;
        let weights = load_weights(checkpoint, &mut *backend, loading)?;
        let buffers = Buffers::create(&config, limits, |spec| backend.create_buffer(spec))?;
        backend.create_kv(limits.kv_spec(&config))?;
        let program = backend.compile(program::forward(&config, &weights, &buffers))?;
        Ok(Self { config, limits: *limits, backend, program, logits: buffers.logits })
    }

    /// The configuration it was loaded with.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The limits it was loaded with.
    pub fn limits(&self) -> &ModelLimits {
        &self.limits
    }

    /// What runs it.
    pub fn info(&self) -> BackendInfo {
        self.backend.info()
    }

    /// What it holds on the device.
    pub fn memory(&self) -> DeviceMemory {
        self.backend.memory()
    }

    /// Runs one step: writes keys and values of its rows and computes the logits of the rows that want them.
    pub fn forward(&mut self, step: &StepInputs<'_>) -> Result<(), DeviceError> {
        self.backend.submit(self.program, step)
    }

    /// Copies within the KV store, one after another, between steps. Where one is refused, none has run.
    pub fn copy_kv(&mut self, copies: &[KvCopy]) -> Result<(), DeviceError> {
        self.backend.copy_kv(copies)
    }

    /// Copies logits `[vocab_size]` of the last step; `logit_row` counts through its `logit_rows`.
    pub fn read_logits(&mut self, logit_row: usize, out: &mut [f32]) -> Result<(), DeviceError> {
        self.backend.read(self.logits, logit_row, out)
    }
}
