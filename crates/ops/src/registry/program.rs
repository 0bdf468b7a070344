//! Checks of a program against the specs of what it names.

use super::{ContractError, Registry, SlidingLimits, StepLimits, require, same};
use crate::op::{Op, Program, Rows};
use crate::spec::{
    BufferId, BufferKind, BufferSpec, KvLayerId, KvLayerSpec, KvSpec, WeightFormat, WeightId, WeightSpec,
};

/// Checks every op and gathers what a step must keep to.
pub(super) fn check(registry: &Registry, program: &Program) -> Result<StepLimits, ContractError> {
    let mut check = Check { registry, limits: StepLimits::unlimited(), op: "" };
    for op in program {
        check.op = op.name();
        check.one(op)?;
    }
    Ok(check.limits)
}

struct Check<'a> {
    registry: &'a Registry,
    limits: StepLimits,
    op: &'static str,
}

/// The three buffers and two weights of an expert op, and what their widths must be.
struct Experts {
    experts: BufferId,
    weight: WeightId,
    bias: WeightId,
    in_features: usize,
    out_features: usize,
}

impl<'a> Check<'a> {
    fn one(&mut self, op: &Op) -> Result<(), ContractError> {
        match *op {
            Op::Embed { table, out } => self.embed(table, out),
            Op::RmsNorm { rows, input, weight, out, .. } => self.rms_norm(rows, input, weight, out),
            Op::Linear { .. } => self.linear(op),
            Op::RopeTable { ref inv_freq, out, .. } => {
                let out = self.f32(out, Rows::Step)?;
                self.width(out, 2 * inv_freq.len())
            }
            Op::RopeKvWrite { qkv, table, layer, num_heads } => {
                let (kv, _) = self.kv_layer(layer)?;
                self.distinct(qkv, table)?;
                self.heads(kv, qkv, num_heads)?;
                let table = self.f32(table, Rows::Step)?;
                self.width(table, kv.head_dim)
            }
            Op::Attention { .. } => self.attention(op),
            Op::TopK { logits, experts, weights } => self.top_k(logits, experts, weights),
            Op::MoeGateUp { .. } => self.moe_gate_up(op),
            Op::MoeDown { .. } => self.moe_down(op),
            Op::GatherLogitRows { input, out } => {
                self.distinct(input, out)?;
                let input = self.f32(input, Rows::Step)?;
                let out = self.f32(out, Rows::Logits)?;
                self.width(out, input.width)
            }
        }
    }

    fn embed(&mut self, table: WeightId, out: BufferId) -> Result<(), ContractError> {
        let table = self.bf16(table, 1)?;
        let out = self.f32(out, Rows::Step)?;
        let vocab = table.out_features;
        self.limits.vocab_size = Some(self.limits.vocab_size.map_or(vocab, |limit| limit.min(vocab)));
        self.width(out, table.in_features)
    }

    fn rms_norm(
        &mut self,
        rows: Rows,
        input: BufferId,
        weight: WeightId,
        out: BufferId,
    ) -> Result<(), ContractError> {
        let input = self.f32(input, rows)?;
        self.vector(weight, input.width)?;
        let out = self.f32(out, rows)?;
        self.width(out, input.width)
    }

    fn linear(&mut self, op: &Op) -> Result<(), ContractError> {
        let Op::Linear { rows, input, weight, bias, out, .. } = *op else { unreachable!("linear only") };
        self.distinct(input, out)?;
        let weight = self.factor(weight)?;
        let input = self.f32(input, rows)?;
        self.width(input, weight.in_features)?;
        if let Some(bias) = bias {
            self.vector(bias, weight.out_features)?;
        }
        let out = self.f32(out, rows)?;
        self.width(out, weight.out_features)
    }

