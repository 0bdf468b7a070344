//! Goldens, devices, and a sequence that is fed in chunks.

use std::path::PathBuf;

use sostenuto_formats::{Checkpoint, Loading};
use sostenuto_kernels_cpu::{CpuBackend, CpuOptions, Isa};
use sostenuto_model::{Model, ModelLimits};
use sostenuto_ops::scalar::ScalarBackend;
use sostenuto_ops::{Backend, KvDtype, Precision, StepInputs};

/// Most rows of one test step.
pub(crate) const MAX_STEP_ROWS: usize = 704;

/// Folder of the golden logits.
pub(crate) fn golden_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tools/golden/logits")
}

/// Opens a committed checkpoint; `layout` is `hf` or `original`.
pub(crate) fn checkpoint(name: &str, layout: &str) -> Checkpoint {
    let folder = golden_folder().join("checkpoints").join(name);
    let folder = if layout == "original" { folder.join("original") } else { folder };
    Checkpoint::open(&folder, Loading::Read).unwrap()
}

/// The reference device.
pub(crate) fn scalar() -> Box<dyn Backend> {
    Box::new(ScalarBackend::new())
}

/// The CPU backend with an instruction set, in the exact mode; `None`, and a line that says so, where the processor
/// lacks it.
pub(crate) fn cpu(isa: Isa, threads: usize) -> Option<Box<dyn Backend>> {
    cpu_in(Precision::Exact, isa, threads)
}

/// As [`cpu`], in either mode.
pub(crate) fn cpu_in(precision: Precision, isa: Isa, threads: usize) -> Option<Box<dyn Backend>> {
    if !isa.is_available() {
        println!("skipped: this processor lacks {}", isa.name());
        return None;
    }
    let options = CpuOptions { threads, precision, isa: Some(isa) };
    Some(Box::new(CpuBackend::new(options).unwrap()))
}

/// A model for one or two sequences of at most `MAX_STEP_ROWS` tokens.
pub(crate) fn load(checkpoint: &Checkpoint, backend: Box<dyn Backend>) -> Model {
    Model::load(checkpoint, backend, &limits()).unwrap()
}

/// The limits of [`load`].
pub(crate) fn limits() -> ModelLimits {
    ModelLimits {
        max_step_rows: MAX_STEP_ROWS,
        max_logit_rows: 8,
        max_sequences: 2,
        max_context: 1024,
        kv_tokens: 2048,
        window_snapshots: 2,
        kv_dtype: KvDtype::F32,
    }
}

/// One sequence: it owns a ring and scattered blocks.
pub(crate) struct Sequence {
    pub(crate) ring: u32,
    pub(crate) blocks: Vec<u32>,
    pub(crate) computed: usize,
}

impl Sequence {
    /// Ring `ring`, and every second block so that a table mistaken for a range shows.
    pub(crate) fn new(ring: u32) -> Self {
        Self { ring, blocks: (0..64).map(|block| 2 * ((block * 5) % 64) + ring).collect(), computed: 0 }
    }

    /// Runs `ids` after what was computed before and returns the logits of the last `last_k` of them.
    pub(crate) fn feed(&mut self, model: &mut Model, ids: &[u32], last_k: usize) -> Vec<Vec<f32>> {
        self.feed_from(model, ids, last_k, 0)
    }

    /// As [`Sequence::feed`], but full layers are written from position `kv_write_from` on only.
    pub(crate) fn feed_from(
        &mut self,
        model: &mut Model,
        ids: &[u32],
        last_k: usize,
        kv_write_from: usize,
    ) -> Vec<Vec<f32>> {
        let rows = ids.len() as u32;
        let positions: Vec<u32> = (self.computed as u32..self.computed as u32 + rows).collect();
        let logit_rows: Vec<u32> = (rows - last_k as u32..rows).collect();
        model
            .forward(&StepInputs {
                token_ids: ids,
                positions: &positions,
                sequences: &vec![0; ids.len()],
                rings: &[self.ring],
                block_tables: &self.blocks,
                block_table_offsets: &[0, self.blocks.len() as u32],
                kv_write_from: &[kv_write_from as u32],
                logit_rows: &logit_rows,
            })
            .unwrap();
        self.computed += ids.len();
        let vocab_size = model.config().vocab_size;
        (0..last_k)
            .map(|row| {
                let mut logits = vec![0.0; vocab_size];
                model.read_logits(row, &mut logits).unwrap();
                logits
            })
            .collect()
    }
}

/// Index of the largest logit, the lowest where equal.
pub(crate) fn argmax(logits: &[f32]) -> u32 {
    let best =
        logits.iter().enumerate().fold(0, |best, (i, &value)| if value > logits[best] { i } else { best });
    best as u32
}
