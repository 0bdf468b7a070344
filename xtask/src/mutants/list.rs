//! Public bugs of other engines, as edits of ours.
//!
//! Each names a public thread, or the property of DESIGN that it breaks where no single thread stands for it.

/// One edit: `old` occurs exactly once in `file`.
#[derive(Debug)]
pub(crate) struct Edit {
    /// Path in the repository.
    pub(crate) file: &'static str,
    /// Text to be replaced.
    pub(crate) old: &'static str,
    /// Text to put there.
    pub(crate) new: &'static str,
}

/// A bug to plant.
#[derive(Debug)]
pub(crate) struct Mutant {
    /// What goes wrong.
    pub(crate) name: &'static str,
    /// Where it went wrong.
    pub(crate) source: &'static str,
    /// How it goes wrong here.
    pub(crate) edits: &'static [Edit],
}

const ADMISSION: &str = "crates/engine/src/scheduler/admission.rs";
const CORE: &str = "crates/engine/src/core.rs";
const ENDING: &str = "crates/engine/src/scheduler/ending.rs";
const PROGRESS: &str = "crates/engine/src/scheduler/progress.rs";
const SCHEDULER: &str = "crates/engine/src/scheduler/mod.rs";
const BLOCKS: &str = "crates/engine/src/kv/block_pool.rs";
const SNAPSHOTS: &str = "crates/engine/src/kv/snapshot_pool.rs";
const HASH: &str = "crates/engine/src/kv/prefix_hash.rs";
const LIMITS: &str = "crates/engine/src/limits.rs";
const QUEUE: &str = "crates/engine/src/queue.rs";
const SEQUENCE: &str = "crates/engine/src/sequence.rs";

