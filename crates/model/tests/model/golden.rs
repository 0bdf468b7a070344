//! Logits and greedy continuations against Hugging Face transformers and OpenAI's gpt-oss torch model.
//!
//! Each mistake below was made on purpose in the model or the CPU kernels and seen to fail
//! `cpu_backend_gives_the_logits_of_both_references`:
//!
//! - window one too wide, one too narrow;
//! - sinks left out, scaled like the scores, in reverse order of heads;
//! - YaRN: ramp's ends rounded, no concentration, its square root, plain RoPE, linear interpolation; rotation the other
//!   way;
//! - gate and up swapped, their biases taken as halves; no clamp, gate clamped on both sides, up clamped above only;
//! - alpha 1.7, plain SiLU, no `up + 1`;
//! - softmax before the choice of experts, experts by the smallest logit;
//! - router, qkv, out and down biases ignored; norms' eps 1e-6, the two norms of a layer exchanged;
//! - scores scaled by the hidden size per head, attention without the residual, unembedding tied to the embedding;
//! - layers in reverse order, KV heads exchanged, rotation of neighbouring pairs;
//! - E8M0 bias 126, nibbles of a byte exchanged.
//!
//! `tools/golden/logits/README.md` has how far each of these and the other known mistakes moves the logits.

use serde_json::Value;
use sostenuto_kernels_cpu::Isa;
use sostenuto_ops::Backend;

use crate::support::{Sequence, argmax, checkpoint, cpu, golden_folder, load, scalar};

/// One entry of `goldens.json`.
struct Golden {
    checkpoint: String,
    layouts: Vec<String>,
    prompt: Vec<u32>,
    last_k: usize,
    vocab_size: usize,
    tolerance: f32,
    references: Vec<(String, Vec<f32>)>,
    greedy: Vec<u32>,
}

fn goldens() -> Vec<Golden> {
    let index = std::fs::read(golden_folder().join("goldens.json")).unwrap();
    let logits = std::fs::read(golden_folder().join("logits.bin")).unwrap();
    let index: Vec<Value> = serde_json::from_slice(&index).unwrap();
    index.iter().map(|entry| golden(entry, &logits)).collect()
}

fn golden(entry: &Value, logits: &[u8]) -> Golden {
    let ids =
        |value: &Value| value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
    let size = |value: &Value| value.as_u64().unwrap() as usize;
    let references = entry["references"].as_object().unwrap().iter().map(|(name, place)| {
        let bytes = &logits[size(&place["offset"])..][..size(&place["count"]) * 4];
        let values = bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        (name.clone(), values)
    });
    Golden {
        checkpoint: entry["checkpoint"].as_str().unwrap().into(),
        layouts: entry["layouts"].as_array().unwrap().iter().map(|l| l.as_str().unwrap().into()).collect(),
        prompt: ids(&entry["prompt"]),
        last_k: size(&entry["last_k"]),
        vocab_size: size(&entry["vocab_size"]),
        tolerance: entry["tolerance"].as_f64().unwrap() as f32,
        references: references.collect(),
        greedy: ids(&entry["greedy"]),
    }
}

/// Runs every golden on a device, prompt whole or in chunks, and returns how far the worst logit is from a reference,
/// as a share of its tolerance.
fn check(make_backend: impl Fn() -> Box<dyn Backend>, chunk: usize) -> f32 {
    let mut worst_share = 0f32;
    for golden in goldens() {
        for layout in &golden.layouts {
            let name = format!("{} ({layout}), {} tokens", golden.checkpoint, golden.prompt.len());
            let mut model = load(&checkpoint(&golden.checkpoint, layout), make_backend());
            let mut sequence = Sequence::new(1);
            let (start, last) = golden.prompt.split_at(golden.prompt.len() - golden.last_k);
            start.chunks(chunk).for_each(|ids| drop(sequence.feed(&mut model, ids, 0)));
            let logits = sequence.feed(&mut model, last, golden.last_k);
            let flat = logits.concat();
            assert_eq!(flat.len(), golden.last_k * golden.vocab_size, "{name}");
            for (reference, expected) in &golden.references {
                let distance = max_distance(&flat, expected);
                assert!(
                    distance <= golden.tolerance,
                    "{name}: max |Δ| to {reference} is {distance:e}, tolerance {:e}",
                    golden.tolerance
                );
                worst_share = worst_share.max(distance / golden.tolerance);
            }
            let continuation = continue_greedily(&mut model, &mut sequence, logits, golden.greedy.len());
            assert_eq!(continuation, golden.greedy, "{name}: greedy continuation");
        }
    }
    worst_share
}

fn continue_greedily(
    model: &mut sostenuto_model::Model,
    sequence: &mut Sequence,
    mut logits: Vec<Vec<f32>>,
    count: usize,
) -> Vec<u32> {
    (0..count)
        .map(|_| {
            let id = argmax(logits.last().expect("logits of the last position"));
            logits = sequence.feed(model, &[id], 1);
            id
        })
        .collect()
}

fn max_distance(ours: &[f32], reference: &[f32]) -> f32 {
    assert_eq!(ours.len(), reference.len());
    ours.iter()
        .zip(reference)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, |worst, d| if d > worst { d } else { worst })
}

#[test]
fn scalar_device_gives_the_logits_of_both_references() {
    let share = check(scalar, usize::MAX);
    println!("worst distance {share:.3} of its tolerance");
}

#[test]
fn cpu_backend_gives_the_logits_of_both_references() {
    for isa in Isa::ALL {
        let Some(_) = cpu(isa, 1) else { continue };
        let share = check(|| cpu(isa, 2).expect("the instruction set is there"), 37);
        println!("{}: worst distance {share:.3} of its tolerance", isa.name());
    }
}
