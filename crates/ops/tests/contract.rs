//! What devices rely on: bad programs, steps and transfers are refused, with the facts.

use std::sync::Arc;

use sostenuto_formats::SharedBytes;
use sostenuto_ops::scalar::ScalarBackend;
use sostenuto_ops::{
    Backend, BufferId, BufferKind, BufferSpec, ContractError, DeviceError, KvCopy, KvDtype, KvLayerId,
    KvLayerSpec, KvSpec, Op, Program, ProgramId, Registry, Rows, StepInputs, StepLimits, WeightData,
    WeightFormat, WeightId, WeightSpec,
};

/// A registry of a small model: hidden 64, 4 query heads over 2 KV heads of 16, 4 experts of 32, top 2.
struct Model {
    registry: Registry,
    hidden: BufferId,
    normed: BufferId,
    qkv: BufferId,
    table: BufferId,
    attention: BufferId,
    router: BufferId,
    experts: BufferId,
    shares: BufferId,
    swiglu: BufferId,
    last: BufferId,
    embedding: WeightId,
    norm: WeightId,
    qkv_weight: WeightId,
    sinks: WeightId,
    gate_up: WeightId,
    gate_up_bias: WeightId,
    down: WeightId,
    down_bias: WeightId,
}

fn zeros(spec: &WeightSpec) -> WeightData {
    let bytes = |len: usize| if len == 0 { vec![] } else { vec![SharedBytes::from_vec(vec![0; len])] };
    WeightData { values: bytes(spec.value_bytes()), scales: bytes(spec.scale_bytes()) }
}

fn mxfp4(experts: usize, out_features: usize, in_features: usize) -> WeightSpec {
    let format = WeightFormat::Mxfp4;
    WeightSpec { name: "experts".into(), format, experts, out_features, in_features, may_round: false }
}

fn kv() -> KvSpec {
    KvSpec {
        layers: vec![KvLayerSpec::Sliding, KvLayerSpec::Full],
        dtype: KvDtype::F32,
        num_kv_heads: 2,
        head_dim: 16,
        num_blocks: 6,
        num_rings: 3,
        ring_slots: 11,
        window: 8,
        num_snapshots: 2,
    }
}

fn model() -> Model {
    let mut registry = Registry::new();
    registry.set_kv(kv()).unwrap();
    let mut buffer = |name, kind, width| {
        let rows = if name == "last" { 2 } else { 8 };
        registry.add_buffer(BufferSpec { name, kind, rows, width }).unwrap()
    };
    let (hidden, normed) = (buffer("hidden", BufferKind::F32, 64), buffer("normed", BufferKind::F32, 64));
    let (qkv, table) = (buffer("qkv", BufferKind::F32, 128), buffer("table", BufferKind::F32, 16));
    let (attention, router) =
        (buffer("attention", BufferKind::F32, 64), buffer("router", BufferKind::F32, 4));
    let (experts, shares) = (buffer("experts", BufferKind::U32, 2), buffer("shares", BufferKind::F32, 2));
    let (swiglu, last) = (buffer("swiglu", BufferKind::F32, 64), buffer("last", BufferKind::F32, 64));
    let mut weight = |spec: WeightSpec| registry.add_weight(spec.clone(), &zeros(&spec)).unwrap();
    let bias = |n| WeightSpec { experts: 4, ..WeightSpec::vector("bias", n) };
    Model {
        hidden,
        normed,
        qkv,
        table,
        attention,
        router,
        experts,
        shares,
        swiglu,
        last,
        embedding: weight(WeightSpec::matrix("embedding", 100, 64)),
        norm: weight(WeightSpec::vector("norm", 64)),
        qkv_weight: weight(WeightSpec::matrix("qkv", 128, 64)),
        sinks: weight(WeightSpec::vector("sinks", 4)),
        gate_up: weight(mxfp4(4, 64, 64)),
        gate_up_bias: weight(bias(64)),
        down: weight(mxfp4(4, 64, 32)),
        down_bias: weight(bias(64)),
        registry,
    }
}

impl Model {
    fn attention(&self, layer: u32, window: Option<usize>) -> Op {
        let (qkv, sinks, out) = (self.qkv, self.sinks, self.attention);
        Op::Attention { qkv, layer: KvLayerId(layer), num_heads: 4, sinks, window, scale: 0.25, out }
    }

    fn gate_up(&self) -> Op {
        let (input, experts, weight, bias) = (self.normed, self.experts, self.gate_up, self.gate_up_bias);
        Op::MoeGateUp { input, experts, weight, bias, limit: 7.0, alpha: 1.702, out: self.swiglu }
    }

