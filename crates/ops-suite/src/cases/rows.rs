//! Embedding, norm, rotation table, top-k and gathering.

use std::sync::Arc;

use sostenuto_ops::{Op, Rows};

use super::U;
use crate::data::{Rng, Tensor};
use crate::device::{Device, StepData};
use crate::runner::{Bound, RowCase};

pub(super) fn cases() -> Vec<RowCase> {
    let mut cases = vec![rope_table(), gather()];
    cases.extend([(17, 2880), (3, 1), (2, 33)].map(|(rows, width)| embed(rows, width)));
    for in_place in [false, true] {
        for (rows, width, scale) in [(17, 2880, 1.0), (3, 96, 1e-3), (2, 7, 1e4), (1, 1, 1.0), (2, 37, 0.0)] {
            cases.push(rms_norm(rows, width, scale, in_place));
        }
    }
    let shapes = [(17, 32, 4), (5, 128, 4), (3, 8, 1), (2, 4, 4), (2, 5, 3), (4, 32, 2)];
    cases.extend(shapes.map(|(rows, experts, k)| top_k(rows, experts, k, false)));
    cases.push(top_k(6, 16, 4, true));
    cases
}

fn exactly(values: impl IntoIterator<Item = f64>) -> Vec<Bound> {
    values.into_iter().map(|want| Bound { want, tolerance: 0.0 }).collect()
}

fn embed(rows: usize, width: usize) -> RowCase {
    let mut rng = Rng::new(1);
    let vocab = 11;
    let table = Tensor::bf16(&mut rng, "table", [1, vocab, width], 1.0);
    let tokens: Vec<u32> = (0..rows).map(|_| rng.below(vocab) as u32).collect();
    let want = exactly(tokens.iter().flat_map(|&token| table.row(0, token as usize).to_vec()));
    RowCase {
        name: format!("embed {rows}x{width}"),
        rows,
        run: Box::new(move |backend, range| {
            let mut device = Device(backend);
            let out = device.buffer("out", range.len(), width);
            let table = device.weight(&table);
            let mut step = StepData::independent(range.len());
            step.token_ids.copy_from_slice(&tokens[range.clone()]);
            device.run(vec![Op::Embed { table, out }], &step.inputs());
            device.read(out, range.len(), width)
        }),
        expect: Box::new(move |_| want.clone()),
    }
}

fn rms_norm(rows: usize, width: usize, scale: f32, in_place: bool) -> RowCase {
    let mut rng = Rng::new(2);
    let eps = 1e-5_f32;
    let weight = Tensor::bf16(&mut rng, "gain", [1, 1, width], 1.0);
    let input = rng.normals(rows * width, scale);
    let mut want = Vec::new();
    for row in input.chunks_exact(width) {
        let mean = row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / width as f64;
        let root = (mean + f64::from(eps)).sqrt();
        want.extend(row.iter().zip(weight.row(0, 0)).map(|(&x, gain)| {
            let want = f64::from(x) / root * gain;
            Bound { want, tolerance: 16.0 * U * want.abs() }
        }));
    }
    RowCase {
        name: format!("rms_norm {rows}x{width} scale {scale} in place {in_place}"),
        rows,
        run: Box::new(move |backend, range| {
            let mut device = Device(backend);
            let values = &input[range.start * width..range.end * width];
            let input = device.input("input", values, width);
            let out = if in_place { input } else { device.buffer("out", range.len(), width) };
            let weight = device.weight(&weight);
            let rows = if in_place { Rows::Logits } else { Rows::Step };
            let op = Op::RmsNorm { rows, input, weight, eps, out };
            device.run(vec![op], &StepData::independent(range.len()).inputs());
            device.read(out, range.len(), width)
        }),
        expect: Box::new(move |_| want.clone()),
    }
}

