use std::fs;
use std::path::Path;

use sostenuto_formats::summary::Parameters;
use sostenuto_formats::{
    Checkpoint, CheckpointError, Dtype, LayerWeight, Layout, LoadedAs, Loading, ModelConfig, SafetensorsFile,
    SharedBytes, Summary, TensorSpec, WeightRef, expected_tensors,
};

use crate::support::*;

fn open(folder: &Path, loading: Loading) -> Checkpoint {
    Checkpoint::open(folder, loading).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn one_file_shards_and_original_layout_give_the_same_weights_mapped_and_read() {
    let (single, sharded, original) = (single_file_checkpoint(), sharded_checkpoint(), original_checkpoint());
    assert!(shards(sharded.path()).len() >= 3);
    let reference = RawFile::read(&single.path().join("model.safetensors"));
    for (folder, layout) in [
        (single.path(), Layout::HuggingFace),
        (sharded.path(), Layout::HuggingFace),
        (original.path(), Layout::Original),
        (&original.path().join("original"), Layout::Original),
    ] {
        for (loading, loaded_as) in [
            (Loading::Mmap, LoadedAs::Mapped),
            (Loading::Read, LoadedAs::Read),
            (Loading::Auto, LoadedAs::Mapped),
        ] {
            let checkpoint = open(folder, loading);
            assert_eq!((checkpoint.layout(), checkpoint.loaded_as()), (layout, loaded_as));
            for weight in WeightRef::all(checkpoint.config()) {
                let pieces = weight.pieces(checkpoint.config(), Layout::HuggingFace);
                let expected: Vec<u8> =
                    pieces.iter().flat_map(|spec| reference.get(&spec.name).data.clone()).collect();
                let views = checkpoint.weight(weight).unwrap();
                let found: Vec<u8> = views.iter().flat_map(|view| view.bytes.to_vec()).collect();
                assert!(!expected.is_empty());
                assert_eq!(found, expected, "{weight:?} in {}", folder.display());
            }
        }
    }
}

#[test]
fn query_key_and_value_are_three_pieces_in_one_layout_and_one_in_the_other() {
    let config = micro_config();
    let (single, original) = (single_file_checkpoint(), original_checkpoint());
    let shapes = |folder: &Path, weight| -> Vec<Vec<usize>> {
        let views = open(folder, Loading::Auto).weight(layer(1, weight)).unwrap();
        views.into_iter().map(|view| view.shape).collect()
    };
    let (query, key_value) = (config.query_size(), config.key_value_size());
    let hidden = config.hidden_size;
    assert_eq!(
        shapes(single.path(), LayerWeight::QkvWeight),
        [[query, hidden], [key_value, hidden], [key_value, hidden]]
    );
    assert_eq!(shapes(single.path(), LayerWeight::QkvBias), [[query], [key_value], [key_value]]);
    assert_eq!(shapes(original.path(), LayerWeight::QkvWeight), [[query + 2 * key_value, hidden]]);
    assert_eq!(shapes(original.path(), LayerWeight::QkvBias), [[query + 2 * key_value]]);
}

#[test]
fn configuration_comes_from_the_folder_with_stop_tokens_of_generation_config_first() {
    let single = single_file_checkpoint();
    assert_eq!(open(single.path(), Loading::Auto).config(), &micro_config());
    fs::write(single.path().join("generation_config.json"), r#"{"eos_token_id": [9, 5], "bos_token_id": 2}"#)
        .unwrap();
    let config = open(single.path(), Loading::Auto).config().clone();
    assert_eq!(config.eos_token_id, [9, 5]);
    assert_eq!((config.bos_token_id, config.pad_token_id), (Some(2), Some(7)));
    fs::remove_file(single.path().join("generation_config.json")).unwrap();
    assert_eq!(open(single.path(), Loading::Auto).config().eos_token_id, [5]);
}

#[test]
fn configuration_is_read_without_weights_also_that_of_original() {
    let weights = ["model.safetensors", "original/model.safetensors"];
    for (folder, weights) in [single_file_checkpoint(), original_checkpoint()].iter().zip(weights) {
        let expected = open(folder.path(), Loading::Mmap).config().clone();
        assert_eq!(Checkpoint::check(folder.path()).unwrap(), expected);
        fs::remove_file(folder.path().join(weights)).unwrap();
        assert_eq!(Checkpoint::read_config(folder.path()).unwrap(), expected);
        assert!(matches!(Checkpoint::check(folder.path()), Err(CheckpointError::NoWeights { .. })));
    }
    let empty = tempfile::tempdir().unwrap();
    let error = Checkpoint::read_config(empty.path()).unwrap_err();
    assert!(matches!(error, CheckpointError::MissingConfig { .. }), "{error}");
}

#[test]
fn original_configuration_equals_the_hugging_face_one_but_for_tokens() {
    let original = original_checkpoint();
    let config = open(original.path(), Loading::Auto).config().clone();
    let expected = ModelConfig { eos_token_id: vec![], pad_token_id: None, ..micro_config() };
    assert_eq!(config, expected);
}

#[test]
fn original_weights_beside_a_hugging_face_config_use_it() {
    let original = original_checkpoint();
    fs::remove_file(original.path().join("original/config.json")).unwrap();
    fs::write(original.path().join("config.json"), micro_config().to_json()).unwrap();
    let checkpoint = open(original.path(), Loading::Auto);
    assert_eq!(checkpoint.layout(), Layout::Original);
    assert_eq!(checkpoint.config().eos_token_id, [5]);
}

#[test]
fn shards_without_an_index_are_all_read() {
    let sharded = sharded_checkpoint();
    fs::remove_file(sharded.path().join("model.safetensors.index.json")).unwrap();
    assert_eq!(open(sharded.path(), Loading::Auto).files().len(), shards(sharded.path()).len());
}

#[cfg(unix)]
#[test]
fn files_may_be_symbolic_links_as_in_a_download_cache() {
    let sharded = sharded_checkpoint();
    let cache = tempfile::TempDir::new().unwrap();
    for entry in fs::read_dir(sharded.path()).unwrap() {
        let entry = entry.unwrap();
        std::os::unix::fs::symlink(entry.path(), cache.path().join(entry.file_name())).unwrap();
    }
    assert_eq!(
        open(cache.path(), Loading::Auto).total_bytes(),
        open(sharded.path(), Loading::Auto).total_bytes()
    );
}

#[test]
fn a_view_outlives_its_checkpoint_and_its_folder() {
    let single = single_file_checkpoint();
    for loading in [Loading::Mmap, Loading::Read] {
        let checkpoint = open(single.path(), loading);
        let view = checkpoint.tensor("lm_head.weight").unwrap();
        let expected =
            RawFile::read(&single.path().join("model.safetensors")).get("lm_head.weight").data.clone();
        drop(checkpoint);
        let found = std::thread::spawn(move || view.bytes.to_vec()).join().unwrap();
        assert_eq!(found, expected);
    }
}

#[test]
fn tensors_that_are_read_each_start_on_a_64_byte_boundary_in_memory_of_their_own() {
    let single = single_file_checkpoint();
    let file = SafetensorsFile::open(&single.path().join("model.safetensors"), Loading::Read).unwrap();
    for tensor in file.tensors() {
        let tensor = tensor.unwrap();
        assert_eq!(tensor.bytes.as_ptr() as usize % 64, 0, "{}", tensor.name);
        let again = file.tensor(&tensor.name).unwrap().unwrap();
        assert_eq!(&again.bytes[..], &tensor.bytes[..]);
        assert_ne!(again.bytes.as_ptr(), tensor.bytes.as_ptr());
    }
}

#[test]
fn a_file_that_gets_shorter_before_it_is_read_gives_an_error_with_its_name() {
    let single = single_file_checkpoint();
    let path = single.path().join("model.safetensors");
    let file = SafetensorsFile::open(&path, Loading::Read).unwrap();
    let last = file.header().tensors().last().unwrap().name.clone();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(file.len_bytes() - 1).unwrap();
    let error = file.tensor(&last).unwrap().unwrap_err().to_string();
    assert!(error.contains("cannot read") && error.contains("model.safetensors"), "{error}");
}

#[test]
fn weights_come_in_the_order_of_the_files_each_once() {
    let sharded = sharded_checkpoint();
    let checkpoint = open(sharded.path(), Loading::Auto);
    let (all, ordered) = (WeightRef::all(checkpoint.config()), checkpoint.weights_in_file_order());
    assert_eq!(ordered.len(), all.count());
    assert!(WeightRef::all(checkpoint.config()).all(|weight| ordered.contains(&weight)));
    let places: Vec<(usize, usize)> = ordered
        .iter()
        .map(|weight| {
            let place = |spec: TensorSpec| {
                let file = |file: &SafetensorsFile| file.header().get(&spec.name).map(|info| info.begin);
                let mut files = checkpoint.files().iter().enumerate();
                files.find_map(|(index, found)| Some((index, file(found)?))).unwrap()
            };
            let pieces = weight.pieces(checkpoint.config(), checkpoint.layout());
            pieces.into_iter().map(place).min().unwrap()
        })
        .collect();
    assert!(places.is_sorted(), "{places:?}");
}

#[test]
fn ends_of_a_tensor_are_its_first_and_last_bytes() {
    for loading in [Loading::Mmap, Loading::Read] {
        let folder = single_file_checkpoint();
        let checkpoint = open(folder.path(), loading);
        for tensor in checkpoint.tensors() {
            let tensor = tensor.unwrap();
            for len in [0, 1, 64, usize::MAX] {
                let [first, last] = checkpoint.tensor_ends(&tensor.name, len).unwrap();
                let len = len.min(tensor.bytes.len());
                assert_eq!(first, &tensor.bytes[..len]);
                assert_eq!(last, &tensor.bytes[tensor.bytes.len() - len..]);
            }
        }
        let error = checkpoint.tensor_ends("model.nothing", 1).unwrap_err();
        assert!(matches!(error, CheckpointError::UnknownTensor { .. }), "{error}");
    }
}

#[test]
fn a_scale_that_is_no_number_is_found_when_its_weight_is_loaded() {
    let folder = single_file_checkpoint();
    let name = "model.layers.1.mlp.experts.down_proj_scales";
    edit_tensors(&folder.path().join("model.safetensors"), |file| file.get_mut(name).data[3] = 255);
    for loading in [Loading::Mmap, Loading::Read] {
        let checkpoint = Checkpoint::open_unread(folder.path(), loading).unwrap();
        assert!(checkpoint.weight(layer(0, LayerWeight::DownScales)).is_ok());
        let error = checkpoint.weight(layer(1, LayerWeight::DownScales)).unwrap_err();
        assert!(matches!(&error, CheckpointError::NanScale { index: 3, .. }), "{error}");
    }
}

#[test]
fn a_tensor_that_is_not_there_is_an_error_with_its_name() {
    let single = single_file_checkpoint();
    let error = open(single.path(), Loading::Auto).tensor("model.nothing").unwrap_err();
    assert!(
        matches!(&error, CheckpointError::UnknownTensor { name, .. } if name == "model.nothing"),
        "{error}"
    );
}

#[test]
fn slices_of_shared_bytes_stay_within_them() {
    let bytes = SharedBytes::from_vec((0..10).collect());
    let middle = bytes.slice(2..8).unwrap();
    assert_eq!(&middle[..], [2, 3, 4, 5, 6, 7]);
    assert_eq!(&middle.slice(1..3).unwrap()[..], [3, 4]);
    assert!(middle.slice(6..6).unwrap().is_empty());
    assert!(middle.slice(0..7).is_none());
    assert!(middle.slice(7..7).is_none());
    #[allow(clippy::reversed_empty_ranges)]
    let reversed = 3..2;
    assert!(middle.slice(reversed).is_none());
    assert!(middle.slice(usize::MAX - 1..usize::MAX).is_none());
}

#[test]
fn published_models_have_the_published_numbers_of_tensors_parameters_and_bytes() {
    for (config, tensors, bytes, total_billions, active_billions) in [
        (ModelConfig::gpt_oss_20b(), 459, 13_761_264_768_u64, 20.91, 3.61),
        (ModelConfig::gpt_oss_120b(), 687, 65_248_815_744, 116.83, 5.13),
    ] {
        let expected = expected_tensors(&config, Layout::HuggingFace);
        assert_eq!(expected.len(), tensors);
        assert_eq!(expected.iter().map(|spec| spec.size_bytes() as u64).sum::<u64>(), bytes);
        let Parameters { total, active } = Parameters::of(&config);
        let billions = |count: u64| (count as f64 / 1e7).round() / 100.0;
        assert_eq!((billions(total), billions(active)), (total_billions, active_billions));
    }
}

#[test]
fn a_summary_groups_layers_and_counts_bytes_by_element_type() {
    let sharded = sharded_checkpoint();
    let summary = Summary::open(sharded.path(), Loading::Auto).unwrap();
    let blocks = summary
        .groups
        .iter()
        .find(|group| group.name == "model.layers.*.mlp.experts.gate_up_proj_blocks")
        .unwrap();
    assert_eq!((blocks.count, blocks.dtype, blocks.size_bytes), (2, Dtype::U8, 2 * 3 * 64 * 2 * 16));
    assert_eq!(summary.num_tensors(), 3 + 2 * 19);
    assert_eq!(summary.dtypes[&Dtype::U8].0, 2 * 4);
    let model = summary.model.as_ref().unwrap();
    assert_eq!(model.layout, Layout::HuggingFace);
    assert_eq!(summary.total_bytes(), open(sharded.path(), Loading::Auto).total_bytes());
    let text = summary.to_string();
    for word in
        ["Hugging Face", "memory-mapped", "gate_up_proj_blocks", "BF16: 33 tensors", "total: 41 tensors"]
    {
        assert!(text.contains(word), "{word:?} in:\n{text}");
    }
}

#[test]
fn a_single_file_of_any_kind_can_be_summarised() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("adapter.safetensors");
    let tensor =
        RawTensor { name: "a.7.b".into(), dtype: "F32".into(), shape: vec![2, 3], data: vec![0; 24] };
    RawFile { tensors: vec![tensor] }.write(&path);
    let summary = Summary::open(&path, Loading::Read).unwrap();
    assert!(summary.model.is_none());
    assert_eq!((summary.groups[0].name.as_str(), summary.total_bytes()), ("a.*.b", 24));
}
