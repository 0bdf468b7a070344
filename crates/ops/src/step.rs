//! The row metadata of one step.

use crate::spec::KvLayerSpec;

/// One step's rows: a flat list of tokens, each belonging to a sequence of the step.
///
/// Rows of one sequence are adjacent and their positions ascend by one. Keys and values of all rows are written
/// before any row attends, so a row sees the earlier rows of its own sequence in the same step.
///
/// Full layers may hold a prefix of a sequence already (shared or kept blocks) when its rings do not. Rows at positions
/// below the sequence's entry in `kv_write_from` then rebuild the rings: they attend as always, full layers
/// included, but leave what full layers hold untouched. The last `(window - 1) · sliding layers` rows before a
/// position, run like this, fill the rings with the bits of a run from the start, as far as rows from that position
/// on see; with a row fewer they do not. Earlier rows of such a run may see slots of another sequence, and their
/// results mean nothing.
#[derive(Clone, Copy, Debug)]
pub struct StepInputs<'a> {
    /// Token id of each row.
    pub token_ids: &'a [u32],
    /// Position of each row in its sequence, from 0.
    pub positions: &'a [u32],
    /// For each row, the index of its sequence in `rings` and in the block tables.
    pub sequences: &'a [u32],
    /// For each sequence of the step, its ring in the sliding layers.
    pub rings: &'a [u32],
    /// The sequences' block tables, one after another.
    pub block_tables: &'a [u32],
    /// Where each sequence's block table starts in `block_tables`; one entry more than sequences.
    pub block_table_offsets: &'a [u32],
    /// For each sequence of the step, the first position whose keys and values go to full layers; 0 is the normal
    /// case. Sliding layers' rings take every row.
    pub kv_write_from: &'a [u32],
    /// Rows whose logits are wanted, ascending.
    pub logit_rows: &'a [u32],
}

impl<'a> StepInputs<'a> {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.token_ids.len()
    }

    /// Block table of a sequence of the step.
    pub fn block_table(&self, sequence: usize) -> &'a [u32] {
        let start = self.block_table_offsets[sequence] as usize;
        let end = self.block_table_offsets[sequence + 1] as usize;
        &self.block_tables[start..end]
    }

    /// Whether a row's keys and values are written to a layer of this kind.
    pub fn writes_kv(&self, row: usize, layer: KvLayerSpec) -> bool {
        match layer {
            KvLayerSpec::Full => self.positions[row] >= self.kv_write_from[self.sequences[row] as usize],
            KvLayerSpec::Sliding => true,
        }
    }
}
