//! The longest context, end to end: 131,072 tokens through the forward pass, against a float64 evaluation.

use serde_json::Value;
use sostenuto_formats::{Checkpoint, Loading};
use sostenuto_kernels_cpu::Isa;
use sostenuto_model::{Model, ModelLimits};
use sostenuto_ops::{KV_BLOCK_SLOTS, KvCopy, KvDtype};

use crate::support::{Sequence, cpu, golden_folder};

/// Largest absolute difference to the float64 logits.
const TOLERANCE: f32 = 2e-4;

/// Rows of a step.
const CHUNK: usize = 2048;

/// Token ids of the generator that `long.py` describes.
fn prompt(seed: u64, len: usize) -> Vec<u32> {
    let mut state = seed;
    let mut next = || {
        state = (1_103_515_245 * state + 12_345) % (1 << 31);
        4 + ((state >> 16) % 124) as u32
    };
    (0..len).map(|_| next()).collect()
}

fn rows(golden: &Value) -> Vec<Vec<f32>> {
    let row = |row: &Value| row.as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect();
    golden["logits"].as_array().unwrap().iter().map(row).collect()
}

#[test]
fn context_of_131072_tokens_gives_the_logits_of_the_float64_pass_to_its_last_position() {
    let folder = golden_folder().join("long");
    let golden: Value = serde_json::from_slice(&std::fs::read(folder.join("golden.json")).unwrap()).unwrap();
    let number = |field: &str| golden[field].as_u64().unwrap();
    let (len, last) = (number("length") as usize, number("last_k") as usize);
    let checkpoint = Checkpoint::open(&folder, Loading::Read).unwrap();
    assert_eq!((len, checkpoint.config().max_position_embeddings), (131_072, 131_072));
    let limits = ModelLimits {
        max_step_rows: CHUNK,
        max_logit_rows: last,
        max_sequences: 2,
        max_context: len,
        kv_tokens: len,
        window_snapshots: 1,
        kv_dtype: KvDtype::F32,
    };
    let backend = cpu(Isa::best(), 2).expect("the best instruction set is there");
    let mut model = Model::load(&checkpoint, backend, &limits).unwrap();
    // Every block of the pool, from the last to the first.
    let blocks: Vec<u32> = (0..(len / KV_BLOCK_SLOTS) as u32).rev().collect();
    let mut sequence = Sequence { ring: 1, blocks: blocks.clone(), computed: 0 };

    let ids = prompt(number("seed"), len);

    let (start, end) = ids.split_at(len - last);
    start.chunks(CHUNK).for_each(|chunk| drop(sequence.feed(&mut model, chunk, 0)));
    let position = start.len() as u32;
    model.copy_kv(&[KvCopy::SaveWindow { ring: 1, position, snapshot: 0 }]).unwrap();
    let logits = sequence.feed(&mut model, end, last);
    assert_eq!(sequence.computed - 1, 131_071, "the last position there is");
    let distances = logits.concat().into_iter().zip(rows(&golden).concat()).map(|(a, b)| (a - b).abs());
    let worst = distances.fold(0.0, |worst: f32, d| if d > worst { d } else { worst });
    println!("worst distance {worst:e}, tolerance {TOLERANCE:e}");
    assert!(worst <= TOLERANCE, "max |Δ| {worst:e}, tolerance {TOLERANCE:e}");

    model.copy_kv(&[KvCopy::RestoreWindow { snapshot: 0, position, ring: 0 }]).unwrap();
    let mut resumed = Sequence { ring: 0, blocks, computed: start.len() };
    assert_eq!(resumed.feed(&mut model, end, last), logits, "resumed by the window's snapshot");
}