    fn attention(&mut self, op: &Op) -> Result<(), ContractError> {
        let Op::Attention { qkv, layer, num_heads, sinks, window, out, .. } = *op else {
            unreachable!("attention only")
        };
        let (kv, spec) = self.kv_layer(layer)?;
        self.distinct(qkv, out)?;
        self.heads(kv, qkv, num_heads)?;
        self.vector(sinks, num_heads)?;
        let out = self.f32(out, Rows::Step)?;
        self.width(out, num_heads * kv.head_dim)?;
        match (spec, window) {
            (KvLayerSpec::Full, None) => Ok(()),
            (KvLayerSpec::Sliding, Some(window)) => {
                let fits = window > 0 && window <= kv.window;
                require(self.op, "window", window, fits, "at least 1, at most that of the KV store")?;
                let limits = self.limits.sliding.get_or_insert(SlidingLimits {
                    num_rings: kv.num_rings,
                    ring_slots: kv.ring_slots,
                    window,
                });
                limits.window = limits.window.max(window);
                Ok(())
            }
            (KvLayerSpec::Full, Some(_)) => Err(ContractError::Window { layer, window, kind: "full" }),
            (KvLayerSpec::Sliding, None) => Err(ContractError::Window { layer, window, kind: "sliding" }),
        }
    }

    fn top_k(&mut self, logits: BufferId, experts: BufferId, weights: BufferId) -> Result<(), ContractError> {
        self.distinct(logits, weights)?;
        let logits = self.f32(logits, Rows::Step)?;
        let experts = self.buffer(experts, BufferKind::U32, Rows::Step)?;
        let fits = experts.width <= logits.width;
        require(self.op, "k", experts.width, fits, "at most the number of experts")?;
        let weights = self.f32(weights, Rows::Step)?;
        self.width(weights, experts.width)
    }

    fn moe_gate_up(&mut self, op: &Op) -> Result<(), ContractError> {
        let Op::MoeGateUp { input, experts, weight, bias, out, .. } = *op else {
            unreachable!("moe_gate_up only")
        };
        self.distinct(input, out)?;
        let in_features = self.f32(input, Rows::Step)?.width;
        let out_features = self.registry.weight(self.op, weight)?.out_features;
        require(self.op, "out_features", out_features, out_features.is_multiple_of(2), "even")?;
        let k = self.experts(Experts { experts, weight, bias, in_features, out_features })?;
        let out = self.f32(out, Rows::Step)?;
        self.width(out, k * (out_features / 2))
    }

    fn moe_down(&mut self, op: &Op) -> Result<(), ContractError> {
        let Op::MoeDown { input, experts, weights, weight, bias, out } = *op else {
            unreachable!("moe_down only")
        };
        self.distinct(input, out)?;
        self.distinct(weights, out)?;
        let in_features = self.registry.weight(self.op, weight)?.in_features;
        let out_features = self.f32(out, Rows::Step)?.width;
        let k = self.experts(Experts { experts, weight, bias, in_features, out_features })?;
        let input = self.f32(input, Rows::Step)?;
        self.width(input, k * in_features)?;
        let weights = self.f32(weights, Rows::Step)?;
        self.width(weights, k)
    }

    /// Checks the weights of an expert op; gives the number of experts per row.
    fn experts(&mut self, want: Experts) -> Result<usize, ContractError> {
        let k = self.buffer(want.experts, BufferKind::U32, Rows::Step)?.width;
        let weight = self.weight(want.weight, WeightFormat::Mxfp4)?;
        same(self.op, "in_features", &weight.name, want.in_features, weight.in_features)?;
        same(self.op, "out_features", &weight.name, want.out_features, weight.out_features)?;
        require(self.op, "k", k, k <= weight.experts, "at most the number of experts")?;
        let bias = self.bf16(want.bias, weight.experts)?;
        same(self.op, "out_features", &bias.name, 1, bias.out_features)?;
        same(self.op, "in_features", &bias.name, want.out_features, bias.in_features)?;
        Ok(k)
    }

