//! What the engine asks of the model.

use crate::error::ExecutorError;
use crate::limits::ExecutorLimits;
use crate::plan::StepPlan;

/// Runs steps. Driven by one thread.
pub trait Executor: Send + 'static {
    /// Logits per row.
    fn vocab_size(&self) -> usize;

    /// What it can hold; constant.
    fn limits(&self) -> ExecutorLimits;

    /// Runs one step: writes the KV of every row, then computes the logits of the plan's logit rows. A row's
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
