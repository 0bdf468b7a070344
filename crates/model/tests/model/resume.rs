//! A sequence that goes on from a kept prefix has the bits of one that was computed from the start.
//!
//! Wherever a sequence resumes, its new ring and its own blocks hold NaN or another sequence's rows before: what must
//! not be read would show.

use std::path::Path;

use sostenuto_formats::{Checkpoint, LayerType, Loading, ModelConfig};
use sostenuto_kernels_cpu::Isa;
use sostenuto_model::{Model, ModelLimits};
use sostenuto_ops::{Backend, KV_BLOCK_SLOTS, KvCopy, KvDtype, Precision};

use crate::support::{Sequence, cpu_in, golden_folder, limits, scalar};

/// A device, and how keys and values are kept on it.
struct Device {
    name: String,
    kv_dtype: KvDtype,
    make: Box<dyn Fn() -> Box<dyn Backend>>,
}

/// A token whose embedding is NaN, in the checkpoints of [`poisoned`].
const NAN_TOKEN: u32 = 0;

/// Most rows of a step: rings are used several times over.
const MAX_CHUNK: usize = 32;

/// What ring and blocks of a sequence hold before it resumes.
#[derive(Clone, Copy, Debug)]
enum Stale {
    Nan,
    OtherTokens,
}

impl Device {
    /// A model with small limits.
    fn load(&self, checkpoint: &Checkpoint, limits: ModelLimits) -> Model {
        let limits = ModelLimits { kv_dtype: self.kv_dtype, ..limits };
        Model::load(checkpoint, (self.make)(), &limits).unwrap()
    }
}

/// Every device there is, the fast ones with keys and values in bf16 and in 8 bits.
fn devices() -> Vec<Device> {
    let name = "scalar device".to_owned();
    let mut devices = vec![Device { name, kv_dtype: KvDtype::F32, make: Box::new(scalar) }];
    for isa in Isa::ALL {
        for (precision, kv_dtype) in [
            (Precision::Exact, KvDtype::F32),
            (Precision::Fast, KvDtype::Bf16),
            (Precision::Fast, KvDtype::Int8),
        ] {
            if cpu_in(precision, isa, 1).is_some() {
                let make = move || cpu_in(precision, isa, 2).expect("the instruction set is there");
                let name = format!("{} {precision:?} {kv_dtype:?}", isa.name());
                devices.push(Device { name, kv_dtype, make: Box::new(make) });
            }
        }
    }
    devices
}

/// A golden checkpoint with the embedding of [`NAN_TOKEN`] replaced by NaN.
fn poisoned(name: &str) -> Checkpoint {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(golden_folder().join("checkpoints").join(name)).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let mut bytes = std::fs::read(&path).unwrap();
            if path.extension().is_some_and(|extension| extension == "safetensors") {
                poison_embedding(&mut bytes);
            }
            std::fs::write(folder.path().join(path.file_name().unwrap()), bytes).unwrap();
        }
    }
    open(folder.path())
}

/// Overwrites row [`NAN_TOKEN`] of the embedding in a safetensors file, if it holds one.
fn poison_embedding(file: &mut [u8]) {
    let header_len = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&file[8..8 + header_len]).unwrap();
    let embedding = &header["model.embed_tokens.weight"];
    let Some(start) = embedding["data_offsets"][0].as_u64() else { return };
    let row_bytes = 2 * embedding["shape"][1].as_u64().unwrap() as usize;
    let start = 8 + header_len + start as usize + NAN_TOKEN as usize * row_bytes;
    for value in file[start..start + row_bytes].chunks_exact_mut(2) {
        value.copy_from_slice(&0x7fc0_u16.to_le_bytes());
    }
}

fn open(folder: &Path) -> Checkpoint {
    Checkpoint::open(folder, Loading::Read).unwrap()
}

/// A small counter-based generator.
struct Random(u64);

impl Random {
    /// Uniform in `range`.
    fn within(&mut self, range: std::ops::Range<usize>) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        range.start + ((z ^ (z >> 31)) % range.len() as u64) as usize
    }

    fn prompt(&mut self, len: usize) -> Vec<u32> {
        (0..len).map(|_| self.within(4..128) as u32).collect()
    }
}

