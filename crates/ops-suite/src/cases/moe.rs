//! The expert ops.

use sostenuto_ops::{BackendInfo, Op, Precision};

use super::{U, dot};
use crate::data::{Rng, Tensor};
use crate::device::{Device, StepData};
use crate::runner::{Bound, RowCase};

/// Sizes and inputs of an expert op.
struct Shape {
    name: &'static str,
    rows: usize,
    k: usize,
    hidden: usize,
    intermediate: usize,
    /// Standard deviation of the inputs.
    scale: f32,
}

pub(super) fn cases() -> Vec<RowCase> {
    let shapes = [
        Shape { name: "k 4", rows: 17, k: 4, hidden: 96, intermediate: 160, scale: 1.0 },
        Shape { name: "k 1", rows: 9, k: 1, hidden: 32, intermediate: 32, scale: 1.0 },
        Shape { name: "k 2, one row", rows: 1, k: 2, hidden: 64, intermediate: 96, scale: 1.0 },
        Shape { name: "k 3", rows: 5, k: 3, hidden: 224, intermediate: 32, scale: 1.0 },
        Shape { name: "beyond the clamps", rows: 6, k: 4, hidden: 96, intermediate: 64, scale: 60.0 },
        Shape { name: "zeros", rows: 2, k: 4, hidden: 64, intermediate: 64, scale: 0.0 },
        Shape { name: "many of an expert", rows: 60, k: 4, hidden: 576, intermediate: 64, scale: 1.0 },
        Shape { name: "20B width", rows: 7, k: 4, hidden: 2880, intermediate: 64, scale: 1.0 },
        Shape { name: "20B depth", rows: 7, k: 4, hidden: 64, intermediate: 2880, scale: 1.0 },
    ];
    let mut cases: Vec<RowCase> = shapes.iter().flat_map(|shape| [gate_up(shape), down(shape)]).collect();
    cases.push(scale_extremes());
    cases
}

const EXPERTS: usize = 5;

/// `k` distinct experts for each row, in random order.
fn choose(rng: &mut Rng, rows: usize, k: usize) -> Vec<u32> {
    (0..rows).flat_map(|_| rng.permutation(EXPERTS).into_iter().take(k)).collect()
}

/// A dot product with an MXFP4 row: [`Precision::Fast`] may round `x` to int8 per 32.
fn mx_dot(w: &[f64], x: &[f32], precision: Precision) -> Bound {
    let mut bound = dot(w, x);
    if precision == Precision::Fast {
        for (w, x) in w.chunks_exact(32).zip(x.chunks_exact(32)) {
            let largest = x.iter().fold(0.0, |max: f32, x| max.max(x.abs()));
            let weight: f64 = w.iter().map(|w| w.abs()).sum();
            bound.tolerance += weight * f64::from(largest) / 254.0 * 1.0001;
        }
    }
    bound
}

fn gate_up(shape: &Shape) -> RowCase {
    let &Shape { name, rows, k, hidden, intermediate, scale } = shape;
    let (limit, alpha) = (7.0_f32, 1.702_f32);
    let mut rng = Rng::new(20);
    let weight = Tensor::random_mxfp4(&mut rng, "gate_up", [EXPERTS, 2 * intermediate, hidden], -4);
    let bias = Tensor::bf16(&mut rng, "bias", [EXPERTS, 1, 2 * intermediate], 1.0);
    let input = rng.normals(rows * hidden, scale);
    let experts = choose(&mut rng, rows, k);
    let case = (weight.clone(), bias.clone(), input.clone(), experts.clone());
    let expect = move |info: &BackendInfo| {
        let (weight, bias, input, experts) = &case;
        let mut want = Vec::new();
        for (choice, &e) in experts.iter().enumerate() {
            let (x, e) = (&input[choice / k * hidden..(choice / k + 1) * hidden], e as usize);
            for i in 0..intermediate {
                let [gate, up] = [2 * i, 2 * i + 1].map(|row| {
                    let mut bound = mx_dot(weight.row(e, row), x, info.precision);
                    let bias = bias.row(e, 0)[row];
                    bound.tolerance += 2.0 * U * bias.abs();
                    bound.want += bias;
                    bound
                });
                want.push(swiglu(gate, up, f64::from(limit), f64::from(alpha)));
            }
        }
        want
    };
    RowCase {
        name: format!("moe_gate_up {name}"),
        rows,
        run: Box::new(move |backend, range| {
            let mut device = Device(backend);
            let rows = range.len();
            let input = device.input("input", &input[range.start * hidden..range.end * hidden], hidden);
            let experts = device.u32_input("experts", &experts[range.start * k..range.end * k], k);
            let out = device.buffer("out", rows, k * intermediate);
            let (weight, bias) = (device.weight(&weight), device.weight(&bias));
            let op = Op::MoeGateUp { input, experts, weight, bias, limit, alpha, out };
            device.run(vec![op], &StepData::independent(rows).inputs());
            device.read(out, rows, k * intermediate)
        }),
        expect: Box::new(expect),
    }
}

