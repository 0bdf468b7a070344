//! MXFP4 and bf16 codes, safetensors containers, model configuration and checkpoints on disk
