//! Several sequences of one model that decode together, without an engine.

use clap::ValueEnum;
use sostenuto_model::Model;
use sostenuto_ops::{KV_BLOCK_SLOTS, KvCopy, StepInputs};

use crate::error::CliError;

/// How the context that decoding starts from comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Fill {
    /// Every token of it is computed.
    Prefill,
    /// A first piece and the last window are computed; between them stand copies of the first piece's keys and values, and
    /// further streams hold copies of the first one's. As much memory is read as with other values, in less time to prepare.
    Copy,
}

impl Fill {
    /// The name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Fill::Prefill => "prefill",
            Fill::Copy => "copy",
        }
    }
}

/// Sequences of equal length, each with blocks and a ring of its own.
pub(crate) struct Streams<'a> {
    model: &'a mut Model,
    /// The sequences' block tables, one after another.
    block_tables: Vec<u32>,
    block_table_offsets: Vec<u32>,
    rings: Vec<u32>,
    zeros: Vec<u32>,
    logits: Vec<f32>,
}

impl<'a> Streams<'a> {
    /// `count` empty sequences. What the model held before is overwritten as tokens come.
    ///
    /// # Panics
    /// The model's limits have fewer rings or logits rows than `count`.
    pub(crate) fn new(model: &'a mut Model, count: usize) -> Self {
        let limits = *model.limits();
        assert!(
            (1..=limits.max_sequences.min(limits.max_logit_rows)).contains(&count),
            "{count} streams under {limits:?}"
        );
        let blocks_each = (limits.num_blocks() / count) as u32;
        let count = count as u32;
        Self {
            block_tables: (0..count * blocks_each).collect(),
            block_table_offsets: (0..=count).map(|stream| stream * blocks_each).collect(),
            rings: (0..count).collect(),
            zeros: vec![0; count as usize],
            logits: vec![0.0; model.config().vocab_size],
            model,
        }
    }

    /// Gives every stream `ids` as its context.
    ///
    /// # Errors
    /// What the device says.
    pub(crate) fn fill(&mut self, fill: Fill, ids: &[u32]) -> Result<(), CliError> {
        let head = match fill {
            Fill::Prefill => ids.len(),
            // Whole blocks: they are what is copied.
            Fill::Copy => ids.len().min(self.model.limits().max_step_rows).next_multiple_of(KV_BLOCK_SLOTS),
        };
        let head = head.min(ids.len());
        self.feed(0, 0, &ids[..head])?;
        if fill == Fill::Copy && !ids.is_empty() {
            self.copy_blocks(head.div_ceil(KV_BLOCK_SLOTS), ids.len().div_ceil(KV_BLOCK_SLOTS))?;
        }
        let window = self.model.config().sliding_window.min(ids.len());
        for stream in 0..self.rings.len() {
            let computed = match fill {
                Fill::Prefill if stream == 0 => ids.len(),
                Fill::Prefill => 0,
                Fill::Copy => ids.len() - window,
            };
            self.feed(stream, computed, &ids[computed..])?;
        }
        Ok(())
    }

    /// One more token for each stream, which all hold `context`; computes and reads the logits of all.
    ///
    /// # Errors
    /// What the device says.
    pub(crate) fn decode(&mut self, context: usize, ids: &[u32]) -> Result<(), CliError> {
        assert_eq!(ids.len(), self.rings.len(), "a token for each stream");
        self.model.forward(&StepInputs {
            token_ids: ids,
            positions: &vec![context as u32; ids.len()],
            sequences: &self.rings,
            rings: &self.rings,
            block_tables: &self.block_tables,
            block_table_offsets: &self.block_table_offsets,
            kv_write_from: &self.zeros,
            logit_rows: &self.rings,
        })?;
        for row in 0..ids.len() {
            self.model.read_logits(row, &mut self.logits)?;
        }
        Ok(())
    }

    /// Further blocks of the first stream, up to `blocks` in all, become copies of its first `computed` in turn; then the
    /// other streams' blocks become copies of the first one's.
    fn copy_blocks(&mut self, computed: usize, blocks: usize) -> Result<(), CliError> {
        let further = (computed..blocks).map(|block| (block % computed, block));
        let starts = self.block_table_offsets[1..self.rings.len()].iter();
        let others = starts.flat_map(|start| (0..blocks).map(move |block| (block, *start as usize + block)));
        let copies: Vec<KvCopy> = further
            .chain(others)
            .map(|(from, to)| KvCopy::Block { from: self.block_tables[from], to: self.block_tables[to] })
            .collect();
        Ok(self.model.copy_kv(&copies)?)
    }

    /// Computes `ids` of one stream from position `first` on, without logits.
    fn feed(&mut self, stream: usize, first: usize, ids: &[u32]) -> Result<(), CliError> {
        let [start, end] = [stream, stream + 1].map(|index| self.block_table_offsets[index] as usize);
        let piece = self.model.limits().max_step_rows;
        for (index, ids) in ids.chunks(piece).enumerate() {
            let position = (first + index * piece) as u32;
            let positions: Vec<u32> = (position..position + ids.len() as u32).collect();
            self.model.forward(&StepInputs {
                token_ids: ids,
                positions: &positions,
                sequences: &vec![0; ids.len()],
                rings: &self.rings[stream..=stream],
                block_tables: &self.block_tables[start..end],
                block_table_offsets: &[0, (end - start) as u32],
                kv_write_from: &[0],
                logit_rows: &[],
            })?;
        }
        Ok(())
    }
}