/// `g·σ(αg)·(u + 1)` with both clamped; the slope of `g·σ(αg)` is at most 1.1, and clamping only shrinks errors.
fn swiglu(gate: Bound, up: Bound, limit: f64, alpha: f64) -> Bound {
    let g = gate.want.min(limit);
    let u = up.want.clamp(-limit, limit);
    let swish = g / (1.0 + (-alpha * g).exp());
    // The sigmoid's argument is rounded, which for a strongly negative gate is felt relative to its size.
    let swish_off = 1.1 * gate.tolerance + swish.abs() * U * (16.0 + 4.0 * (alpha * g).abs()) + 1e-37;
    let want = swish * (u + 1.0);
    let tolerance = swish_off * ((u + 1.0).abs() + up.tolerance + 4.0 * U)
        + swish.abs() * (up.tolerance + 2.0 * U * (u.abs() + 1.0))
        + 4.0 * U * want.abs();
    Bound { want, tolerance }
}

fn down(shape: &Shape) -> RowCase {
    let &Shape { name, rows, k, hidden, intermediate, scale } = shape;
    let mut rng = Rng::new(21);
    let weight = Tensor::random_mxfp4(&mut rng, "down", [EXPERTS, hidden, intermediate], -4);
    let bias = Tensor::bf16(&mut rng, "bias", [EXPERTS, 1, hidden], 1.0);
    let input = rng.normals(rows * k * intermediate, scale);
    let experts = choose(&mut rng, rows, k);
    let name = format!("moe_down {name}");
    down_case(Down { name, weight, bias, input, experts, k, rows, before: 1.0 })
}

/// Scales 0, 1 and 2 with huge inputs, and 252, 253 and 254 with tiny ones: every product is finite.
fn scale_extremes() -> RowCase {
    let (rows, k, hidden, intermediate) = (4, 1, 33, 96);
    let mut rng = Rng::new(22);
    let mut codes = Rng::new(23);
    let code = |expert: usize| {
        let magnitude = if expert < 2 { codes.below(8) } else { codes.below(4) };
        (magnitude + 8 * codes.below(2)) as u8
    };
    let scale = |expert: usize| (if expert < 2 { 0 } else { 252 } + rng.below(3)) as u8;
    let weight = Tensor::mxfp4("down", [EXPERTS, hidden, intermediate], code, scale);
    let mut rng = Rng::new(24);
    let bias = Tensor::from_bf16("bias", [EXPERTS, 1, hidden], &vec![0.0; EXPERTS * hidden]);
    let experts = vec![0, 3, 1, 4];
    let mut input = Vec::new();
    for &e in &experts {
        input.extend(rng.normals(intermediate, if e < 2 { 1e30 } else { 1e-30 }));
    }
    let name = "moe_down with extreme E8M0 scales".to_owned();
    down_case(Down { name, weight, bias, input, experts, k, rows, before: 0.0 })
}

struct Down {
    name: String,
    weight: Tensor,
    bias: Tensor,
    input: Vec<f32>,
    experts: Vec<u32>,
    k: usize,
    rows: usize,
    /// Standard deviation of what `out` holds before.
    before: f32,
}

fn down_case(case: Down) -> RowCase {
    let Down { name, weight, bias, input, experts, k, rows, before } = case;
    let (hidden, intermediate) = (weight.spec.out_features, weight.spec.in_features);
    let mut rng = Rng::new(25);
    let shares: Vec<f32> = (0..rows * k).map(|_| rng.below(1000) as f32 / 1000.0).collect();
    let before = rng.normals(rows * hidden, before);
    let inputs = (weight.clone(), bias.clone(), input.clone(), experts.clone());
    let (shares_given, before_given) = (shares.clone(), before.clone());
    let expect = move |info: &BackendInfo| {
        let (weight, bias, input, experts) = &inputs;
        let mut want = Vec::new();
        for (i, &before) in before_given.iter().enumerate() {
            let (t, o) = (i / hidden, i % hidden);
            let mut sum = Bound { want: f64::from(before), tolerance: 2.0 * U * f64::from(before.abs()) };
            for choice in t * k..(t + 1) * k {
                let (x, e) = (&input[choice * intermediate..][..intermediate], experts[choice] as usize);
                let share = f64::from(shares_given[choice]);
                let product = mx_dot(weight.row(e, o), x, info.precision);
                let value = product.want + bias.row(e, 0)[o];
                sum.want += share * value;
                sum.tolerance += share * (product.tolerance + 8.0 * U * (value.abs() + product.want.abs()));
            }
            want.push(sum);
        }
        want
    };
    RowCase {
        name,
        rows,
        run: Box::new(move |backend, range| {
            let mut device = Device(backend);
            let rows = range.len();
            let (of, choices) = (|n: usize| range.start * n..range.end * n, k * intermediate);
            let input = device.input("input", &input[of(choices)], choices);
            let experts = device.u32_input("experts", &experts[of(k)], k);
            let weights = device.input("weights", &shares[of(k)], k);
            let out = device.input("out", &before[of(hidden)], hidden);
            let (weight, bias) = (device.weight(&weight), device.weight(&bias));
            let op = Op::MoeDown { input, experts, weights, weight, bias, out };
            device.run(vec![op], &StepData::independent(rows).inputs());
            device.read(out, rows, hidden)
        }),
        expect: Box::new(expect),
    }
}