    fn down(&self) -> Op {
        let (input, experts, weights) = (self.swiglu, self.experts, self.shares);
        let (weight, bias, out) = (self.down, self.down_bias, self.hidden);
        Op::MoeDown { input, experts, weights, weight, bias, out }
    }

    fn linear(&self, input: BufferId, weight: WeightId, out: BufferId) -> Op {
        Op::Linear { rows: Rows::Step, input, weight, bias: None, out, accumulate: false }
    }

    fn program(&self) -> Program {
        let (qkv, table) = (self.qkv, self.table);
        vec![
            Op::Embed { table: self.embedding, out: self.hidden },
            Op::RmsNorm {
                rows: Rows::Step,
                input: self.hidden,
                weight: self.norm,
                eps: 1e-5,
                out: self.normed,
            },
            self.linear(self.normed, self.qkv_weight, qkv),
            Op::RopeTable { inv_freq: Arc::from([1.0; 8]), concentration: 1.0, out: table },
            Op::RopeKvWrite { qkv, table, layer: KvLayerId(0), num_heads: 4 },
            self.attention(0, Some(8)),
            Op::RopeKvWrite { qkv, table, layer: KvLayerId(1), num_heads: 4 },
            self.attention(1, None),
            Op::TopK { logits: self.router, experts: self.experts, weights: self.shares },
            self.gate_up(),
            self.down(),
            Op::GatherLogitRows { input: self.hidden, out: self.last },
        ]
    }

    fn limits(&self) -> StepLimits {
        self.registry.check_program(&self.program()).expect("the program is valid")
    }
}

/// A valid step: 3 rows of sequence 1, then one of sequence 0.
const STEP: StepInputs<'static> = StepInputs {
    token_ids: &[1, 99, 3, 4],
    positions: &[14, 15, 16, 0],
    sequences: &[1, 1, 1, 0],
    rings: &[2, 0],
    block_tables: &[5, 1, 0],
    block_table_offsets: &[0, 1, 3],
    kv_write_from: &[0, 16],
    logit_rows: &[2, 3],
};

#[test]
fn valid_program_and_step_pass_with_their_limits() {
    let limits = model().limits();
    assert_eq!((limits.max_rows, limits.max_logit_rows), (8, 2));
    assert_eq!((limits.vocab_size, limits.num_blocks), (Some(100), Some(6)));
    assert_eq!(limits.sliding.map(|sliding| (sliding.ring_slots, sliding.window)), Some((11, 8)));
    assert_eq!(limits.check(&STEP), Ok(()));
    assert_eq!(limits.check(&StepInputs { logit_rows: &[], ..STEP }), Ok(()));
}

#[test]
fn bad_programs_are_refused_with_the_facts() {
    let m = model();
    let other = |op: Op| vec![op];
    let cases: Vec<(Program, &str)> = vec![
        (
            other(m.linear(BufferId(77), m.qkv_weight, m.qkv)),
            "linear: BufferId(77) does not exist, 10 buffers do",
        ),
        (other(m.linear(m.normed, WeightId(9), m.qkv)), "linear: WeightId(9) does not exist, 8 weights do"),
        (other(m.linear(m.normed, m.qkv_weight, m.hidden)), "linear: width of hidden must be 128, got 64"),
        (other(m.linear(m.qkv, m.qkv_weight, m.hidden)), "linear: width of qkv must be 64, got 128"),
        (other(m.linear(m.hidden, m.embedding, m.hidden)), "linear: buffer hidden is both read and written"),
        (
            other(m.linear(m.experts, m.embedding, m.hidden)),
            "linear: buffer experts must hold F32, it holds U32",
        ),
        (other(m.linear(m.normed, m.gate_up, m.qkv)), "linear: weight experts must be Bf16, it is Mxfp4"),
        (other(m.attention(2, None)), "attention: KvLayerId(2) does not exist, the KV store has 2 layers"),
        (other(m.attention(1, Some(8))), "attention: window Some(8) on KvLayerId(1), which is full"),
        (other(m.attention(0, None)), "attention: window None on KvLayerId(0), which is sliding"),
        (
            other(m.attention(0, Some(12))),
            "attention: window 12 breaks the rule: at least 1, at most that of the KV store",
        ),
        (
            other(Op::RopeKvWrite { qkv: m.qkv, table: m.table, layer: KvLayerId(0), num_heads: 3 }),
            "rope_kv_write: num_heads 3 breaks the rule: a multiple of num_kv_heads",
        ),
        (
            other(Op::RopeTable { inv_freq: Arc::from([1.0; 7]), concentration: 1.0, out: m.table }),
            "rope_table: width of table must be 14, got 16",
        ),
        (
            other(Op::TopK { logits: m.shares, experts: m.experts, weights: m.router }),
            "top_k: width of router must be 2, got 4",
        ),
        (
            other(Op::GatherLogitRows { input: m.qkv, out: m.last }),
            "gather_logit_rows: width of last must be 128, got 64",
        ),
    ];
    for (program, message) in cases {
        let error = m.registry.check_program(&program).expect_err(message);
        assert_eq!(error.to_string(), message);
    }
    let Op::MoeGateUp { input, experts, bias, limit, alpha, out, .. } = m.gate_up() else { unreachable!() };
    let op = Op::MoeGateUp { input, experts, weight: m.down, bias, limit, alpha, out };
    let error = m.registry.check_program(&vec![op]).expect_err("a weight of another width");
    assert_eq!(error.to_string(), "moe_gate_up_swiglu: in_features of experts must be 64, got 32");
}

