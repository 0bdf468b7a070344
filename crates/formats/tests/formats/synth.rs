use std::fs;

use sostenuto_formats::codes::{bf16_to_f32, decode_mx_row};
use sostenuto_formats::synth::{SynthError, synthetic_size_bytes, write_synthetic_sharded};
use sostenuto_formats::{Checkpoint, LayerWeight, Loading, ModelConfig, write_synthetic};
use tempfile::TempDir;

use crate::support::*;

/// Wide enough for statistics.
fn statistics_config() -> ModelConfig {
    ModelConfig { hidden_size: 576, intermediate_size: 256, vocab_size: 300, ..micro_config() }
}

fn mean_and_deviation(values: &[f32]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().map(|value| f64::from(*value)).sum::<f64>() / count;
    let variance = values.iter().map(|value| (f64::from(*value) - mean).powi(2)).sum::<f64>() / count;
    (mean, variance.sqrt())
}

#[test]
fn equal_seeds_give_equal_bytes_and_other_seeds_others() {
    let config = micro_config();
    let write = |seed| {
        let folder = TempDir::new().unwrap();
        write_synthetic(folder.path(), &config, seed, &mut |_, _| {}).unwrap();
        fs::read(folder.path().join("model.safetensors")).unwrap()
    };
    assert_eq!(write(3), write(3));
    assert_ne!(write(3), write(4));
}

#[test]
fn how_tensors_are_cut_into_shards_does_not_change_them() {
    let (single, sharded) = (single_file_checkpoint(), sharded_checkpoint());
    let single = Checkpoint::open(single.path(), Loading::Auto).unwrap();
    let sharded = Checkpoint::open(sharded.path(), Loading::Auto).unwrap();
    for (one, other) in single.tensors().zip(sharded.tensors()) {
        let (one, other) = (one.unwrap(), other.unwrap());
        assert_eq!((&one.name, &one.bytes[..]), (&other.name, &other.bytes[..]));
    }
}

#[test]
fn dense_weights_have_their_mean_and_deviation_and_no_two_tensors_are_equal() {
    let folder = TempDir::new().unwrap();
    let config = statistics_config();
    write_synthetic(folder.path(), &config, 5, &mut |_, _| {}).unwrap();
    let checkpoint = Checkpoint::open(folder.path(), Loading::Auto).unwrap();
    let root = (config.hidden_size as f64).sqrt();
    for (name, mean, deviation) in [
        ("model.embed_tokens.weight", 0.0, 1.0),
        ("lm_head.weight", 0.0, 2.0 / root),
        ("model.norm.weight", 1.0, 0.2),
        ("model.layers.0.self_attn.q_proj.weight", 0.0, 1.0 / root),
        ("model.layers.1.self_attn.k_proj.weight", 0.0, 1.0 / root),
        ("model.layers.1.mlp.experts.gate_up_proj_bias", 0.0, 0.5),
    ] {
        let values = checkpoint.tensor(name).unwrap().bf16_to_f32().unwrap();
        let (found_mean, found_deviation) = mean_and_deviation(&values);
        let tolerance = 5.0 * deviation / (values.len() as f64).sqrt();
        assert!((found_mean - mean).abs() < tolerance, "{name}: mean {found_mean}");
        assert!((found_deviation - deviation).abs() < tolerance, "{name}: deviation {found_deviation}");
    }
    let long = checkpoint.tensors().map(Result::unwrap).filter(|tensor| tensor.bytes.len() >= 16);
    let mut starts: Vec<Vec<u8>> = long.map(|tensor| tensor.bytes[..16].to_vec()).collect();
    let count = starts.len();
    starts.sort();
    starts.dedup();
    assert_eq!(starts.len(), count);
}

