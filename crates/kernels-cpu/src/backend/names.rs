//! The kernels' names.

use sostenuto_ops::{KernelChoice, Precision};

use crate::isa::{Isa, Witness};

/// Every op with its kernel's name, which ends in the instruction set.
macro_rules! kernels {
    ($isa:literal, $linear:literal, $experts:literal, $attention:literal, $dot:literal) => {
        kernels!(@ $isa,
            "embed": "f32_bf16w_embed",
            "rms_norm": "f32_bf16w_rms_norm",
            "linear": concat!($linear, "_linear", $dot),
            "rope_table": "f32_rope_table",
            "rope_kv_write": "f32_rope_kv_write",
            "attention": concat!($attention, "_attention_sinks"),
            "top_k": "f32_top_k_softmax",
            "moe_gate_up_swiglu": concat!($experts, "_moe_gate_up_swiglu", $dot),
            "moe_down": concat!($experts, "_moe_down", $dot),
            "gather_logit_rows": "f32_gather_logit_rows",
        )
    };
    (@ $isa:literal, $($op:literal: $kernel:expr),* $(,)?) => {
        vec![$(KernelChoice { op: $op, kernel: concat!($kernel, "_", $isa) }),*]
    };
    ($isa:literal, exact) => {
        kernels!($isa, "f32_bf16w", "f32_mf4w", "f32", "")
    };
    ($isa:literal, int8) => {
        kernels!($isa, "i8_i8w", "i8_mf4w", "f32", "")
    };
    ($isa:literal, vnni) => {
        kernels!($isa, "i8_i8w", "i8_mf4w", "f32", "_vnni")
    };
    ($isa:literal, dotprod) => {
        kernels!($isa, "i8_i8w", "i8_mf4w", "f32", "_dotprod")
    };
    ($isa:literal, bf16, tiles) => {
        kernels!($isa, "i9_i8w", "i9_mf4w", "bf16", "_bf16")
    };
    ($isa:literal, bf16) => {
        kernels!($isa, "i9_i8w", "i9_mf4w", "f32", "_bf16")
    };
}

/// The kernel of each op; products by their activations and weights. In fast mode `linear` means the products that may be
/// rounded, the others are as in exact mode. `by_tiles`: attention is, where there are any.
pub(super) fn kernels(witness: Witness, precision: Precision, by_tiles: bool) -> Vec<KernelChoice> {
    match (witness.isa(), precision, witness.has_int8_dot()) {
        (Isa::Scalar, Precision::Exact, _) => kernels!("scalar", exact),
        (Isa::Scalar, Precision::Fast, _) => kernels!("scalar", int8),
        (Isa::Avx2, Precision::Exact, _) => kernels!("avx2", exact),
        (Isa::Avx2, Precision::Fast, false) => kernels!("avx2", int8),
        (Isa::Avx2, Precision::Fast, true) => kernels!("avx2", vnni),
        (Isa::Avx512, Precision::Exact, _) => kernels!("avx512", exact),
        (Isa::Avx512, Precision::Fast, false) => kernels!("avx512", int8),
        (Isa::Avx512, Precision::Fast, true) => kernels!("avx512", vnni),
        (Isa::Amx, Precision::Exact, _) => kernels!("amx", exact),
        (Isa::Amx, Precision::Fast, _) if by_tiles => kernels!("amx", bf16, tiles),
        (Isa::Amx, Precision::Fast, _) => kernels!("amx", bf16),
        (Isa::Neon, Precision::Exact, _) => kernels!("neon", exact),
        (Isa::Neon, Precision::Fast, false) => kernels!("neon", int8),
        (Isa::Neon, Precision::Fast, true) => kernels!("neon", dotprod),
    }
}
