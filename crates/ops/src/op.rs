//! The ops of a forward pass, as data.

use std::sync::Arc;

use crate::spec::{BufferId, KvLayerId, WeightId};

/// Which rows an op works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// Every row of the step.
    Step,
    /// The rows whose logits are wanted, counted from 0.
    Logits,
}

/// The ops of one step, in order. An op reads what earlier ops wrote.
pub type Program = Vec<Op>;

/// One op. `t` is a row; sizes come from the specs of the buffers and weights named.
///
/// # Numerics
/// Activations are f32. Sums run over the reduction dimension in an order that depends on its length and the
/// instruction set alone. Tolerances against an f64 evaluation are in the op suite.
///
/// # Source
/// openai/gpt-oss, `gpt_oss/torch/model.py`: `RMSNorm`, `RotaryEmbedding`, `AttentionBlock`, `sdpa`, `MLPBlock`, `swiglu`.
/// MXFP4: OCP Microscaling Formats specification 1.0, section 6.1.
#[derive(Clone, Debug)]
pub enum Op {
    /// `out[t] = table[token_ids[t]]`, bf16 rows widened to f32, exactly.
    Embed {
        /// bf16 `[vocab_size, hidden_size]`.
        table: WeightId,
        /// f32 `[rows, hidden_size]`.
        out: BufferId,
    },
    /// `out[t] = input[t] / sqrt(mean(input[t]^2) + eps) * weight`; in place is allowed.
    RmsNorm {
        /// Rows.
        rows: Rows,
        /// f32 `[rows, n]`.
        input: BufferId,
        /// bf16 `[n]`.
        weight: WeightId,
        /// Added to the mean square.
        eps: f32,
        /// f32 `[rows, n]`.
        out: BufferId,
    },
    /// `out[t] = weight · input[t] + bias`, or `out[t] +=` the same where `accumulate`.
    Linear {
        /// Rows.
        rows: Rows,
        /// f32 `[rows, in_features]`.
        input: BufferId,
        /// bf16 `[out_features, in_features]`.
        weight: WeightId,
        /// bf16 `[out_features]`.
        bias: Option<WeightId>,
        /// f32 `[rows, out_features]`.
        out: BufferId,
        /// Add to `out` instead of replacing it (the residual connection).
        accumulate: bool,
    },
    /// `out[t] = [cos(p·f_i)·c …, sin(p·f_i)·c …]` for the row's position p, frequencies f and concentration c.
    /// Angles are formed in f64, results are f32.
    RopeTable {
        /// `head_dim / 2` angular frequencies, radians per position.
        inv_freq: Arc<[f64]>,
        /// Multiplies cosine and sine.
        concentration: f64,
        /// f32 `[rows, head_dim]`: cosines, then sines.
        out: BufferId,
    },
    /// Rotates the query and key heads of `qkv` in place, half-split pairs `(i, i + head_dim / 2)`:
    /// `a' = a·cos − b·sin`, `b' = b·cos + a·sin`; then writes key and value heads to the row's KV slot.
    RopeKvWrite {
        /// f32 `[rows, (num_heads + 2·num_kv_heads)·head_dim]`: query, key, value heads.
        qkv: BufferId,
        /// f32 `[rows, head_dim]` of [`Op::RopeTable`].
        table: BufferId,
        /// Where keys and values go.
        layer: KvLayerId,
        /// Query heads.
        num_heads: usize,
    },
    /// Attention with a learned sink per query head. For head h of row t at position p over
    /// `j ∈ [max(0, p + 1 − window), p]`: `s_j = scale · q_h · k_j`, `w = softmax([s…, sink_h])` and
    /// `out = Σ_j w_j v_j`; the sink takes weight and gives no value. Head h reads KV head
    /// `h / (num_heads / num_kv_heads)`.
    Attention {
        /// f32 `[rows, (num_heads + 2·num_kv_heads)·head_dim]`, rotated; only the query heads are read.
        qkv: BufferId,
        /// The layer's keys and values.
        layer: KvLayerId,
        /// Query heads.
        num_heads: usize,
        /// bf16 `[num_heads]`.
        sinks: WeightId,
        /// Positions seen, the row's own included; `None` sees all. `Some` exactly where the layer is sliding.
        window: Option<usize>,
        /// Multiplies the dot products, not the sink.
        scale: f32,
        /// f32 `[rows, num_heads·head_dim]`.
        out: BufferId,
    },
    /// The `k` largest router logits of each row, in descending order (the lower index first where equal), and
    /// the softmax over those alone.
    TopK {
        /// f32 `[rows, num_experts]`.
        logits: BufferId,
        /// u32 `[rows, k]`.
        experts: BufferId,
        /// f32 `[rows, k]`.
        weights: BufferId,
    },
    /// For each chosen expert e of row t: `g = W_e[2i]·h + b_e[2i]`, `u = W_e[2i+1]·h + b_e[2i+1]`,
    /// `g' = min(g, limit)`, `u' = clamp(u, −limit, limit)`, `out[t, e, i] = g'·σ(alpha·g')·(u' + 1)`.
    MoeGateUp {
        /// f32 `[rows, hidden_size]`.
        input: BufferId,
        /// u32 `[rows, k]` of [`Op::TopK`].
        experts: BufferId,
        /// MXFP4 `[experts, 2·intermediate_size, hidden_size]`, gate and up rows interleaved.
        weight: WeightId,
        /// bf16 `[experts, 1, 2·intermediate_size]`.
        bias: WeightId,
        /// Clamp of gate (above) and up (both sides).
        limit: f32,
        /// Steepness of the sigmoid, 1.702.
        alpha: f32,
        /// f32 `[rows, k·intermediate_size]`.
        out: BufferId,
    },
    /// `out[t] += Σ_e weights[t, e] · (W_e · input[t, e] + b_e)`, experts in the order of `experts`.
    MoeDown {
        /// f32 `[rows, k·intermediate_size]`.
        input: BufferId,
        /// u32 `[rows, k]`.
        experts: BufferId,
        /// f32 `[rows, k]`.
        weights: BufferId,
        /// MXFP4 `[experts, hidden_size, intermediate_size]`.
        weight: WeightId,
        /// bf16 `[experts, 1, hidden_size]`.
        bias: WeightId,
        /// f32 `[rows, hidden_size]`.
        out: BufferId,
    },
    /// `out[i] = input[logit_rows[i]]`.
    GatherLogitRows {
        /// f32 `[rows, n]`.
        input: BufferId,
        /// f32 `[logit rows, n]`.
        out: BufferId,
    },
}

impl Op {
    /// The op's name in messages and in the list of kernels.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Embed { .. } => "embed",
            Self::RmsNorm { .. } => "rms_norm",
            Self::Linear { .. } => "linear",
            Self::RopeTable { .. } => "rope_table",
            Self::RopeKvWrite { .. } => "rope_kv_write",
            Self::Attention { .. } => "attention",
            Self::TopK { .. } => "top_k",
            Self::MoeGateUp { .. } => "moe_gate_up_swiglu",
            Self::MoeDown { .. } => "moe_down",
            Self::GatherLogitRows { .. } => "gather_logit_rows",
        }
    }
}