#[test]
fn expert_weights_keep_activations_at_their_size() {
    let folder = TempDir::new().unwrap();
    let config = statistics_config();
    write_synthetic(folder.path(), &config, 6, &mut |_, _| {}).unwrap();
    let checkpoint = Checkpoint::open(folder.path(), Loading::Auto).unwrap();
    for (blocks, scales, width, target) in [
        (LayerWeight::GateUpBlocks, LayerWeight::GateUpScales, config.hidden_size, 6.0),
        (LayerWeight::DownBlocks, LayerWeight::DownScales, config.intermediate_size, 0.3),
    ] {
        let blocks = checkpoint.weight(layer(1, blocks)).unwrap().remove(0);
        let scales = checkpoint.weight(layer(1, scales)).unwrap().remove(0);
        let mut values = vec![0.0; scales.num_elements() * 32];
        decode_mx_row(&blocks.bytes, &scales.bytes, &mut values);
        let (mean, deviation) = mean_and_deviation(&values);
        let output = deviation * (width as f64).sqrt();
        assert!(mean.abs() < 0.05 * deviation);
        assert!((target / 2.0..target * 2.0).contains(&output), "{output} for {target}");
        let mut kinds = scales.bytes.to_vec();
        kinds.sort();
        kinds.dedup();
        assert_eq!(kinds.len(), 4);
    }
}

#[test]
fn progress_ends_at_the_total_and_never_goes_back() {
    let folder = TempDir::new().unwrap();
    let config = micro_config();
    let mut calls = Vec::new();
    write_synthetic(folder.path(), &config, 1, &mut |done, total| calls.push((done, total))).unwrap();
    let total = synthetic_size_bytes(&config);
    assert!(calls.windows(2).all(|pair| pair[0].0 < pair[1].0));
    assert!(calls.iter().all(|call| call.1 == total));
    assert_eq!(calls.last(), Some(&(total, total)));
    assert_eq!(Checkpoint::open(folder.path(), Loading::Auto).unwrap().total_bytes(), total);
}

#[test]
fn shards_stay_below_their_bound_and_are_numbered_from_zero() {
    let folder = TempDir::new().unwrap();
    write_synthetic_sharded(folder.path(), &micro_config(), 1, 24_000, &mut |_, _| {}).unwrap();
    let paths = shards(folder.path());
    let last = paths.len() - 1;
    for (index, path) in paths.iter().enumerate() {
        assert_eq!(
            path.file_name().unwrap().to_str().unwrap(),
            format!("model-{index:05}-of-{last:05}.safetensors")
        );
        let data: usize = RawFile::read(path).tensors.iter().map(|tensor| tensor.data.len()).sum();
        assert!(data <= 24_000, "{data}");
    }
}

#[test]
fn a_folder_with_files_in_it_is_left_alone() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("notes.txt"), "mine").unwrap();
    let error = write_synthetic(folder.path(), &micro_config(), 1, &mut |_, _| {}).unwrap_err();
    assert!(matches!(error, SynthError::FolderNotEmpty { .. }));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_disk_too_small_is_refused_before_anything_is_written() {
    let folder = TempDir::new().unwrap();
    let config =
        ModelConfig { num_local_experts: 4096, intermediate_size: 1 << 18, ..ModelConfig::gpt_oss_120b() };
    let expected = synthetic_size_bytes(&config);
    assert!(expected > 100_000_000_000_000, "more than any disk these tests run on has free");
    let error = write_synthetic(folder.path(), &config, 1, &mut |_, _| panic!("wrote")).unwrap_err();
    let SynthError::NotEnoughSpace { expected: named, .. } = &error else { panic!("{error}") };
    assert!(*named > expected);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn an_invalid_configuration_is_refused() {
    let folder = TempDir::new().unwrap();
    let config = ModelConfig { hidden_size: 65, ..micro_config() };
    let error = write_synthetic(folder.path(), &config, 1, &mut |_, _| {}).unwrap_err();
    assert_eq!(error.to_string(), "configuration: hidden_size: expected a multiple of 32, found 65");
}

#[test]
fn every_synthetic_number_is_finite() {
    let folder = single_file_checkpoint();
    for tensor in RawFile::read(&folder.path().join("model.safetensors")).tensors {
        if tensor.dtype == "BF16" {
            let values = tensor.data.as_chunks::<2>().0.iter();
            assert!(
                values.map(|pair| bf16_to_f32(u16::from_le_bytes(*pair))).all(f32::is_finite),
                "{}",
                tensor.name
            );
        }
    }
}