/// The rows that fill the rings without a snapshot.
fn rerun_rows(config: &ModelConfig) -> usize {
    let sliding = config.layer_types.iter().filter(|&&kind| kind == LayerType::SlidingAttention).count();
    (config.sliding_window - 1) * sliding
}

/// A prompt, computed from the start in ring 0 of a model, with its logits after every row from `split` on.
struct Scene {
    model: Model,
    prompt: Vec<u32>,
    split: usize,
    original: Sequence,
    from_scratch: Vec<Vec<f32>>,
}

impl Scene {
    fn new(checkpoint: &Checkpoint, device: &Device, prompt: Vec<u32>, split: usize) -> Self {
        let mut model = device.load(checkpoint, ModelLimits { max_step_rows: MAX_CHUNK, ..limits() });
        let mut original = Sequence::new(0);
        prompt[..split].chunks(MAX_CHUNK).for_each(|chunk| drop(original.feed(&mut model, chunk, 0)));
        let save = KvCopy::SaveWindow { ring: 0, position: split as u32, snapshot: 1 };
        model.copy_kv(&[save]).unwrap();
        let from_scratch = feed_rows(&mut original, &mut model, &prompt[split..], 0);
        assert!(from_scratch.concat().iter().all(|logit| logit.is_finite()));
        Self { model, prompt, split, original, from_scratch }
    }

    /// A sequence in ring 1 that has computed nothing, with the prefix' whole blocks shared and the one that is part
    /// prefix copied.
    fn resumed(&mut self, stale: Stale, random: &mut Random) -> Sequence {
        let mut sequence = Sequence::new(1);
        let tokens = match stale {
            Stale::Nan => vec![NAN_TOKEN; self.prompt.len()],
            Stale::OtherTokens => random.prompt(self.prompt.len()),
        };
        tokens.chunks(MAX_CHUNK).for_each(|chunk| drop(sequence.feed(&mut self.model, chunk, 0)));
        let shared = self.split / KV_BLOCK_SLOTS;
        if !self.split.is_multiple_of(KV_BLOCK_SLOTS) {
            let (from, to) = (self.original.blocks[shared], sequence.blocks[shared]);
            self.model.copy_kv(&[KvCopy::Block { from, to }]).unwrap();
        }
        sequence.blocks[..shared].copy_from_slice(&self.original.blocks[..shared]);
        sequence
    }

    /// Logits from `split` on of a resumed sequence whose rings are rebuilt by `rows` rows before `split`, in chunks.
    fn rerun(&mut self, rows: usize, stale: Stale, random: &mut Random) -> Vec<Vec<f32>> {
        let mut sequence = self.resumed(stale, random);
        sequence.computed = self.split - rows;
        while sequence.computed < self.split {
            let left = self.split - sequence.computed;
            let chunk = &self.prompt[sequence.computed..][..random.within(1..left.min(MAX_CHUNK) + 1)];
            sequence.feed_from(&mut self.model, chunk, 0, self.split);
        }
        feed_rows(&mut sequence, &mut self.model, &self.prompt[self.split..], self.split)
    }
}

/// Logits after each of `ids`, which are run in chunks of as many as can be read.
fn feed_rows(sequence: &mut Sequence, model: &mut Model, ids: &[u32], kv_write_from: usize) -> Vec<Vec<f32>> {
    let chunks = ids.chunks(model.limits().max_logit_rows);
    chunks.flat_map(|chunk| sequence.feed_from(model, chunk, chunk.len(), kv_write_from)).collect()
}

/// Bits, so that NaN equals NaN.
fn bits(rows: &[Vec<f32>]) -> Vec<u32> {
    rows.iter().flatten().map(|logit| logit.to_bits()).collect()
}

