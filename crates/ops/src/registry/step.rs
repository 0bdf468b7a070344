//! Checks of a step against the limits of its program.

use super::ContractError;
use crate::spec::KV_BLOCK_SLOTS;
use crate::step::StepInputs;

/// What a program asks of the sliding layers' rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlidingLimits {
    /// Rings there are.
    pub num_rings: usize,
    /// Slots of a ring.
    pub ring_slots: usize,
    /// Widest window of the program.
    pub window: usize,
}

/// What a program asks of its steps. Made by [`crate::Registry::check_program`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepLimits {
    /// Most rows: the fewest rows of a buffer that takes the step's rows.
    pub max_rows: usize,
    /// Most logit rows, likewise.
    pub max_logit_rows: usize,
    /// Rows of the embedding table, where the program embeds.
    pub vocab_size: Option<usize>,
    /// Blocks of the pool, where the program touches full layers.
    pub num_blocks: Option<usize>,
    /// Rings, where the program touches sliding layers.
    pub sliding: Option<SlidingLimits>,
}

impl StepLimits {
    /// No limits: those of the empty program.
    pub(super) fn unlimited() -> Self {
        Self {
            max_rows: usize::MAX,
            max_logit_rows: usize::MAX,
            vocab_size: None,
            num_blocks: None,
            sliding: None,
        }
    }

    /// Checks everything kernels rely on: lengths agree, rows fit the buffers, ids lie within their ranges, rows of a
    /// sequence are adjacent and ascend, rings are distinct and large enough, logit rows ascend.
    ///
    /// # Errors
    /// The first breach found.
    ///
    /// # Cost
    /// Allocates nothing. Linear in the step, but for a scan of the earlier rows per sequence and of the earlier
    /// rings per ring.
    pub fn check(&self, step: &StepInputs<'_>) -> Result<(), ContractError> {
        self.check_lengths(step)?;
        self.check_tables(step)?;
        self.check_rows(step)?;
        self.check_logit_rows(step)
    }

    fn check_lengths(&self, step: &StepInputs<'_>) -> Result<(), ContractError> {
        let rows = step.rows();
        if rows == 0 {
            return Err(ContractError::StepLength { field: "token_ids", expected: 1, got: 0 });
        }
        at_most("rows", rows, self.max_rows)?;
        at_most("logit rows", step.logit_rows.len(), self.max_logit_rows)?;
        length("positions", rows, step.positions.len())?;
        length("sequences", rows, step.sequences.len())?;
        length("kv_write_from", step.rings.len(), step.kv_write_from.len())?;
        length("block_table_offsets", step.rings.len() + 1, step.block_table_offsets.len())
    }

    /// Block tables and rings, which belong to sequences.
    fn check_tables(&self, step: &StepInputs<'_>) -> Result<(), ContractError> {
        let offsets = step.block_table_offsets;
        below("block_table_offsets", 0, offsets[0] as usize, 1)?;
        for (index, pair) in offsets.windows(2).enumerate() {
            if pair[1] < pair[0] {
                return Err(ContractError::StepOrder {
                    field: "block_table_offsets",
                    index: index + 1,
                    got: pair[1] as usize,
                    rule: "offsets do not descend",
                });
            }
        }
        length("block_tables", offsets[offsets.len() - 1] as usize, step.block_tables.len())?;
        if let Some(num_blocks) = self.num_blocks {
            all_below("block_tables", step.block_tables, num_blocks)?;
        }
        if let Some(sliding) = self.sliding {
            all_below("rings", step.rings, sliding.num_rings)?;
            for (index, ring) in step.rings.iter().enumerate() {
                if step.rings[..index].contains(ring) {
                    let (field, got, rule) = ("rings", *ring as usize, "sequences do not share a ring");
                    return Err(ContractError::StepOrder { field, index, got, rule });
                }
            }
        }
        Ok(())
    }

    fn check_rows(&self, step: &StepInputs<'_>) -> Result<(), ContractError> {
        if let Some(vocab_size) = self.vocab_size {
            all_below("token_ids", step.token_ids, vocab_size)?;
        }
        all_below("sequences", step.sequences, step.rings.len())?;
        let mut start = 0;
        while start < step.rows() {
            let sequence = step.sequences[start];
            let run = step.sequences[start..].iter().take_while(|&&other| other == sequence).count();
            self.check_run(step, start, run)?;
            start += run;
        }
        Ok(())
    }

    /// Rows `start..start + run`, all of one sequence.
    fn check_run(&self, step: &StepInputs<'_>, start: usize, run: usize) -> Result<(), ContractError> {
        let sequence = step.sequences[start] as usize;
        if step.sequences[..start].contains(&step.sequences[start]) {
            let rule = "rows of a sequence are adjacent";
            return Err(ContractError::StepOrder { field: "sequences", index: start, got: sequence, rule });
        }
        let positions = &step.positions[start..start + run];
        for (index, pair) in positions.windows(2).enumerate() {
            if pair[0].checked_add(1) != Some(pair[1]) {
                let (index, got) = (start + index + 1, pair[1] as usize);
                let rule = "positions of a sequence ascend by one";
                return Err(ContractError::StepOrder { field: "positions", index, got, rule });
            }
        }
        if self.num_blocks.is_some() {
            let slots = step.block_table(sequence).len() * KV_BLOCK_SLOTS;
            below("positions", start + run - 1, positions[run - 1] as usize, slots)?;
        }
        if let Some(SlidingLimits { ring_slots, window, .. }) = self.sliding {
            let limit = ring_slots + 1 - window;
            if run > limit {
                return Err(ContractError::RingTooSmall { sequence, rows: run, ring_slots, window, limit });
            }
        }
        Ok(())
    }

    fn check_logit_rows(&self, step: &StepInputs<'_>) -> Result<(), ContractError> {
        all_below("logit_rows", step.logit_rows, step.rows())?;
        for (index, pair) in step.logit_rows.windows(2).enumerate() {
            if pair[1] <= pair[0] {
                let (index, got) = (index + 1, pair[1] as usize);
                let rule = "logit rows ascend";
                return Err(ContractError::StepOrder { field: "logit_rows", index, got, rule });
            }
        }
        Ok(())
    }
}

fn at_most(what: &'static str, got: usize, limit: usize) -> Result<(), ContractError> {
    if got <= limit { Ok(()) } else { Err(ContractError::StepTooLarge { what, got, limit }) }
}

fn length(field: &'static str, expected: usize, got: usize) -> Result<(), ContractError> {
    if expected == got { Ok(()) } else { Err(ContractError::StepLength { field, expected, got }) }
}

fn below(field: &'static str, index: usize, got: usize, limit: usize) -> Result<(), ContractError> {
    if got < limit { Ok(()) } else { Err(ContractError::StepRange { field, index, got, limit }) }
}

fn all_below(field: &'static str, entries: &[u32], limit: usize) -> Result<(), ContractError> {
    match entries.iter().position(|&entry| entry as usize >= limit) {
        None => Ok(()),
        Some(index) => below(field, index, entries[index] as usize, limit),
    }
}
