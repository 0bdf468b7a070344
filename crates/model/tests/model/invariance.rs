//! A row's bits do not depend on its company.

use sostenuto_ops::StepInputs;

use crate::support::{Sequence, checkpoint, load, scalar};

fn ids(seed: u32, len: usize) -> Vec<u32> {
    (0..len as u32).map(|i| 4 + (i * i * 7 + i * 13 + seed * 31) % 120).collect()
}

#[test]
fn chunks_of_any_size_give_the_same_bits() {
    let checkpoint = checkpoint("window16", "hf");
    let prompt = ids(1, 90);
    let whole = Sequence::new(0).feed(&mut load(&checkpoint, scalar()), &prompt, 1);
    for chunk in [1, 2, 7, 16, 33] {
        let mut model = load(&checkpoint, scalar());
        let mut sequence = Sequence::new(0);
        let logits = prompt.chunks(chunk).map(|part| sequence.feed(&mut model, part, 1)).last().unwrap();
        assert_eq!(whole, logits, "chunks of {chunk}");
    }
}

#[test]
fn two_sequences_in_one_step_give_the_bits_of_each_alone() {
    let checkpoint = checkpoint("base", "hf");
    let prompts = [ids(2, 40), ids(3, 25)];
    let alone: Vec<_> = prompts
        .iter()
        .map(|prompt| Sequence::new(0).feed(&mut load(&checkpoint, scalar()), prompt, 1).remove(0))
        .collect();
    let mut model = load(&checkpoint, scalar());
    let tables: Vec<u32> = [5, 9, 0].into_iter().chain([7, 2]).collect();
    model
        .forward(&StepInputs {
            token_ids: &prompts.concat(),
            positions: &(0..40).chain(0..25).collect::<Vec<_>>(),
            sequences: &[vec![0; 40], vec![1; 25]].concat(),
            rings: &[1, 0],
            block_tables: &tables,
            block_table_offsets: &[0, 3, 5],
            logit_rows: &[39, 64],
        })
        .unwrap();
    for (row, expected) in alone.iter().enumerate() {
        let mut logits = vec![0.0; expected.len()];
        model.read_logits(row, &mut logits).unwrap();
        assert_eq!(expected, &logits, "sequence {row}");
    }
}
