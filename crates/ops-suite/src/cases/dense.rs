//! Linear.

use sostenuto_ops::{Op, Rows};

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
    };
    let mut cases = vec![
        linear(base),
        linear(Shape { accumulate: true, ..base }),
        linear(Shape { bias: false, over: Rows::Logits, ..base }),
        linear(Shape { rows: 2, out_features: 2880, in_features: 4096, accumulate: true, ..base }),
        linear(Shape { rows: 3, scale: 1e30, ..base }),
        linear(Shape { rows: 3, scale: 1e-30, bias: false, ..base }),
    ];
    for (out_features, in_features) in
        [(1, 1), (2, 31), (3, 32), (5, 33), (8, 64), (9, 96), (13, 160), (40, 95)]
    {
        for (rows, bias, accumulate) in [(1, false, true), (4, true, true), (7, true, false)] {
            cases.push(linear(Shape { rows, out_features, in_features, bias, accumulate, ..base }));
        }
    }
    cases
}

fn linear(shape: Shape) -> RowCase {
    let Shape { rows, out_features: n, in_features: k, bias, accumulate, over, scale } = shape;
    let mut rng = Rng::new(10);
    let weight = Tensor::bf16(&mut rng, "weight", [1, n, k], 0.1);
    let bias = bias.then(|| Tensor::bf16(&mut rng, "bias", [1, 1, n], 1.0));
    let input = rng.normals(rows * k, scale);
    let before = rng.normals(rows * n, 1.0);
    let mut want = Vec::new();
    for (x, before) in input.chunks_exact(k).zip(before.chunks_exact(n)) {
        for (o, &before) in before.iter().enumerate() {
            let Bound { want: mut value, mut tolerance } = dot(weight.row(0, o), x);
            for term in [bias.as_ref().map(|bias| bias.row(0, 0)[o]), accumulate.then(|| f64::from(before))] {
                value += term.unwrap_or(0.0);
                tolerance += 2.0 * super::U * term.unwrap_or(0.0).abs();
            }
            want.push(Bound { want: value, tolerance });
        }
    }
    RowCase {
        name: format!(
            "linear {rows}x{n}x{k} bias {} accumulate {accumulate} scale {scale:e}",
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
        expect: Box::new(move |_| want.clone()),
    }
}
