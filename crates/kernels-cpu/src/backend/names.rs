//! The kernels' names.

use sostenuto_ops::{KernelChoice, Precision};

use crate::isa::{Isa, Witness};

/// Every op with its kernel's name, which ends in the instruction set.
macro_rules! choices {
    ($isa:literal, $($op:literal: $kernel:literal),* $(,)?) => {
        [$(KernelChoice { op: $op, kernel: concat!($kernel, "_", $isa) }),*]
    };
}

/// The kernels, with those of expert products by their activations.
macro_rules! kernels {
    ($isa:literal, $gate_up:literal, $down:literal) => {
        choices!($isa,
            "embed": "f32_bf16w_embed",
            "rms_norm": "f32_bf16w_rms_norm",
            "linear": "f32_bf16w_linear",
            "rope_table": "f32_rope_table",
            "rope_kv_write": "f32_rope_kv_write",
            "attention": "f32_attention_sinks",
            "top_k": "f32_top_k_softmax",
            "moe_gate_up_swiglu": $gate_up,
            "moe_down": $down,
            "gather_logit_rows": "f32_gather_logit_rows",
        )
        .to_vec()
    };
    ($isa:literal, exact) => {
        kernels!($isa, "f32_mf4w_moe_gate_up_swiglu", "f32_mf4w_moe_down")
    };
    ($isa:literal, int8) => {
        kernels!($isa, "i8_mf4w_moe_gate_up_swiglu", "i8_mf4w_moe_down")
    };
    ($isa:literal, vnni) => {
        kernels!($isa, "i8_mf4w_moe_gate_up_swiglu_vnni", "i8_mf4w_moe_down_vnni")
    };
    ($isa:literal, dotprod) => {
        kernels!($isa, "i8_mf4w_moe_gate_up_swiglu_dotprod", "i8_mf4w_moe_down_dotprod")
    };
}

/// The kernel of each op.
pub(super) fn kernels(witness: Witness, precision: Precision) -> Vec<KernelChoice> {
    match (witness.isa(), precision, witness.has_int8_dot()) {
        (Isa::Scalar, Precision::Exact, _) => kernels!("scalar", exact),
        (Isa::Scalar, Precision::Fast, _) => kernels!("scalar", int8),
        (Isa::Avx2, Precision::Exact, _) => kernels!("avx2", exact),
        (Isa::Avx2, Precision::Fast, false) => kernels!("avx2", int8),
        (Isa::Avx2, Precision::Fast, true) => kernels!("avx2", vnni),
        (Isa::Avx512, Precision::Exact, _) => kernels!("avx512", exact),
        (Isa::Avx512, Precision::Fast, false) => kernels!("avx512", int8),
        (Isa::Avx512, Precision::Fast, true) => kernels!("avx512", vnni),
        (Isa::Neon, Precision::Exact, _) => kernels!("neon", exact),
        (Isa::Neon, Precision::Fast, false) => kernels!("neon", int8),
        (Isa::Neon, Precision::Fast, true) => kernels!("neon", dotprod),
    }
}
