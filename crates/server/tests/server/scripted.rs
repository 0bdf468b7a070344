//! An executor that makes every sequence follow a script, through the real engine and its sampler.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, mpsc},
};

use sostenuto_engine::{EngineOptions, Executor, ExecutorError, ExecutorLimits, StepPlan};
use sostenuto_tokenizer::Tokenizer;

/// Logit of the scripted token; all others are 0, so that its probability is 1 to within an f32.
const FORCED_LOGIT: f32 = 100.0;

/// The sequences' completions, in the order in which their prompts end and from the first again. When one ends, its
/// last token repeats.
pub(crate) struct Scripted {
    scripts: Vec<Vec<u32>>,
    begun: usize,
    limits: ExecutorLimits,
    vocab_size: usize,
    /// By ring: length of the prompt, once its last row has been seen, and the script.
    sequences: HashMap<u32, (usize, usize)>,
    /// All tokens of the last prompt.
    prompt: Arc<Mutex<Vec<u32>>>,
    /// Next token of each logit row of the last step.
    next: Vec<u32>,
    /// Each step waits for a message while the sender lives.
    gate: Option<mpsc::Receiver<()>>,
}

/// A script begins at its prompt's first token, so every prompt has to be computed from there.
pub(crate) fn options() -> EngineOptions {
    EngineOptions { prefix_cache: false, ..EngineOptions::default() }
}

impl Scripted {
    pub(crate) fn new(script: Vec<u32>) -> Scripted {
        Scripted::several(vec![script])
    }

    pub(crate) fn several(scripts: Vec<Vec<u32>>) -> Scripted {
        let limits = ExecutorLimits {
            max_step_rows: 512,
            max_logit_rows: 8,
            max_chunk: 256,
            max_sequences: 8,
            max_context: 4_096,
            num_blocks: 8 * 4_096 / 16,
            num_snapshots: 0,
            window: 1,
            num_sliding_layers: 0,
        };
        let vocab_size = Tokenizer::o200k_harmony().vocab_size() as usize;
        Scripted {
            scripts,
            begun: 0,
            limits,
            vocab_size,
            sequences: HashMap::new(),
            prompt: Arc::default(),
            next: Vec::new(),
            gate: None,
        }
    }

    pub(crate) fn with_limits(mut self, change: impl FnOnce(&mut ExecutorLimits)) -> Scripted {
        change(&mut self.limits);
        self
    }

    /// Where the last prompt can be read.
    pub(crate) fn prompt(&self) -> Arc<Mutex<Vec<u32>>> {
        Arc::clone(&self.prompt)
    }

    pub(crate) fn with_gate(mut self, gate: mpsc::Receiver<()>) -> Scripted {
        self.gate = Some(gate);
        self
    }
}

impl Executor for Scripted {
    fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    fn limits(&self) -> ExecutorLimits {
        self.limits
    }

    fn execute(&mut self, plan: &StepPlan) -> Result<(), ExecutorError> {
        if let Some(gate) = &self.gate {
            // A sender that is gone opens the gate.
            let _ = gate.recv();
        }
        self.next.clear();
        for (row, &position) in plan.positions.iter().enumerate() {
            let ring = plan.rings[plan.sequences[row] as usize];
            let mut prompt = self.prompt.lock().unwrap();
            if position == 0 {
                self.sequences.remove(&ring);
                prompt.clear();
            }
            if !self.sequences.contains_key(&ring) {
                prompt.push(plan.token_ids[row]);
            }
        }
        for (&row, part) in plan.logit_rows.iter().zip(&plan.scheduled) {
            if !part.gives_token {
                self.next.push(0);
                continue;
            }
            let ring = part.ring;
            let length = plan.positions[row as usize] as usize + 1;
            let count = self.scripts.len();
            let (prompt, script) = *self.sequences.entry(ring).or_insert_with(|| {
                self.begun += 1;
                (length, (self.begun - 1) % count)
            });
            let script = &self.scripts[script];
            self.next.push(script[(length - prompt).min(script.len() - 1)]);
        }
        Ok(())
    }

    fn logits(&mut self, logit_row: usize, out: &mut [f32]) -> Result<(), ExecutorError> {
        out.fill(0.0);
        out[self.next[logit_row] as usize] = FORCED_LOGIT;
        Ok(())
    }
}

/// Ids of `text`, in which `<|start|>` and the like are control tokens.
pub(crate) fn harmony(text: &str) -> Vec<u32> {
    let tokenizer = Tokenizer::o200k_harmony();
    let mut ids = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("<|") {
        let end = at + rest[at..].find("|>").expect("a control token ends with |>") + 2;
        tokenizer.encode_into(&rest[..at], &mut ids);
        ids.push(tokenizer.special_id(&rest[at..end]).expect("a control token of Harmony"));
        rest = &rest[end..];
    }
    tokenizer.encode_into(rest, &mut ids);
    ids
}

/// One token for each byte of `text`.
pub(crate) fn bytewise(text: &str) -> Vec<u32> {
    let tokenizer = Arc::clone(&Tokenizer::o200k_harmony());
    let id_of = |byte: u8| (0..256).find(|&id| tokenizer.token_bytes(id) == Some(&[byte]));
    text.bytes().map(|byte| id_of(byte).expect("o200k begins with the 256 bytes")).collect()
}
