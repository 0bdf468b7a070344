//! What the engine asks of the model, and how [`Model`] answers.

use std::sync::Arc;

use sostenuto_model::Model;
use sostenuto_ops::DeviceError;

use crate::error::ExecutorError;
use crate::limits::ExecutorLimits;
use crate::plan::StepPlan;

/// Runs steps. Driven by one thread.
pub trait Executor: Send + 'static {
    /// Logits per row.
    fn vocab_size(&self) -> usize;

    /// What it can hold; constant.
    fn limits(&self) -> ExecutorLimits;

    /// Runs one step: makes the plan's copies, writes the KV of every row, then computes the logits of the plan's logit rows. A row's
    /// result must not depend on the other rows of the step.
    ///
    /// # Errors
    /// [`ExecutorError`] says whether further steps may succeed.
    fn execute(&mut self, plan: &StepPlan) -> Result<(), ExecutorError>;

    /// Copies the logits `[vocab_size]` of the last step's `logit_row`-th logit row.
    ///
    /// # Errors
    /// As for [`Executor::execute`].
    fn logits(&mut self, logit_row: usize, out: &mut [f32]) -> Result<(), ExecutorError>;
}

/// The rings have room for a whole step of one sequence, so a chunk is bounded by the step alone.
impl Executor for Model {
    fn vocab_size(&self) -> usize {
        self.config().vocab_size
    }

    fn limits(&self) -> ExecutorLimits {
        let limits = Model::limits(self);
        ExecutorLimits {
            max_step_rows: limits.max_step_rows,
            max_logit_rows: limits.max_logit_rows,
            max_chunk: limits.max_step_rows,
            max_sequences: limits.max_sequences,
            max_context: limits.max_context,
            num_blocks: limits.num_blocks(),
            num_snapshots: limits.window_snapshots,
            window: self.config().sliding_window,
            num_sliding_layers: self.config().num_sliding_layers(),
        }
    }

    fn execute(&mut self, plan: &StepPlan) -> Result<(), ExecutorError> {
        self.copy_kv(&plan.copies)?;
        Ok(self.forward(&plan.inputs())?)
    }

    fn logits(&mut self, logit_row: usize, out: &mut [f32]) -> Result<(), ExecutorError> {
        Ok(self.read_logits(logit_row, out)?)
    }
}

impl From<DeviceError> for ExecutorError {
    fn from(error: DeviceError) -> Self {
        match error {
            // Refused before anything ran: weights and memory are as before.
            DeviceError::Contract(_) => Self::Step { source: Arc::new(error) },
            // Steps allocate nothing, so a device that asks for memory in one is in no known state.
            DeviceError::OutOfMemory { .. } => Self::Device { source: Arc::new(error) },
        }
    }
}
