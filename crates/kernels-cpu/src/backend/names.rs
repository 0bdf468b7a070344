//! The kernels' names.

use sostenuto_ops::{KernelChoice, Precision};

use crate::isa::Isa;

/// Every op with its kernel's name, which ends in the instruction set.
macro_rules! choices {
    ($isa:literal, $($op:literal: $kernel:literal),* $(,)?) => {
        [$(KernelChoice { op: $op, kernel: concat!($kernel, "_", $isa) }),*]
    };
}

macro_rules! exact {
    ($isa:literal) => {
        choices!($isa,
            "embed": "f32_bf16w_embed",
            "rms_norm": "f32_bf16w_rms_norm",
            "linear": "f32_bf16w_linear",
            "rope_table": "f32_rope_table",
            "rope_kv_write": "f32_rope_kv_write",
            "attention": "f32_attention_sinks",
            "top_k": "f32_top_k_softmax",
            "moe_gate_up_swiglu": "f32_mf4w_moe_gate_up_swiglu",
            "moe_down": "f32_mf4w_moe_down",
            "gather_logit_rows": "f32_gather_logit_rows",
        )
    };
}

/// The kernel of each op.
pub(super) fn kernels(isa: Isa, _precision: Precision) -> Vec<KernelChoice> {
    match isa {
        Isa::Scalar => exact!("scalar").to_vec(),
        Isa::Avx2 => exact!("avx2").to_vec(),
        Isa::Avx512 => exact!("avx512").to_vec(),
    }
}