/// Positions up to the longest context: angles of 131,071 radians need f64.
fn rope_table() -> RowCase {
    let positions: Vec<u32> = vec![0, 1, 7, 127, 128, 4_095, 4_096, 70_001, 131_071];
    let inv_freq: Arc<[f64]> = (0..32).map(|i| 150_000f64.powf(-f64::from(i) / 32.0)).collect();
    let concentration = 0.1 * 32f64.ln() + 1.0;
    let mut want = Vec::new();
    for &position in &positions {
        let angles: Vec<f64> = inv_freq.iter().map(|f| f64::from(position) * f).collect();
        let values = angles.iter().map(|a| a.cos()).chain(angles.iter().map(|a| a.sin()));
        want.extend(values.map(|v| Bound { want: v * concentration, tolerance: 2.0 * U * concentration }));
    }
    RowCase {
        name: "rope_table".to_owned(),
        rows: positions.len(),
        run: Box::new(move |backend, range| {
            let mut device = Device(backend);
            let out = device.buffer("out", range.len(), 64);
            let mut step = StepData::independent(range.len());
            step.positions.copy_from_slice(&positions[range.clone()]);
            let op = Op::RopeTable { inv_freq: Arc::clone(&inv_freq), concentration, out };
            device.run(vec![op], &step.inputs());
            device.read(out, range.len(), 64)
        }),
        expect: Box::new(move |_| want.clone()),
    }
}

/// Chosen experts and their shares; with `ties`, logits from three values, so that the lower index must win.
fn top_k(rows: usize, experts: usize, k: usize, ties: bool) -> RowCase {
    let mut rng = Rng::new(3);
    let logits: Vec<f32> = if ties {
        (0..rows * experts).map(|_| rng.below(3) as f32).collect()
    } else {
        rng.normals(rows * experts, 3.0)
    };
    let mut want = Vec::new();
    for row in logits.chunks_exact(experts) {
        let mut order: Vec<usize> = (0..experts).collect();
        order.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
        order.truncate(k);
        let sum: f64 = order.iter().map(|&e| f64::from(row[e]).exp()).sum();
        want.extend(exactly(order.iter().map(|&e| e as f64)));
        want.extend(order.iter().map(|&e| {
            let want = f64::from(row[e]).exp() / sum;
            Bound { want, tolerance: 16.0 * U * want }
        }));
    }
    RowCase {
        name: format!("top_k {rows}x{experts} k {k} ties {ties}"),
        rows,
        run: Box::new(move |backend, range| {
            let mut device = Device(backend);
            let rows = range.len();
            let logits = device.input("logits", &logits[range.start * experts..range.end * experts], experts);
            let (chosen, weights) =
                (device.u32_buffer("experts", rows, k), device.buffer("weights", rows, k));
            let op = Op::TopK { logits, experts: chosen, weights };
            device.run(vec![op], &StepData::independent(rows).inputs());
            let (chosen, weights) = (device.read_u32(chosen, rows, k), device.read(weights, rows, k));
            let pairs = chosen.chunks_exact(k).zip(weights.chunks_exact(k));
            pairs.flat_map(|(c, w)| c.iter().map(|&e| e as f32).chain(w.iter().copied())).collect()
        }),
        expect: Box::new(move |_| want.clone()),
    }
}

/// Every second row of the step; a group's rows are gathered from a step with neighbours.
fn gather() -> RowCase {
    let (rows, width) = (6, 50);
    let values = Rng::new(4).normals(2 * rows * width, 1.0);
    let kept: Vec<f32> = values.chunks_exact(width).skip(1).step_by(2).flat_map(|row| row.to_vec()).collect();
    let want = exactly(kept.iter().map(|&value| f64::from(value)));
    RowCase {
        name: "gather_logit_rows".to_owned(),
        rows,
        run: Box::new(move |backend, range| {
            let mut device = Device(backend);
            let input = device.input("input", &values[2 * range.start * width..2 * range.end * width], width);
            let out = device.buffer("out", range.len(), width);
            let mut step = StepData::independent(2 * range.len());
            step.logit_rows = (0..range.len() as u32).map(|i| 2 * i + 1).collect();
            device.run(vec![Op::GatherLogitRows { input, out }], &step.inputs());
            device.read(out, range.len(), width)
        }),
        expect: Box::new(move |_| want.clone()),
    }
}