/// Runs a check on every device with prompts of three checkpoints that are split at random points, all of them with
/// room for a whole re-run before the split.
fn at_random_splits(mut check: impl FnMut(&str, Scene, &mut Random)) {
    // Windows of 16, 8 and 128; two, three and one sliding layers.
    for (name, splits) in [("window16", 4), ("experts16", 3), ("base", 1)] {
        let checkpoint = poisoned(name);
        let rerun = rerun_rows(checkpoint.config());
        for device in devices() {
            let mut random = Random(7);
            for _ in 0..splits {
                let split = random.within(rerun..rerun + 60);
                let len = split + random.within(1..20);
                let prompt = random.prompt(len);
                let scene = Scene::new(&checkpoint, &device, prompt, split);
                let label = format!("{name}, {}, split at {split} of {}", device.name, scene.prompt.len());
                check(&label, scene, &mut random);
            }
        }
    }
}

#[test]
fn restored_window_and_shared_blocks_give_the_bits_of_a_run_from_the_start() {
    at_random_splits(|label, mut scene, random| {
        let mut sequence = scene.resumed(Stale::Nan, random);
        let restore = KvCopy::RestoreWindow { snapshot: 1, position: scene.split as u32, ring: 1 };
        scene.model.copy_kv(&[restore]).unwrap();
        sequence.computed = scene.split;
        let resumed = feed_rows(&mut sequence, &mut scene.model, &scene.prompt[scene.split..], 0);
        assert_eq!(bits(&resumed), bits(&scene.from_scratch), "{label}");
    });
}

#[test]
fn rerun_of_window_less_one_per_sliding_layer_gives_the_bits_of_a_run_from_the_start() {
    at_random_splits(|label, mut scene, random| {
        let rows = rerun_rows(scene.model.config());
        for stale in [Stale::Nan, Stale::OtherTokens] {
            let resumed = scene.rerun(rows, stale, random);
            assert_eq!(bits(&resumed), bits(&scene.from_scratch), "{label}, {stale:?}");
        }
    });
}

#[test]
fn rerun_of_a_row_fewer_gives_other_bits() {
    at_random_splits(|label, mut scene, random| {
        let rows = rerun_rows(scene.model.config()) - 1;
        for stale in [Stale::Nan, Stale::OtherTokens] {
            // What other tokens change may get lost where keys and values are rounded to bf16.
            if matches!(stale, Stale::OtherTokens) && label.contains("Bf16") {
                continue;
            }
            let resumed = scene.rerun(rows, stale, random);
            assert_ne!(bits(&resumed[..1]), bits(&scene.from_scratch[..1]), "{label}, {stale:?}");
        }
    });
}

#[test]
fn rerun_from_the_start_of_a_short_prefix_gives_the_bits_of_a_run_from_the_start() {
    let checkpoint = poisoned("window16");
    for device in devices() {
        let mut random = Random(8);
        let split = random.within(1..rerun_rows(checkpoint.config()));
        let prompt = random.prompt(split + 9);
        let mut scene = Scene::new(&checkpoint, &device, prompt, split);
        let resumed = scene.rerun(split, Stale::Nan, &mut random);
        assert_eq!(bits(&resumed), bits(&scene.from_scratch), "{}, split at {split}", device.name);
    }
}

#[test]
fn window_can_be_saved_before_each_of_the_newest_sixteen_positions_of_a_decoding_sequence() {
    let checkpoint = poisoned("window16");
    for device in devices() {
        let mut random = Random(9);
        let prompt = random.prompt(70);
        let limits = ModelLimits { max_step_rows: 1, max_logit_rows: 1, ..limits() };
        let mut model = device.load(&checkpoint, limits);
        let mut original = Sequence::new(0);
        let mut logits = Vec::new();
        for id in &prompt {
            logits.extend(original.feed(&mut model, &[*id], 1));
        }
        for back in 1..=16 {
            let position = prompt.len() - back;
            let mut stale = Sequence::new(1);
            (0..40).for_each(|_| drop(stale.feed(&mut model, &[NAN_TOKEN], 1)));
            model
                .copy_kv(&[
                    KvCopy::SaveWindow { ring: 0, position: position as u32, snapshot: 0 },
                    KvCopy::RestoreWindow { snapshot: 0, position: position as u32, ring: 1 },
                ])
                .unwrap();
            let mut resumed = Sequence { ring: 1, blocks: original.blocks.clone(), computed: position };
            let got = resumed.feed(&mut model, &prompt[position..=position], 1);
            assert_eq!(bits(&got), bits(&logits[position..=position]), "{}, {back} back", device.name);
        }
    }
}
