//! A row's bits do not depend on its company.

use sostenuto_kernels_cpu::Isa;
use sostenuto_ops::{Backend, StepInputs};

use crate::support::{Sequence, checkpoint, cpu, load, scalar};

/// Makes a device.
type MakeDevice = Box<dyn Fn() -> Box<dyn Backend>>;

/// Every device there is, by name.
fn devices() -> Vec<(String, MakeDevice)> {
    let mut devices: Vec<(String, MakeDevice)> = vec![("scalar device".into(), Box::new(scalar))];
    for isa in Isa::ALL.into_iter().filter(|&isa| cpu(isa, 1).is_some()) {
        for threads in [1, 2, 3] {
            let make = move || cpu(isa, threads).expect("the instruction set is there");
            devices.push((format!("{} on {threads} threads", isa.name()), Box::new(make)));
        }
    }
    devices
}

fn ids(seed: u32, len: usize) -> Vec<u32> {
    (0..len as u32).map(|i| 4 + (i * i * 7 + i * 13 + seed * 31) % 120).collect()
}

#[test]
fn chunks_of_any_size_give_the_same_bits() {
    let checkpoint = checkpoint("window16", "hf");
    let prompt = ids(1, 90);
    for (name, device) in devices() {
        let whole = Sequence::new(0).feed(&mut load(&checkpoint, device()), &prompt, 1);
        for chunk in [1, 2, 7, 16, 33] {
            let mut model = load(&checkpoint, device());
            let mut sequence = Sequence::new(0);
            let logits = prompt.chunks(chunk).map(|part| sequence.feed(&mut model, part, 1)).last().unwrap();
            assert_eq!(whole, logits, "{name}, chunks of {chunk}");
        }
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let checkpoint = checkpoint("base", "hf");
    let prompt = ids(5, 33);
    for isa in Isa::ALL.into_iter().filter(|&isa| cpu(isa, 1).is_some()) {
        let logits = |threads| {
            let backend = cpu(isa, threads).expect("the instruction set is there");
            Sequence::new(0).feed(&mut load(&checkpoint, backend), &prompt, 4)
        };
        let alone = logits(1);
        for threads in [2, 3, 5] {
            assert_eq!(alone, logits(threads), "{} on {threads} threads", isa.name());
        }
    }
}

#[test]
fn two_sequences_in_one_step_give_the_bits_of_each_alone() {
    for (name, device) in devices() {
        two_sequences(&name, &*device);
    }
}

fn two_sequences(name: &str, device: &dyn Fn() -> Box<dyn Backend>) {
    let checkpoint = checkpoint("base", "hf");
    let prompts = [ids(2, 40), ids(3, 25)];
    let alone = prompts
        .each_ref()
        .map(|prompt| Sequence::new(0).feed(&mut load(&checkpoint, device()), prompt, 1).remove(0));
    let mut model = load(&checkpoint, device());
    model
        .forward(&StepInputs {
            token_ids: &prompts.concat(),
            positions: &(0..40).chain(0..25).collect::<Vec<_>>(),
            sequences: &[vec![0; 40], vec![1; 25]].concat(),
            rings: &[1, 0],
            block_tables: &[5, 9, 0, 7, 2],
            block_table_offsets: &[0, 3, 5],
            kv_write_from: &[0, 0],
            logit_rows: &[39, 64],
        })
        .unwrap();
    for (row, expected) in alone.iter().enumerate() {
        let mut logits = vec![0.0; expected.len()];
        model.read_logits(row, &mut logits).unwrap();
        assert_eq!(expected, &logits, "{name}, sequence {row}");
    }
}
