//! Random damage to good files: the readers refuse it or read it right, and never panic.

use proptest::prelude::*;
use sostenuto_formats::ModelConfig;

use crate::checks::{check_json, check_safetensors};
use crate::support::{RawFile, RawTensor, micro_config};

/// One change of a file; places are fractions of its length.
#[derive(Debug, Clone)]
enum Damage {
    Set(f64, u8),
    Insert(f64, Vec<u8>),
    Remove(f64, usize),
    Truncate(f64),
    Repeat(f64, f64),
    /// Replaces a digit, the likeliest way to a plausible but wrong number.
    Digit(usize, u8),
}

fn damage() -> impl Strategy<Value = Damage> {
    let place = || 0.0..1.0_f64;
    prop_oneof![
        (place(), any::<u8>()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        (place(), prop::collection::vec(any::<u8>(), 1..6)).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        (place(), 1..9_usize).prop_map(|(at, count)| Damage::Remove(at, count)),
        place().prop_map(Damage::Truncate),
        (place(), place()).prop_map(|(from, to)| Damage::Repeat(from, to)),
        (any::<usize>(), b'0'..=b'9').prop_map(|(nth, digit)| Damage::Digit(nth, digit)),
    ]
}

fn apply(file: &mut Vec<u8>, damage: &Damage) {
    let len = file.len();
    let at = |place: &f64| ((place * len as f64) as usize).min(len);
    match damage {
        Damage::Set(place, byte) => {
            if let Some(target) = file.get_mut(at(place)) {
                *target = *byte;
            }
        }
        Damage::Insert(place, bytes) => drop(file.splice(at(place)..at(place), bytes.iter().copied())),
        Damage::Remove(place, count) => drop(file.drain(at(place)..(at(place) + count).min(len))),
        Damage::Truncate(place) => file.truncate(at(place)),
        Damage::Repeat(from, to) => {
            let (from, to) = (at(from).min(at(to)), at(from).max(at(to)));
            let piece = file[from..to].to_vec();
            file.splice(to..to, piece);
        }
        Damage::Digit(nth, digit) => {
            let digits: Vec<usize> = (0..len).filter(|index| file[*index].is_ascii_digit()).collect();
            if !digits.is_empty() {
                file[digits[nth % digits.len()]] = *digit;
            }
        }
    }
}

/// Corrects the length prefix, so that damage reaches the JSON behind it.
fn fix_header_length(file: &mut [u8], data_len: usize) {
    if file.len() >= 8 + data_len {
        let header_len = (file.len() - 8 - data_len) as u64;
        file[..8].copy_from_slice(&header_len.to_le_bytes());
    }
}

const INDEX: &str =
    r#"{"metadata": {"total_size": 9}, "weight_map": {"a": "model-00000-of-00001.safetensors"}}"#;

const DATA_LEN: usize = 44;

fn small_file() -> Vec<u8> {
    let tensor = |name: &str, dtype: &str, shape: &[u64], len| RawTensor {
        name: name.into(),
        dtype: dtype.into(),
        shape: shape.to_vec(),
        data: (0..len).collect(),
    };
    let tensors = vec![
        tensor("a", "BF16", &[2, 3], 12),
        tensor("b.blocks", "U8", &[1, 16], 16),
        tensor("c", "F32", &[4], 16),
    ];
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("small.safetensors");
    RawFile { tensors }.write(&path);
    std::fs::read(path).unwrap()
}

#[test]
fn undamaged_files_are_accepted() {
    assert!(check_safetensors(&small_file()));
    assert!(check_json(micro_config().to_json().as_bytes()).config);
    assert!(check_json(micro_config().to_generation_json().as_bytes()).generation);
    assert!(check_json(INDEX.as_bytes()).index);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_weight_file_never_panics(
        damages in prop::collection::vec(damage(), 1..6),
        fix_length in any::<bool>(),
    ) {
        let mut file = small_file();
        damages.iter().for_each(|damage| apply(&mut file, damage));
        if fix_length {
            fix_header_length(&mut file, DATA_LEN);
        }
        check_safetensors(&file);
    }

    #[test]
    fn a_damaged_configuration_or_index_never_panics(damages in prop::collection::vec(damage(), 1..6)) {
        for good in [micro_config().to_json(), ModelConfig::gpt_oss_20b().to_generation_json(), INDEX.to_owned()] {
            let mut file = good.into_bytes();
            damages.iter().for_each(|damage| apply(&mut file, damage));
            check_json(&file);
        }
    }
}
