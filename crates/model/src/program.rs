//! The forward pass, as a program of ops.

use std::sync::Arc;

use sostenuto_formats::{LayerType, ModelConfig};
use sostenuto_ops::{BufferId, BufferKind, BufferSpec, KvLayerId, Op, Program, Rows};

use crate::limits::ModelLimits;
use crate::rope::RopeFrequencies;
use crate::weights::{LayerWeights, Weights};

/// Steepness of the sigmoid in the experts' SwiGLU (`swiglu` of the gpt-oss reference).
const SWIGLU_ALPHA: f32 = 1.702;

/// Shapes of the activation buffers, in the order of [`Buffers`]' fields.
pub(crate) fn buffer_specs(config: &ModelConfig, limits: &ModelLimits) -> [BufferSpec; 12] {
    let (rows, logit_rows) = (limits.max_step_rows, limits.max_logit_rows);
    let chosen = config.num_experts_per_tok;
    let query_width = config.num_attention_heads * config.head_dim;
    let kv_width = config.num_key_value_heads * config.head_dim;
    let f32_rows = |name, rows, width| BufferSpec { name, kind: BufferKind::F32, rows, width };
    [
        f32_rows("hidden", rows, config.hidden_size),
        f32_rows("normed", rows, config.hidden_size),
        f32_rows("rope table", rows, config.head_dim),
        f32_rows("qkv", rows, query_width + 2 * kv_width),
        f32_rows("attention", rows, query_width),
        f32_rows("router logits", rows, config.num_local_experts),
        BufferSpec { name: "experts", kind: BufferKind::U32, rows, width: chosen },
        f32_rows("expert weights", rows, chosen),
        f32_rows("expert activations", rows, chosen * config.intermediate_size),
        f32_rows("last hidden", logit_rows, config.hidden_size),
        f32_rows("last normed", logit_rows, config.hidden_size),
        f32_rows("logits", logit_rows, config.vocab_size),
    ]
}

/// The activation buffers of a step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Buffers {
    hidden: BufferId,
    normed: BufferId,
    rope_table: BufferId,
    qkv: BufferId,
    attention: BufferId,
    router_logits: BufferId,
    experts: BufferId,
    expert_weights: BufferId,
    expert_activations: BufferId,
    last_hidden: BufferId,
    last_normed: BufferId,
    pub(crate) logits: BufferId,
}

impl Buffers {
    /// Makes all of them with `create`.
    pub(crate) fn create<E>(
        config: &ModelConfig,
        limits: &ModelLimits,
        mut create: impl FnMut(BufferSpec) -> Result<BufferId, E>,
    ) -> Result<Self, E> {
        let mut ids = [BufferId(0); 12];
        for (id, spec) in ids.iter_mut().zip(buffer_specs(config, limits)) {
            *id = create(spec)?;
        }
        let [hidden, normed, rope_table, qkv, attention, router_logits, experts, rest @ ..] = ids;
        let [expert_weights, expert_activations, last_hidden, last_normed, logits] = rest;
        Ok(Self {
            hidden,
            normed,
            rope_table,
            qkv,
            attention,
            router_logits,
            experts,
            expert_weights,
            expert_activations,
            last_hidden,
            last_normed,
            logits,
        })
    }
}

/// The whole forward pass.
///
/// # Source
/// `Transformer.forward` of the gpt-oss torch reference.
pub(crate) fn forward(config: &ModelConfig, weights: &Weights, buffers: &Buffers) -> Program {
    let rope = RopeFrequencies::new(config);
    let b = buffers;
    let mut program = vec![
        Op::Embed { table: weights.embedding, out: b.hidden },
        Op::RopeTable {
            inv_freq: Arc::from(rope.inv_freq),
            concentration: rope.concentration,
            out: b.rope_table,
        },
    ];
    for (index, layer) in weights.layers.iter().enumerate() {
        attention_ops(&mut program, config, layer, index, b);
        expert_ops(&mut program, config, layer, b);
    }
    program.extend([
        Op::GatherLogitRows { input: b.hidden, out: b.last_hidden },
        Op::RmsNorm {
            rows: Rows::Logits,
            input: b.last_hidden,
            weight: weights.final_norm,
            eps: config.rms_norm_eps as f32,
            out: b.last_normed,
        },
        Op::Linear {
            rows: Rows::Logits,
            input: b.last_normed,
            weight: weights.unembedding,
            bias: None,
            out: b.logits,
            accumulate: false,
        },
    ]);
    program
}

fn attention_ops(
    program: &mut Program,
    config: &ModelConfig,
    layer: &LayerWeights,
    index: usize,
    b: &Buffers,
) {
    let kv_layer = KvLayerId(index as u32);
    let num_heads = config.num_attention_heads;
    let window = match config.layer_types[index] {
        LayerType::SlidingAttention => Some(config.sliding_window),
        LayerType::FullAttention => None,
    };
    program.extend([
        norm(b.hidden, layer.attention_norm, config, b.normed),
        linear(b.normed, layer.qkv_weight, layer.qkv_bias, b.qkv),
        Op::RopeKvWrite { qkv: b.qkv, table: b.rope_table, layer: kv_layer, num_heads },
        Op::Attention {
            qkv: b.qkv,
            layer: kv_layer,
            num_heads,
            sinks: layer.sinks,
            window,
            scale: 1.0 / (config.head_dim as f32).sqrt(),
            out: b.attention,
        },
        Op::Linear {
            rows: Rows::Step,
            input: b.attention,
            weight: layer.out_weight,
            bias: Some(layer.out_bias),
            out: b.hidden,
            accumulate: true,
        },
    ]);
}

fn expert_ops(program: &mut Program, config: &ModelConfig, layer: &LayerWeights, b: &Buffers) {
    program.extend([
        norm(b.hidden, layer.mlp_norm, config, b.normed),
        linear(b.normed, layer.router_weight, layer.router_bias, b.router_logits),
        Op::TopK { logits: b.router_logits, experts: b.experts, weights: b.expert_weights },
        Op::MoeGateUp {
            input: b.normed,
            experts: b.experts,
            weight: layer.gate_up_weight,
            bias: layer.gate_up_bias,
            limit: config.swiglu_limit as f32,
            alpha: SWIGLU_ALPHA,
            out: b.expert_activations,
        },
        Op::MoeDown {
            input: b.expert_activations,
            experts: b.experts,
            weights: b.expert_weights,
            weight: layer.down_weight,
            bias: layer.down_bias,
            out: b.hidden,
        },
    ]);
}

fn norm(input: BufferId, weight: sostenuto_ops::WeightId, config: &ModelConfig, out: BufferId) -> Op {
    Op::RmsNorm { rows: Rows::Step, input, weight, eps: config.rms_norm_eps as f32, out }
}

fn linear(
    input: BufferId,
    weight: sostenuto_ops::WeightId,
    bias: sostenuto_ops::WeightId,
    out: BufferId,
) -> Op {
    Op::Linear { rows: Rows::Step, input, weight, bias: Some(bias), out, accumulate: false }
}
