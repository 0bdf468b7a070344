//! Linear.

use sostenuto_ops::{BackendInfo, KernelChoice, Op, Precision, Rows};

use super::dot;
use crate::data::{Rng, Tensor};
use crate::device::{Device, StepData};
use crate::runner::{Bound, RowCase};

#[derive(Clone, Copy)]
struct Shape {
    rows: usize,
    out_features: usize,
    in_features: usize,
    bias: bool,
    accumulate: bool,
    over: Rows,
    /// Standard deviation of the inputs.
    scale: f32,
    /// Whether fast mode may round the weight.
    may_round: bool,
}

pub(super) fn cases() -> Vec<RowCase> {
    let base = Shape {
        rows: 17,
        out_features: 67,
        in_features: 2880,
        bias: true,
        accumulate: false,
        over: Rows::Step,
        scale: 1.0,
        may_round: false,
    };
    let mut cases = vec![
        linear(base),
        linear(Shape { accumulate: true, ..base }),
        linear(Shape { bias: false, over: Rows::Logits, ..base }),
        linear(Shape { rows: 2, out_features: 2880, in_features: 4096, accumulate: true, ..base }),
        linear(Shape { rows: 3, scale: 1e30, ..base }),
        linear(Shape { rows: 3, scale: 1e-30, bias: false, ..base }),
    ];
    // So many rows that every size of tile occurs.
    cases.extend((1..=14).map(|rows| linear(Shape { rows, in_features: 96, may_round: true, ..base })));
    cases.push(linear(Shape { rows: 70, out_features: 40, in_features: 64, may_round: true, ..base }));
    for rows in [17, 31, 33, 140] {
        cases.push(linear(Shape { rows, out_features: 40, in_features: 600, may_round: true, ..base }));
    }
    for (out_features, in_features) in
        [(1, 1), (2, 31), (3, 32), (5, 33), (8, 64), (9, 96), (13, 160), (40, 95)]
    {
        for (rows, bias, accumulate) in [(1, false, true), (4, true, true), (7, true, false)] {
            for may_round in [false, true] {
                let shape = Shape { rows, out_features, in_features, bias, accumulate, may_round, ..base };
                cases.push(linear(shape));
            }
        }
    }
    cases
}

fn linear(shape: Shape) -> RowCase {
    let Shape { rows, out_features: n, in_features: k, bias, accumulate, over, scale, may_round } = shape;
    let mut rng = Rng::new(10);
    let mut weight = Tensor::bf16(&mut rng, "weight", [1, n, k], 0.1);
    weight.spec.may_round = may_round;
    let bias = bias.then(|| Tensor::bf16(&mut rng, "bias", [1, 1, n], 1.0));
    let input = rng.normals(rows * k, scale);
    let before = rng.normals(rows * n, 1.0);
    let case = (weight.clone(), bias.clone(), input.clone(), before.clone());
    let expect = move |info: &BackendInfo| {
        let scales_are_powers = info.kernels.iter().any(has_powers_as_scales);
        let (weight, bias, input, before) = &case;
        let mut want = Vec::new();
        for (x, before) in input.chunks_exact(k).zip(before.chunks_exact(n)) {
            for (o, &before) in before.iter().enumerate() {
                let row = weight.row(0, o);
                let Bound { want: mut value, mut tolerance } = dot(row, x);
                if may_round && info.precision == Precision::Fast {
                    tolerance += rounding(row, x, scales_are_powers);
                }
                let bias = bias.as_ref().map(|bias| bias.row(0, 0)[o]);
                for term in [bias, accumulate.then(|| f64::from(before))] {
                    value += term.unwrap_or(0.0);
                    tolerance += 2.0 * super::U * term.unwrap_or(0.0).abs();
                }
                want.push(Bound { want: value, tolerance });
            }
        }
        want
    };
    RowCase {
        name: format!(
            "linear {rows}x{n}x{k} bias {} accumulate {accumulate} scale {scale:e} may_round {may_round}",
            bias.is_some()
        ),
        rows,
        run: Box::new(move |backend, range| {
            let mut device = Device(backend);
            let input = device.input("input", &input[range.start * k..range.end * k], k);
            let out = device.input("out", &before[range.start * n..range.end * n], n);
            let weight = device.weight(&weight);
            let bias = bias.as_ref().map(|bias| device.weight(bias));
            let op = Op::Linear { rows: over, input, weight, bias, out, accumulate };
            device.run(vec![op], &StepData::independent(range.len()).inputs());
            device.read(out, range.len(), n)
        }),
        expect: Box::new(expect),
    }
}

/// Whether an 8-bit weight's scale may be the least power of two that will do.
fn has_powers_as_scales(choice: &KernelChoice) -> bool {
    choice.op == "linear" && choice.kernel.starts_with("i9_i8w")
}

/// What rounding both factors to 8 bits per 32 may add: of a weight half a scale, which is the least bf16, or power of two,
/// that will do.
fn rounding(w: &[f64], x: &[f32], scales_are_powers: bool) -> f64 {
    let rounded_up = if scales_are_powers { 2.0 } else { 1.0 + 2_f64.powi(-7) };
    let mut sum = 0.0;
    for (w, x) in w.chunks(32).zip(x.chunks(32)) {
        let w_off = w.iter().fold(0.0, |max: f64, w| max.max(w.abs())) / 254.0 * rounded_up;
        let x_off = x.iter().fold(0.0, |max: f64, &x| max.max(f64::from(x).abs())) / 254.0 * 1.0001;
        for (w, &x) in w.iter().zip(x) {
            sum += w_off * f64::from(x).abs() + x_off * (w.abs() + w_off);
        }
    }
    sum
}