    /// Checks query, key and value heads against the KV store.
    fn heads(&mut self, kv: &KvSpec, qkv: BufferId, num_heads: usize) -> Result<(), ContractError> {
        let groups = num_heads > 0 && num_heads.is_multiple_of(kv.num_kv_heads);
        require(self.op, "num_heads", num_heads, groups, "a multiple of num_kv_heads")?;
        let qkv = self.f32(qkv, Rows::Step)?;
        self.width(qkv, (num_heads + 2 * kv.num_kv_heads) * kv.head_dim)
    }

    /// Looks a layer up and notes what steps must satisfy to touch it.
    fn kv_layer(&mut self, layer: KvLayerId) -> Result<(&'a KvSpec, KvLayerSpec), ContractError> {
        let (kv, spec) = self.registry.kv_layer(self.op, layer)?;
        match spec {
            KvLayerSpec::Full => self.limits.num_blocks = Some(kv.num_blocks),
            KvLayerSpec::Sliding => {
                self.limits.sliding.get_or_insert(SlidingLimits {
                    num_rings: kv.num_rings,
                    ring_slots: kv.ring_slots,
                    window: 1,
                });
            }
        }
        Ok((kv, spec))
    }

    fn f32(&mut self, id: BufferId, rows: Rows) -> Result<&'a BufferSpec, ContractError> {
        self.buffer(id, BufferKind::F32, rows)
    }

    /// Looks a buffer up, checks its kind and notes how many rows it holds.
    fn buffer(
        &mut self,
        id: BufferId,
        kind: BufferKind,
        rows: Rows,
    ) -> Result<&'a BufferSpec, ContractError> {
        let spec = self.registry.buffer(self.op, id)?;
        if spec.kind != kind {
            let (expected, got) = (kind, spec.kind);
            return Err(ContractError::BufferKind { op: self.op, buffer: spec.name, expected, got });
        }
        let limit = match rows {
            Rows::Step => &mut self.limits.max_rows,
            Rows::Logits => &mut self.limits.max_logit_rows,
        };
        *limit = (*limit).min(spec.rows);
        Ok(spec)
    }

    fn width(&self, buffer: &BufferSpec, expected: usize) -> Result<(), ContractError> {
        same(self.op, "width", buffer.name, expected, buffer.width)
    }

    fn weight(&self, id: WeightId, expected: WeightFormat) -> Result<&'a WeightSpec, ContractError> {
        let spec = self.registry.weight(self.op, id)?;
        if spec.format == expected {
            return Ok(spec);
        }
        let (weight, got) = (spec.name.clone(), spec.format);
        Err(ContractError::WeightFormat { op: self.op, weight, expected, got })
    }

    /// A weight whose every bit counts.
    fn bf16(&self, id: WeightId, experts: usize) -> Result<&'a WeightSpec, ContractError> {
        let spec = self.weight(id, WeightFormat::Bf16)?;
        same(self.op, "experts", &spec.name, experts, spec.experts)?;
        let rule = "0: only linear takes a weight that may be rounded";
        require(self.op, "may_round", usize::from(spec.may_round), !spec.may_round, rule)?;
        Ok(spec)
    }

    /// A matrix that is multiplied with.
    fn factor(&self, id: WeightId) -> Result<&'a WeightSpec, ContractError> {
        let spec = self.weight(id, WeightFormat::Bf16)?;
        same(self.op, "experts", &spec.name, 1, spec.experts)?;
        Ok(spec)
    }

    fn vector(&self, id: WeightId, len: usize) -> Result<(), ContractError> {
        let spec = self.bf16(id, 1)?;
        same(self.op, "out_features", &spec.name, 1, spec.out_features)?;
        same(self.op, "in_features", &spec.name, len, spec.in_features)
    }

    fn distinct(&self, first: BufferId, second: BufferId) -> Result<(), ContractError> {
        if first != second {
            return Ok(());
        }
        let buffer = self.registry.buffer(self.op, first)?.name;
        Err(ContractError::Aliased { op: self.op, buffer })
    }
}
