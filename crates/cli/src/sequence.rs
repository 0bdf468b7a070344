//! One sequence alone on a model, without an engine: for `bench` and `debug logits`.

use sostenuto_model::Model;
use sostenuto_ops::StepInputs;

use crate::error::CliError;

/// Feeds a model the tokens of one sequence, in steps as large as the model's limits allow.
pub(crate) struct SoloSequence<'a> {
    model: &'a mut Model,
    /// Every block of the pool: the sequence is alone.
    block_table: Vec<u32>,
    num_computed_tokens: usize,
    logits: Vec<f32>,
}

impl<'a> SoloSequence<'a> {
    /// A new sequence. What the model held before is overwritten as tokens come.
    pub(crate) fn new(model: &'a mut Model) -> Self {
        let num_blocks = model.limits().num_blocks() as u32;
        let logits = vec![0.0; model.config().vocab_size];
        Self { model, block_table: (0..num_blocks).collect(), num_computed_tokens: 0, logits }
    }

    /// Goes on with `ids` and hands `on_logits` the logits `[vocab_size]` after each of the last `wanted` of them, in
    /// order.
    ///
    /// # Errors
    /// An id outside the vocabulary, a sequence longer than the model's context, or what the device says.
    pub(crate) fn feed(
        &mut self,
        ids: &[u32],
        wanted: usize,
        mut on_logits: impl FnMut(&[f32]) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        self.check(ids)?;
        let limits = *self.model.limits();
        let first_wanted = ids.len() - wanted.min(ids.len());
        let mut start = 0;
        while start < ids.len() {
            let end = ids.len().min(start + limits.max_step_rows);
            let end = end.min(first_wanted.max(start) + limits.max_logit_rows);
            let logit_rows: Vec<u32> =
                (first_wanted.max(start)..end).map(|row| (row - start) as u32).collect();
            self.step(&ids[start..end], &logit_rows)?;
            for logit_row in 0..logit_rows.len() {
                self.model.read_logits(logit_row, &mut self.logits)?;
                on_logits(&self.logits)?;
            }
            start = end;
        }
        Ok(())
    }

    fn check(&self, ids: &[u32]) -> Result<(), CliError> {
        let vocab_size = self.model.config().vocab_size;
        if let Some((index, id)) = ids.iter().enumerate().find(|(_, id)| **id as usize >= vocab_size) {
            return Err(CliError::new(format!(
                "ids[{index}] is {id}: expected an id below the vocabulary's size {vocab_size}"
            )));
        }
        let (len, max_context) = (self.num_computed_tokens + ids.len(), self.model.limits().max_context);
        if len > max_context {
            return Err(CliError::new(format!(
                "the sequence has {len} tokens: expected at most {max_context} (raise it with --ctx)"
            )));
        }
        Ok(())
    }

    fn step(&mut self, ids: &[u32], logit_rows: &[u32]) -> Result<(), CliError> {
        let first = self.num_computed_tokens as u32;
        let positions: Vec<u32> = (first..first + ids.len() as u32).collect();
        let sequences = vec![0; ids.len()];
        self.model.forward(&StepInputs {
            token_ids: ids,
            positions: &positions,
            sequences: &sequences,
            rings: &[0],
            block_tables: &self.block_table,
            block_table_offsets: &[0, self.block_table.len() as u32],
            kv_write_from: &[0],
            logit_rows,
        })?;
        self.num_computed_tokens += ids.len();
        Ok(())
    }
}