/// The list.
pub(crate) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "sliding-window memory leaks",
        source: "sglang #27789",
        edits: &[Edit { file: ENDING, old: "        self.free_rings.push_back(ring);\n", new: "" }],
    },
    Mutant {
        name: "one block of each sequence leaks",
        source: "sglang #27586",
        edits: &[Edit {
            file: ENDING,
            old: "running.blocks.drain(..).rev()",
            new: "running.blocks.drain(..).rev().skip(1)",
        }],
    },
    Mutant {
        name: "promised blocks leak",
        source: "sglang #29662",
        edits: &[Edit {
            file: ENDING,
            old: "        self.pool.forgo(running.promised_blocks());\n",
            new: "",
        }],
    },
    Mutant {
        name: "block is freed twice",
        source: "sglang swa_radix_cache lock counters",
        edits: &[Edit {
            file: ENDING,
            old: "for_each(|block| self.pool.release(block));",
            new: "for_each(|block| { self.pool.release(block); self.pool.release(block) });",
        }],
    },
    Mutant {
        name: "a hit does not raise the reference count",
        source: "sglang swa_radix_cache lock counters",
        edits: &[Edit { file: ADMISSION, old: "        pool.share(block);\n", new: "" }],
    },
    Mutant {
        name: "block that a hit holds can still be evicted",
        source: "sglang #34870",
        edits: &[Edit {
            file: BLOCKS,
            old: "            self.unlink(block);\n            self.counts.cached -= 1;\n            self.counts.held",
            new: "            self.counts.cached -= 1;\n            self.counts.held",
        }],
    },
    Mutant {
        name: "evicted block keeps its name",
        source: "sglang swa_tombstone",
        edits: &[Edit {
            file: BLOCKS,
            old: "take().expect(\"a cached block can be found\");\n        self.by_prefix.remove(&prefix);",
            new: "take().expect(\"a cached block can be found\");\n        let _ = prefix;",
        }],
    },
    Mutant {
        name: "newest cached block is evicted first",
        source: "vllm #48435",
        edits: &[Edit {
            file: BLOCKS,
            old: "let block = BlockId(self.oldest);",
            new: "let block = BlockId(self.newest);",
        }],
    },
    Mutant {
        name: "prefix hash without the blocks before",
        source: "CVE-2025-25183",
        edits: &[Edit {
            file: HASH,
            old: "Sha256::new_with_prefix(self.0)",
            new: "Sha256::new_with_prefix(b\"block\")",
        }],
    },
    Mutant {
        name: "prefix hash without the key",
        source: "vllm RFC #16016",
        edits: &[Edit {
            file: HASH,
            old: "        hasher.update(key.to_le_bytes());\n",
            new: "        let _ = key;\n        hasher.update([0_u8; 8]);\n",
        }],
    },
    Mutant {
        name: "full hit leaves nothing to compute",
        source: "llama.cpp #21831",
        edits: &[Edit {
            file: ADMISSION,
            old: "(shared_blocks * BLOCK_SLOTS).min(sequence.tokens.len() - 1)",
            new: "shared_blocks * BLOCK_SLOTS",
        }],
    },
    Mutant {
        name: "window resumes one token short",
        source: "ds4-on-spark #2",
        edits: &[Edit {
            file: LIMITS,
            old: "self.num_sliding_layers * self.window.saturating_sub(1)",
            new: "(self.num_sliding_layers * self.window.saturating_sub(1)).saturating_sub(1)",
        }],
    },
    Mutant {
        name: "window resumes for one layer only",
        source: "llama.cpp #21749",
        edits: &[Edit {
            file: LIMITS,
            old: "self.num_sliding_layers * self.window.saturating_sub(1)",
            new: "self.num_sliding_layers.min(1) * self.window.saturating_sub(1)",
        }],
    },
    Mutant {
        name: "window is not restored on a hit",
        source: "llama.cpp #13194",
        edits: &[Edit {
            file: ADMISSION,
            old: "            self.copies.push(KvCopy::RestoreWindow { snapshot, position: resume.start as u32, ring });\n",
            new: "",
        }],
    },
    Mutant {
        name: "checkpoint is saved at the wrong position",
        source: "sglang #34870",
        edits: &[Edit {
            file: PROGRESS,
            old: "position: position as u32, snapshot }",
            new: "position: position as u32 - 1, snapshot }",
        }],
    },
    Mutant {
        name: "checkpoint is stale: its place was given away",
        source: "llama.cpp #20671",
        edits: &[Edit {
            file: SNAPSHOTS,
            old: "replace((prefix, kind)) {\n            self.by_hash.remove(&old);",
            new: "replace((prefix, kind)) {\n            let _ = old;",
        }],
    },
    Mutant {
        name: "checkpoint of a window that is not exact",
        source: "llama.cpp #22288",
        edits: &[Edit { file: PROGRESS, old: "position < running.exact_from || ", new: "" }],
    },
    Mutant {
        name: "checkpoint after the ring has wrapped",
        source: "llama.rn #396",
        edits: &[
            Edit {
                file: PROGRESS,
                old: "        let rows_since = running.num_computed_tokens - position;\n        assert!(rows_since <= self.limits.executor.ring_slack(), \"the ring still holds the window\");\n",
                new: "",
            },
            Edit {
                file: PROGRESS,
                old: "let blocks = self.running(ring).num_computed_tokens / BLOCK_SLOTS;\n        if blocks > 0",
                new: "let blocks = (self.running(ring).num_computed_tokens / BLOCK_SLOTS).saturating_sub(1);\n        if blocks > 0",
            },
        ],
    },
    Mutant {
        name: "checkpoint of numbers that are none",
        source: "vllm #31422",
        edits: &[Edit {
            file: PROGRESS,
            old: "            let before = self.advance(part);\n",
            new: "            let before = self.advance(part);\n            self.save_windows_between(part.ring, before);\n",
        }],
    },
    Mutant {
        name: "blocks of numbers that are none are shared",
        source: "ollama #11729",
        edits: &[Edit { file: CORE, old: "Sampler::check(&self.logits).map(|()| None)", new: "Ok(None)" }],
    },
    Mutant {
        name: "re-run fails by what another left in the ring",
        source: "DESIGN 2",
        edits: &[Edit {
            file: PROGRESS,
            old: "                Err(_) if !self.is_exact(part.ring) => {}\n",
            new: "",
        }],
    },
    Mutant {
        name: "cache outlives a failed step",
        source: "helexa/cortex fc6ef0ee",
        edits: &[Edit { file: ENDING, old: "        self.snapshots.clear();\n", new: "" }],
    },
    Mutant {
        name: "shared block is written by a re-run",
        source: "vllm SlidingWindowManager",
        edits: &[Edit {
            file: ADMISSION,
            old: "kv_write_from: published * BLOCK_SLOTS",
            new: "kv_write_from: 0",
        }],
    },
    Mutant {
        name: "block that is not complete is shared",
        source: "TensorRT-LLM copy_on_partial_reuse",
        edits: &[Edit {
            file: PROGRESS,
            old: "running.published + 1..=running.num_computed_tokens / BLOCK_SLOTS",
            new: "running.published + 1..=(running.num_computed_tokens + 1) / BLOCK_SLOTS",
        }],
    },
    Mutant {
        name: "admission ignores what is promised to others",
        source: "LM Studio #1484",
        edits: &[Edit {
            file: BLOCKS,
            old: "let fits = self.counts.promised + count <= self.available();",
            new: "let fits = count <= self.available();",
        }],
    },
    Mutant {
        name: "sequence outgrows its promise",
        source: "vllm #33155",
        edits: &[Edit {
            file: ADMISSION,
            old: "running.sequence.tokens.len() > running.reserved_tokens",
            new: "running.sequence.tokens.len() > running.reserved_tokens + 1",
        }],
    },
    Mutant {
        name: "preempted again and again",
        source: "vllm RECOMPUTE preemption",
        edits: &[Edit {
            file: ADMISSION,
            old: "sequence.was_preempted = true;",
            new: "sequence.was_preempted = false;",
        }],
    },
    Mutant {
        name: "preempted sequence forgets its tokens",
        source: "Dynamo request migration",
        edits: &[Edit {
            file: ADMISSION,
            old: "sequence.was_preempted = true;",
            new: "sequence.was_preempted = true;\n        sequence.tokens.truncate(sequence.prompt_tokens);",
        }],
    },
    Mutant {
        name: "preempted sequence goes on behind the queue",
        source: "TensorRT-LLM GUARANTEED_NO_EVICT",
        edits: &[Edit {
            file: ADMISSION,
            old: "let goes_on = !self.preempted.is_empty();",
            new: "let goes_on = !self.preempted.is_empty() && self.queue.load().requests == 0;",
        }],
    },
    Mutant {
        name: "cancel is lost while decoding",
        source: "llama.cpp #24496",
        edits: &[Edit {
            file: ENDING,
            old: "} else if let Some(ring) = self.ring_of(id) {",
            new: "} else if let Some(ring) = self.ring_of(id).filter(|&ring| !self.running(ring).is_decoding()) {",
        }],
    },
    Mutant {
        name: "cancel is lost during prefill",
        source: "ik_llama #1020",
        edits: &[Edit {
            file: ENDING,
            old: "} else if let Some(ring) = self.ring_of(id) {",
            new: "} else if let Some(ring) = self.ring_of(id).filter(|&ring| self.running(ring).is_decoding()) {",
        }],
    },
    Mutant {
        name: "cancel is lost while queued",
        source: "TGI infer/mod.rs",
        edits: &[Edit {
            file: ENDING,
            old: "if let Some(sequence) = self.queue.remove(id) {",
            new: "if let Some(sequence) = self.queue.remove(id).filter(|_| false) {",
        }],
    },
    Mutant {
        name: "cancelled request still counts as queued",
        source: "TGI queue.rs",
        edits: &[Edit {
            file: QUEUE,
            old: "                self.forget(&sequence);\n                return Some(sequence);",
            new: "                return Some(sequence);",
        }],
    },
    Mutant {
        name: "deadline is ignored in the queue",
        source: "Triton default_timeout_microseconds",
        edits: &[Edit {
            file: QUEUE,
            old: "sequence.deadline.is_some_and(|deadline| deadline <= now)",
            new: "sequence.deadline.is_some_and(|deadline| deadline + now < deadline)",
        }],
    },
    Mutant {
        name: "decoding requests starve a prefill",
        source: "vllm max_num_partial_prefills",
        edits: &[Edit {
            file: SCHEDULER,
            old: "(-i64::from(state(ring).sequence.priority), state(ring).last_prefill)",
            new: "(-i64::from(state(ring).sequence.priority), 0_u64)",
        }],
    },
    Mutant {
        name: "one key starves the others",
        source: "pain.md REQ-I2",
        edits: &[Edit { file: QUEUE, old: "let is_alone = keys.len() == 1;", new: "let is_alone = true;" }],
    },
    Mutant {
        name: "a key loses its turn when the one before it is done",
        source: "DESIGN 4",
        edits: &[
            Edit {
                file: QUEUE,
                old: "            queue.has_turn = false;\n            keys.rotate_left(1);",
                new: "            queue.has_turn = false;\n            keys.rotate_left(1);\n            keys[0].deficit += QUEUE_QUANTUM;",
            },
            Edit {
                file: QUEUE,
                old: "                queue.deficit += QUEUE_QUANTUM;",
                new: "                queue.deficit += 0;",
            },
        ],
    },
    Mutant {
        name: "low priority goes first",
        source: "Triton priorities",
        edits: &[
            Edit {
                file: QUEUE,
                old: "self.classes.values_mut().next()?",
                new: "self.classes.values_mut().next_back()?",
            },
            Edit { file: QUEUE, old: "self.classes.first_entry()?", new: "self.classes.last_entry()?" },
        ],
    },
    Mutant {
        name: "gap in the indexes after a restart",
        source: "llama.cpp X-Conversation-Id resume",
        edits: &[Edit {
            file: SEQUENCE,
            old: "        let prompt_tokens = prompt.len();\n",
            new: "        let prompt_tokens = prompt.len() + generated.len();\n",
        }],
    },
    Mutant {
        name: "penalties forget the tokens before a restart",
        source: "Dynamo request migration",
        edits: &[Edit {
            file: SEQUENCE,
            old: "            generated.iter().for_each(|&token| counts.count_output(token));\n",
            new: "",
        }],
    },
    Mutant {
        name: "request starts twice",
        source: "vllm #51013",
        edits: &[Edit { file: ADMISSION, old: "            sequence.has_started = true;\n", new: "" }],
    },
    Mutant {
        name: "two sequences get one ring",
        source: "llama.cpp #27835",
        edits: &[Edit {
            file: ADMISSION,
            old: "self.free_rings.pop_front().expect(\"a ring is free\")",
            new: "*self.free_rings.front().expect(\"a ring is free\")",
        }],
    },
    Mutant {
        name: "preempted requests are lost with the device",
        source: "vllm RFC #27866",
        edits: &[Edit {
            file: ENDING,
            old: "        while let Some(sequence) = self.preempted.pop_front().or_else(|| self.queue.pop()) {\n            self.totals.failed += 1;",
            new: "        while let Some(sequence) = self.queue.pop() {\n            self.totals.failed += 1;",
        }],
    },
];
