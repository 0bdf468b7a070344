//! SIMD kernels, the instruction-set witness, the thread pool and the CPU backend.
//!
//! Kernels know no layer and no file: they get slices, and write where they are told. They are written once over
//! `simd::Simd`, a small set of vector operations, and compiled for each instruction set; a value of an instruction
//! set's type is the proof that the processor has it, and the only way to reach that code.
//!
//! # Numerics
//! Sums run over the reduction dimension in 32-element blocks, in ascending order, in one accumulator per (row, output):
//! a vector whose lanes are added at the end, or a lane where the outputs lie side by side. Tiles of several rows and
//! outputs only interleave such chains, so a row's bits depend on its inputs and the instruction set, never on its company
//! or the number of threads.
//!
//! In [`Precision::Exact`](sostenuto_ops::Precision) activations stay f32 and weights stay as stored. In `Fast` experts
//! and the matrices that may be rounded are packed as they are loaded (see `kernel::packed`), the latter in 8 bits with
//! a bf16 scale per 32, and their activations are rounded to int8 with an f32 scale per 32: products within a block are
//! exact integers, each output has one f32 sum over its blocks in ascending order, and everything else is as in `Exact`.
//! Attention goes by pieces of 1,024 positions and tiles of 64, merged in ascending order (see `kernel::attention`).
//! With AMX activations are rounded to integers up to 254, and the scales of activations and 8-bit weights are powers of
//! two (see `kernel::tiled`): then tiles of bf16 and integer products agree bit for bit, as long as results are finite
//! and no product of the scales is below 2^-125. Attention over bf16 then rounds queries to the sum of two bf16 and weights to
//! one (see `kernel::attention_tiled`).
//! The KV store's type is what its spec says in either mode.
//!
//! # Environment
//! `SOSTENUTO_ISA` = `scalar`, `avx2`, `avx512`, `amx` or `neon` forces an instruction set where [`CpuOptions::isa`] does
//! not.

mod backend;
mod isa;
mod kernel;
mod kv;
mod memory;
mod numa;
mod peak;
mod pool;
mod simd;

pub use backend::{CpuBackend, CpuOptions};
pub use isa::{CpuError, ISA_VARIABLE, Isa};
pub use peak::{Product, spin_products, stream_sum};