#[test]
fn bad_steps_are_refused_with_the_facts() {
    let limits = model().limits();
    let cases: [(StepInputs<'_>, &str); 19] = [
        (StepInputs { token_ids: &[], ..STEP }, "step: token_ids has 0 entries, 1 expected"),
        (StepInputs { positions: &[0], ..STEP }, "step: positions has 1 entries, 4 expected"),
        (StepInputs { sequences: &[0; 5], ..STEP }, "step: sequences has 5 entries, 4 expected"),
        (StepInputs { kv_write_from: &[0; 3], ..STEP }, "step: kv_write_from has 3 entries, 2 expected"),
        (
            StepInputs { rings: &[1], kv_write_from: &[0], ..STEP },
            "step: block_table_offsets has 3 entries, 2 expected",
        ),
        (StepInputs { block_tables: &[5, 1], ..STEP }, "step: block_tables has 2 entries, 3 expected"),
        (StepInputs { token_ids: &[0; 9], ..STEP }, "step: 9 rows, the program's buffers hold 8"),
        (StepInputs { logit_rows: &[0, 1, 2], ..STEP }, "step: 3 logit rows, the program's buffers hold 2"),
        (
            StepInputs { token_ids: &[1, 2, 100, 3], ..STEP },
            "step: token_ids[2] is 100, it must be below 100",
        ),
        (StepInputs { block_tables: &[5, 6, 0], ..STEP }, "step: block_tables[1] is 6, it must be below 6"),
        (StepInputs { rings: &[3, 0], ..STEP }, "step: rings[0] is 3, it must be below 3"),
        (StepInputs { rings: &[1, 1], ..STEP }, "step: rings[1] is 1: sequences do not share a ring"),
        (StepInputs { sequences: &[1, 1, 1, 2], ..STEP }, "step: sequences[3] is 2, it must be below 2"),
        (
            StepInputs { sequences: &[1, 0, 0, 1], positions: &[14, 0, 1, 15], ..STEP },
            "step: sequences[3] is 1: rows of a sequence are adjacent",
        ),
        (
            StepInputs { positions: &[14, 15, 15, 0], ..STEP },
            "step: positions[2] is 15: positions of a sequence ascend by one",
        ),
        (StepInputs { positions: &[30, 31, 32, 0], ..STEP }, "step: positions[2] is 32, it must be below 32"),
        (
            StepInputs { block_table_offsets: &[0, 4, 3], ..STEP },
            "step: block_table_offsets[2] is 3: offsets do not descend",
        ),
        (StepInputs { logit_rows: &[3, 3], ..STEP }, "step: logit_rows[1] is 3: logit rows ascend"),
        (
            StepInputs {
                token_ids: &[0; 5],
                positions: &[0, 1, 2, 3, 4],
                sequences: &[0; 5],
                rings: &[0],
                block_tables: &[5],
                block_table_offsets: &[0, 1],
                kv_write_from: &[0],
                logit_rows: &[],
            },
            "step: sequence 0 has 5 rows; a ring of 11 slots and a window of 8 allow 4",
        ),
    ];
    for (step, message) in cases {
        assert_eq!(limits.check(&step).expect_err(message).to_string(), message);
    }
}

#[test]
fn bad_specs_and_weight_bytes_are_refused() {
    let mut registry = Registry::new();
    let message = |result: Result<WeightId, ContractError>| result.expect_err("bad").to_string();
    let spec = mxfp4(1, 2, 48);
    assert_eq!(
        message(registry.add_weight(spec.clone(), &zeros(&spec))),
        "load_weight: in_features 48 breaks the rule: a multiple of 32 for MXFP4"
    );
    let spec = mxfp4(2, 3, 64);
    let mut data = zeros(&spec);
    data.scales = vec![SharedBytes::from_vec(vec![0; 11])];
    assert_eq!(
        message(registry.add_weight(spec, &data)),
        "load_weight: scale bytes of experts must be 12, got 11"
    );
    let spec = WeightSpec::vector("norm", 4);
    let data = WeightData { values: vec![SharedBytes::from_vec(vec![0; 9])], scales: vec![] };
    assert_eq!(
        message(registry.add_weight(spec, &data)),
        "load_weight: value bytes of norm must be 8, got 9"
    );
    registry.set_kv(kv()).unwrap();
    assert_eq!(registry.set_kv(kv()), Err(ContractError::KvExists));
    let window = KvSpec { window: 12, ..kv() };
    assert!(matches!(
        Registry::new().set_kv(window),
        Err(ContractError::Rule { what: "window", got: 12, .. })
    ));
    let odd = KvSpec { head_dim: 15, ..kv() };
    assert!(matches!(
        Registry::new().set_kv(odd),
        Err(ContractError::Rule { what: "head_dim", got: 15, .. })
    ));
}

#[test]
fn bad_copies_are_refused_with_the_facts() {
    let registry = model().registry;
    let block = |from, to| KvCopy::Block { from, to };
    let save = |ring, snapshot| KvCopy::SaveWindow { ring, position: 9, snapshot };
    let restore = |snapshot, ring| KvCopy::RestoreWindow { snapshot, position: 9, ring };
    let good = [block(0, 5), save(2, 1), restore(1, 0)];
    assert_eq!(registry.check_copies(&good), Ok(()));
    let cases = [
        (block(6, 0), "copy 3: block 6 must be below 6"),
        (block(0, 6), "copy 3: block 6 must be below 6"),
        (block(4, 4), "copy 3: block 4 to itself"),
        (save(3, 0), "copy 3: ring 3 must be below 3"),
        (save(0, 2), "copy 3: snapshot 2 must be below 2"),
        (restore(2, 0), "copy 3: snapshot 2 must be below 2"),
        (restore(0, 3), "copy 3: ring 3 must be below 3"),
    ];
    for (bad, message) in cases {
        let copies = [&good[..], &[bad]].concat();
        assert_eq!(registry.check_copies(&copies).expect_err(message).to_string(), message);
    }
    for layers in [vec![], vec![KvLayerSpec::Full], vec![KvLayerSpec::Sliding]] {
        let mut registry = Registry::new();
        let (full, sliding) = (layers.contains(&KvLayerSpec::Full), layers.contains(&KvLayerSpec::Sliding));
        if !layers.is_empty() {
            registry.set_kv(KvSpec { layers, ..kv() }).unwrap();
        }
        assert_eq!(registry.check_copies(&[block(0, 1)]).is_ok(), full);
        assert_eq!(registry.check_copies(&[save(0, 0)]).is_ok(), sliding);
    }
}

#[test]
fn device_refuses_copies_beyond_its_store() {
    let mut device = ScalarBackend::new();
    device.create_kv(kv()).unwrap();
    let copies = [KvCopy::Block { from: 0, to: 1 }, KvCopy::Block { from: 0, to: 6 }];
    assert!(matches!(
        device.copy_kv(&copies),
        Err(DeviceError::Contract(ContractError::CopyRange { index: 1, what: "block", got: 6, limit: 6 }))
    ));
}

#[test]
fn device_refuses_unknown_programs_and_partial_rows() {
    let mut device = ScalarBackend::new();
    let spec = BufferSpec { name: "x", kind: BufferKind::F32, rows: 2, width: 3 };
    let x = device.create_buffer(spec).unwrap();
    assert!(matches!(
        device.submit(ProgramId(0), &STEP),
        Err(DeviceError::Contract(ContractError::UnknownProgram { id: ProgramId(0), count: 0 }))
    ));
    for (first_row, len) in [(0, 4), (1, 6), (3, 0), (usize::MAX, 3)] {
        let error = device.write(x, first_row, &vec![0.0; len]).expect_err("not within the buffer");
        assert!(matches!(error, DeviceError::Contract(ContractError::Transfer { rows: 2, width: 3, .. })));
    }
    assert!(matches!(
        device.write_u32(x, 0, &[1, 2, 3]),
        Err(DeviceError::Contract(ContractError::BufferKind { buffer: "x", .. }))
    ));
    device.write(x, 1, &[1.0, 2.0, 3.0]).unwrap();
    let mut back = [9.0; 6];
    device.read(x, 0, &mut back).unwrap();
    assert_eq!(back, [0.0, 0.0, 0.0, 1.0, 2.0, 3.0]);
}
