//! Number codes, containers and configuration of gpt-oss checkpoints, and the checkpoint itself: a map from
//! weight to bytes.
//!
//! Lowest layer: depends on no other crate of the project, knows no kernel, no token and no request. Everything read
//! here comes from files that nobody vouches for, so every length, offset and shape is checked once, at load, and
//! code above may assume them.
//!
//! - [`codes`]: E2M1, E8M0, MXFP4 and bf16, scalar and exact.
//! - [`bytes`]: [`SharedBytes`], bytes that a mapping or a heap buffer owns and that are cheap to share.
//! - [`safetensors`]: one container file, header and tensors.
//! - [`config`]: [`ModelConfig`], from Hugging Face's `config.json` or from OpenAI's.
//! - [`weights`]: which tensors a checkpoint has, by layout; [`WeightRef`] hides the layout.
//! - [`checkpoint`]: a folder opened, checked and bound: [`Checkpoint`].
//! - [`synth`]: random weights of a given shape, written to disk.
//! - [`summary`]: what is in a checkpoint, for `inspect`.

pub mod bytes;
pub mod checkpoint;
pub mod codes;
pub mod config;
mod file_io;
mod json;
mod mapping;
pub mod safetensors;
pub mod summary;
pub mod synth;
pub mod tensor;
pub mod weights;

pub use bytes::{LoadedAs, Loading, SharedBytes};
pub use checkpoint::{Checkpoint, CheckpointError};
pub use config::{ConfigError, LayerType, ModelConfig, RopeScaling};
pub use mapping::pages;
pub use safetensors::{SafetensorsError, SafetensorsFile};
pub use summary::Summary;
pub use synth::{SynthError, write_synthetic};
pub use tensor::{Dtype, TensorView};
pub use weights::{LayerWeight, Layout, TensorSpec, WeightRef, expected_tensors};

const _: () = assert!(usize::BITS >= 64, "checkpoints are larger than a 32-bit address space");
