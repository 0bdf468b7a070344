//! What goes into a step and what comes out of it.

use sostenuto_ops::{KvCopy, StepInputs};

use crate::kv::BlockId;

/// A sequence's part in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScheduledSequence {
    /// Its ring, which names the running sequence.
    pub ring: u32,
    /// Its rows in this step.
    pub num_scheduled_tokens: usize,
    /// Its last row, as an index into the step's logit rows. Read also within a prompt: only finite logits show that the
    /// keys and values before them are numbers, and may be shared.
    pub logit_row: usize,
    /// Whether a token is sampled from that row.
    pub gives_token: bool,
}

/// One step's rows, flat. Reused from step to step; holds its capacity.
///
/// Rows of one sequence are adjacent and their positions ascend by one. The fields mirror [`StepInputs`].
#[derive(Clone, Debug, Default)]
pub struct StepPlan {
    /// Token id of each row.
    pub token_ids: Vec<u32>,
    /// Position of each row in its sequence, from 0.
    pub positions: Vec<u32>,
    /// For each row, the index of its sequence in `rings` and in the block tables.
    pub sequences: Vec<u32>,
    /// For each sequence of the step, its ring in the sliding layers.
    pub rings: Vec<u32>,
    /// The sequences' block tables, one after another, each as long as the positions up to this step's need.
    pub block_tables: Vec<u32>,
    /// Where each sequence's block table starts in `block_tables`; one entry more than sequences.
    pub block_table_offsets: Vec<u32>,
    /// For each sequence, the first position whose keys and values are written to full layers; rows below only read them.
    pub kv_write_from: Vec<u32>,
    /// Rows whose logits are wanted, ascending.
    pub logit_rows: Vec<u32>,
    /// What is copied in KV memory before the rows run, in order.
    pub copies: Vec<KvCopy>,
    /// The sequences of the step, in the order of `rings`.
    pub scheduled: Vec<ScheduledSequence>,
}

impl StepPlan {
    /// A plan that never grows under these sizes.
    pub(crate) fn with_capacity(rows: usize, sequences: usize, blocks: usize, copies: usize) -> Self {
        Self {
            token_ids: Vec::with_capacity(rows),
            positions: Vec::with_capacity(rows),
            sequences: Vec::with_capacity(rows),
            rings: Vec::with_capacity(sequences),
            block_tables: Vec::with_capacity(blocks),
            block_table_offsets: Vec::with_capacity(sequences + 1),
            kv_write_from: Vec::with_capacity(sequences),
            logit_rows: Vec::with_capacity(sequences),
            copies: Vec::with_capacity(copies),
            scheduled: Vec::with_capacity(sequences),
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.token_ids.len()
    }

    /// The rows as a device takes them.
    pub fn inputs(&self) -> StepInputs<'_> {
        StepInputs {
            token_ids: &self.token_ids,
            positions: &self.positions,
            sequences: &self.sequences,
            rings: &self.rings,
            block_tables: &self.block_tables,
            block_table_offsets: &self.block_table_offsets,
            kv_write_from: &self.kv_write_from,
            logit_rows: &self.logit_rows,
        }
    }

    /// Block table of a sequence of the step.
    pub fn block_table(&self, sequence: usize) -> &[u32] {
        let start = self.block_table_offsets[sequence] as usize;
        let end = self.block_table_offsets[sequence + 1] as usize;
        &self.block_tables[start..end]
    }

    pub(crate) fn clear(&mut self) {
        self.token_ids.clear();
        self.positions.clear();
        self.sequences.clear();
        self.rings.clear();
        self.block_tables.clear();
        self.block_table_offsets.clear();
        self.block_table_offsets.push(0);
        self.kv_write_from.clear();
        self.logit_rows.clear();
        self.copies.clear();
        self.scheduled.clear();
    }

    /// Appends a sequence's rows: `tokens`, the first at `first_position`. `blocks` is its table up to the last.
    pub(crate) fn push_sequence(
        &mut self,
        ring: u32,
        tokens: &[u32],
        first_position: usize,
        blocks: &[BlockId],
        kv_write_from: usize,
        gives_token: bool,
    ) {
        assert!(!tokens.is_empty(), "a scheduled sequence has at least one row");
        let sequence = self.rings.len() as u32;
        self.rings.push(ring);
        self.kv_write_from.push(kv_write_from as u32);
        for (offset, &token) in tokens.iter().enumerate() {
            self.token_ids.push(token);
            self.positions.push((first_position + offset) as u32);
            self.sequences.push(sequence);
        }
        self.block_tables.extend(blocks.iter().map(|block| block.0));
        self.block_table_offsets.push(self.block_tables.len() as u32);
        let (num_scheduled_tokens, logit_row) = (tokens.len(), self.logit_rows.len());
        self.logit_rows.push(self.token_ids.len() as u32 - 1);
        self.scheduled.push(ScheduledSequence { ring, num_scheduled_tokens, logit_row, gives_token });
    }
}

/// A token drawn from one row's logits.
#[derive(Clone, Debug, PartialEq)]
pub struct SampledToken {
    /// Token id.
    pub id: u32,
    /// Its logprob under the raw logits, where asked for.
    pub logprob: Option<f32>,
    /// The most probable tokens under the raw logits; empty unless asked for.
    pub top_logprobs: Vec<(u32, f32)>,
}

/// Why no token could be drawn from a row. Concerns that row's sequence alone.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum SampleError {
    /// A logit is NaN or infinite.
    #[error("logit of token {token} is {value}")]
    NonFinite {
        /// The first such token id.
        token: u32,
        /// NaN or an infinity.
        value: f32,
    },
    /// Every token is excluded.
    #[error("every token is excluded")]
    NoCandidate,
}

/// What one logit row gave: a token, or none where its logits are finite and no token is wanted.
pub type RowOutput = Result<Option<SampledToken>, SampleError>;

/// What a step gave: one entry per logit row of its plan, in order.
#[derive(Clone, Debug, Default)]
pub struct StepOutput {
    /// The rows.
    pub rows: Vec<RowOutput>,
}
