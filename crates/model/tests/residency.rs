//! What is in memory after a load is what the device holds. Apart from the other tests, because it measures the whole
//! process; Linux alone says what is to be measured.

use std::fs;
use std::path::Path;

use sostenuto_formats::{Checkpoint, Loading, ModelConfig, write_synthetic};
use sostenuto_kernels_cpu::{CpuBackend, CpuOptions};
use sostenuto_model::{Model, ModelLimits, WeightLoading, kept_weight_bytes};
use sostenuto_ops::scalar::ScalarBackend;
use sostenuto_ops::{Backend, KvDtype, Precision};

/// What allocators, threads and the surroundings of a page fault may add.
const SLACK_BYTES: u64 = 12 << 20;

/// Experts, other matrices that are packed, and an embedding that is not; the last weight and the KV memory are larger
/// than the slack.
fn config() -> ModelConfig {
    ModelConfig {
        vocab_size: 32_768,
        hidden_size: 512,
        intermediate_size: 768,
        num_attention_heads: 32,
        num_local_experts: 32,
        num_hidden_layers: 4,
        layer_types: ModelConfig::gpt_oss_20b().layer_types[..4].to_vec(),
        eos_token_id: vec![1],
        bos_token_id: None,
        pad_token_id: None,
        ..ModelConfig::gpt_oss_20b()
    }
}

fn limits() -> ModelLimits {
    ModelLimits {
        max_step_rows: 16,
        max_logit_rows: 1,
        max_sequences: 1,
        max_context: 64,
        kv_tokens: 8192,
        window_snapshots: 0,
        kv_dtype: KvDtype::Bf16,
    }
}

/// Resident bytes that belong to no file, and those of files.
fn resident_bytes() -> Option<[u64; 2]> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
    };
    Some([field("RssAnon")?, field("RssFile")?])
}

fn cpu(precision: Precision) -> Box<dyn Backend> {
    Box::new(CpuBackend::new(CpuOptions { threads: 2, precision, isa: None }).unwrap())
}

/// Bytes that a load adds, of no file and of files; and those that the device says it holds.
fn load(folder: &Path, loading: Loading, make_resident: bool, backend: Box<dyn Backend>) -> ([u64; 2], u64) {
    let before = resident_bytes().unwrap();
    let checkpoint = Checkpoint::open_unread(folder, loading).unwrap();
    let mut last = 0;
    let mut weights = WeightLoading {
        make_resident,
        drop_cached: false,
        on_progress: &mut |done| {
            assert!(done > last);
            last = done;
        },
    };
    let model = Model::load_with(&checkpoint, backend, &limits(), &mut weights).unwrap();
    assert_eq!(last, checkpoint.total_bytes());
    let after = resident_bytes().unwrap();
    (std::array::from_fn(|i| after[i].saturating_sub(before[i])), model.memory().total() as u64)
}

#[track_caller]
fn expect(what: &str, found: u64, expected: u64) {
    let agrees = found + SLACK_BYTES >= expected && found <= expected + SLACK_BYTES;
    assert!(agrees, "{what}: {found} bytes are resident, expected {expected}");
}

#[test]
fn after_a_load_what_the_device_holds_is_in_memory_and_nothing_beside_it() {
    if resident_bytes().is_none() {
        println!("skipped: no /proc/self/status");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let config = config();
    write_synthetic(folder.path(), &config, 1, &mut |_, _| {}).unwrap();
    let kept = |precision| kept_weight_bytes(&config, &*cpu(precision)) as u64;
    let all = Checkpoint::open_unread(folder.path(), Loading::Mmap).unwrap().total_bytes();
    let [kept_fast, kept_exact] = [Precision::Fast, Precision::Exact].map(kept);
    assert!(kept_fast > 3 * SLACK_BYTES / 2 && all > kept_fast + 4 * SLACK_BYTES, "{kept_fast} of {all}");
    assert!(kept_exact <= all && kept_exact + SLACK_BYTES > all, "{kept_exact} of {all}");
    // The first device of a process brings pages of the program and of its heap in.
    load(folder.path(), Loading::Mmap, false, cpu(Precision::Fast));

    let ([anonymous, of_files], held) = load(folder.path(), Loading::Mmap, true, cpu(Precision::Fast));
    expect("packed", anonymous, held - kept_fast);
    expect("mapped beside packed", of_files, kept_fast);

    let ([anonymous, of_files], held) = load(folder.path(), Loading::Read, true, cpu(Precision::Fast));
    expect("read and packed", anonymous, held);
    expect("of files, where they are read", of_files, 0);

    let ([anonymous, of_files], held) = load(folder.path(), Loading::Mmap, true, cpu(Precision::Exact));
    expect("beside mapped", anonymous, held - kept_exact);
    expect("mapped", of_files, kept_exact);

    let ([_, of_files], _) = load(folder.path(), Loading::Mmap, false, cpu(Precision::Exact));
    expect("mapped and not asked for", of_files, 0);

    let ([anonymous, of_files], held) =
        load(folder.path(), Loading::Mmap, true, Box::new(ScalarBackend::new()));
    expect("copied", anonymous, held);
    expect("mapped beside copied", of_files, 0);
}
