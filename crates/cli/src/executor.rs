//! The model as the engine's executor.

use std::sync::Arc;

use sostenuto_engine::{Executor, ExecutorError, ExecutorLimits, StepPlan};
use sostenuto_model::Model;
use sostenuto_ops::{DeviceError, StepInputs};

/// A model that an engine drives.
pub(crate) struct ModelExecutor(pub(crate) Model);

impl Executor for ModelExecutor {
    fn vocab_size(&self) -> usize {
        self.0.config().vocab_size
    }

    fn limits(&self) -> ExecutorLimits {
        let limits = self.0.limits();
        ExecutorLimits {
            max_step_rows: limits.max_step_rows,
            max_logit_rows: limits.max_logit_rows,
            // The rings hold the window and one step more.
            max_chunk: limits.max_step_rows,
            max_sequences: limits.max_sequences,
            max_context: limits.max_context,
            num_blocks: limits.num_blocks(),
        }
    }

    fn execute(&mut self, plan: &StepPlan) -> Result<(), ExecutorError> {
        let inputs = StepInputs {
            token_ids: &plan.token_ids,
            positions: &plan.positions,
            sequences: &plan.sequences,
            rings: &plan.rings,
            block_tables: &plan.block_tables,
            block_table_offsets: &plan.block_table_offsets,
            logit_rows: &plan.logit_rows,
        };
        self.0.forward(&inputs).map_err(device_failed)
    }

    fn logits(&mut self, logit_row: usize, out: &mut [f32]) -> Result<(), ExecutorError> {
        self.0.read_logits(logit_row, out).map_err(device_failed)
    }
}

/// Whatever a device reports in a step is a bug above it or the end of the device: no further step is to be trusted.
fn device_failed(error: DeviceError) -> ExecutorError {
    ExecutorError::Device { source: Arc::new(error) }
}
