//! Speed predicted from bytes and operations, for a model on a device.
//!
//! A step takes the longer of two times: that of reading its bytes and that of its multiplications. What a step reads:
//! every dense weight once, each expert that a row is routed to once, and every sequence's keys and values. Experts are
//! taken as chosen independently and evenly, so that `rows` rows choose `E · (1 − (1 − k/E)^rows)` of `E` experts; real
//! routing repeats itself, and reads less.

use sostenuto_formats::summary::Parameters;
use sostenuto_formats::{LayerType, ModelConfig};
use sostenuto_ops::KvDtype;

use crate::bench::traffic::{DenseFormat, Traffic};

/// What a device can do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Speed {
    /// Bytes per second that memory can be read with.
    pub(crate) bandwidth: f64,
    /// Share of it that decoding is taken to reach.
    pub(crate) bandwidth_efficiency: f64,
    /// Operations per second of dense products and attention; a multiplication and its addition are two.
    pub(crate) dense_flops: f64,
    /// Operations per second of expert products.
    pub(crate) expert_flops: f64,
    /// Share of both that is taken to be reached.
    pub(crate) compute_efficiency: f64,
}

/// A model's step, as far as speed is concerned.
pub(crate) struct Roofline<'a> {
    pub(crate) config: &'a ModelConfig,
    pub(crate) kv_dtype: KvDtype,
    pub(crate) dense: DenseFormat,
    pub(crate) speed: Speed,
}

impl Roofline<'_> {
    /// Bytes that a step of one row of each of `sequences` sequences reads, each with `context` tokens before it.
    pub(crate) fn decode_step_bytes(&self, sequences: usize, context: usize) -> f64 {
        let step = Traffic::of_step(self.config, self.kv_dtype, sequences, context);
        step.dense_as(self.dense).total_bytes() as f64
    }

    /// Tokens per second of all sequences together.
    pub(crate) fn decode(&self, sequences: usize, context: usize) -> f64 {
        let rows = sequences as f64;
        let bytes = self.decode_step_bytes(sequences, context);
        let dense = rows * (self.dense_operations(true) + self.attention_operations(context));
        rows / self.seconds(bytes, dense, rows * self.expert_operations())
    }

    /// Tokens per second of a prompt of `tokens` tokens, alone, in chunks of `chunk` rows.
    pub(crate) fn prefill(&self, tokens: usize, chunk: usize) -> f64 {
        let starts = (0..tokens).step_by(chunk);
        let seconds = starts.map(|start| self.chunk_seconds(start, tokens.min(start + chunk), tokens));
        tokens as f64 / seconds.sum::<f64>()
    }

    /// Of the rows `start..end` of a prompt of `tokens` tokens.
    fn chunk_seconds(&self, start: usize, end: usize, tokens: usize) -> f64 {
        let (count, rows) = (end - start, (end - start) as f64);
        let one =
            Traffic::of(self.config, self.kv_dtype, end).of_rows(self.config, count).dense_as(self.dense);
        let mut bytes = (one.dense_bytes + one.expert_bytes + one.kv_bytes) as f64;
        // A row attends to half of its own chunk on average.
        let mut dense = rows * (self.dense_operations(false) + self.attention_operations(start + count / 2));
        if end == tokens {
            bytes += one.unembedding_bytes as f64;
            dense += self.unembedding_operations();
        }
        self.seconds(bytes, dense, rows * self.expert_operations())
    }

    fn seconds(&self, bytes: f64, dense_operations: f64, expert_operations: f64) -> f64 {
        let Speed { bandwidth, bandwidth_efficiency, dense_flops, expert_flops, compute_efficiency } =
            self.speed;
        let compute = dense_operations / dense_flops + expert_operations / expert_flops;
        (bytes / (bandwidth * bandwidth_efficiency)).max(compute / compute_efficiency)
    }

    /// Operations of a row in expert products.
    fn expert_operations(&self) -> f64 {
        let config = self.config;
        let of_expert = 3 * config.hidden_size * config.intermediate_size;
        2.0 * (of_expert * config.num_experts_per_tok * config.num_hidden_layers) as f64
    }

    fn unembedding_operations(&self) -> f64 {
        2.0 * (self.config.vocab_size * self.config.hidden_size) as f64
    }

    /// Operations of a row in all other products of weights.
    fn dense_operations(&self, with_unembedding: bool) -> f64 {
        let all = 2.0 * Parameters::of(self.config).active as f64 - self.expert_operations();
        if with_unembedding { all } else { all - self.unembedding_operations() }
    }

    /// Operations of a row that attends to `context` tokens: a product with each key and one with each value.
    fn attention_operations(&self, context: usize) -> f64 {
        let config = self.config;
        let tokens = |kind: &LayerType| match kind {
            LayerType::FullAttention => context,
            LayerType::SlidingAttention => context.min(config.sliding_window),
        };
        let tokens: usize = config.layer_types.iter().map(tokens).sum();
        4.0 * (tokens * config.num_attention_heads * config.head_dim) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bound by memory alone, at its full bandwidth.
    fn by_memory(config: &ModelConfig, bandwidth: f64) -> Roofline<'_> {
        let speed = Speed {
            bandwidth,
            bandwidth_efficiency: 1.0,
            dense_flops: f64::INFINITY,
            expert_flops: f64::INFINITY,
            compute_efficiency: 1.0,
        };
        Roofline { config, kv_dtype: KvDtype::Bf16, dense: DenseFormat::Bf16, speed }
    }

    #[test]
    fn step_reads_the_published_gigabytes() {
        let batches = [1, 2, 4, 8, 16, 32, 64];
        let published = [
            (ModelConfig::gpt_oss_20b(), [3.71, 4.82, 6.64, 9.11, 11.40, 12.46, 12.60]),
            (ModelConfig::gpt_oss_120b(), [5.00, 6.85, 10.37, 16.78, 27.39, 42.01, 56.10]),
        ];
        for (config, gigabytes) in published {
            for (batch, expected) in batches.into_iter().zip(gigabytes) {
                let found = by_memory(&config, 1.0).decode_step_bytes(batch, 0) / 1e9;
                assert!((found - expected).abs() < 0.011, "batch {batch}: {found} GB, published {expected}");
            }
        }
    }

    #[test]
    fn decoding_is_predicted_as_published() {
        let published = [
            (ModelConfig::gpt_oss_20b(), 1024, [479.0, 1535.0, 4289.0, 7957.0]),
            (ModelConfig::gpt_oss_20b(), 8192, [458.0, 1334.0, 3017.0, 4464.0]),
            (ModelConfig::gpt_oss_120b(), 1024, [355.0, 837.0, 1322.0, 1950.0]),
            (ModelConfig::gpt_oss_120b(), 8192, [337.0, 745.0, 1106.0, 1514.0]),
        ];
        for (config, context, expected) in published {
            for (batch, expected) in [1, 8, 32, 64].into_iter().zip(expected) {
                let found = by_memory(&config, 1.79e12).decode(batch, context);
                assert!(
                    (found / expected - 1.0).abs() < 0.01,
                    "{batch} × {context}: {found}, published {expected}"
                );
            }
        }
    }

    #[test]
    fn operations_of_a_token_are_the_published_ones() {
        let config = ModelConfig::gpt_oss_20b();
        let roofline = by_memory(&config, 1.0);
        let linear = roofline.dense_operations(false) + roofline.expert_operations();
        assert!((linear / 1e9 - 6.06).abs() < 0.02, "{linear}");
        assert!((roofline.unembedding_operations() / 1e9 - 1.16).abs() < 0.01);
        // 0.8 GFLOP per token of a prompt of 8,192: its rows attend to half of it on average.
        let attention = roofline.attention_operations(4096) / 1e9;
        assert!((attention - 0.8).abs() < 0.05, "{attention}");
    }

    #[test]
    fn long_prompts_are_bound_by_compute_and_single_sequences_by_memory() {
        let config = ModelConfig::gpt_oss_20b();
        let with = |factor: f64, compute: f64| {
            let mut roofline = by_memory(&config, factor * 20e9);
            roofline.speed.dense_flops = compute * 300e9;
            roofline.speed.expert_flops = compute * 600e9;
            (roofline.decode(1, 1024), roofline.prefill(2048, 256))
        };
        let (decode, prefill) = with(1.0, 1.0);
        let (faster_memory, faster_compute) = (with(1.5, 1.0), with(1.0, 1.5));
        assert!(
            (faster_memory.0 / decode - 1.5).abs() < 1e-9 && (faster_memory.1 / prefill - 1.0).abs() < 1e-9
        );
        assert!(
            (faster_compute.0 / decode - 1.0).abs() < 1e-9 && (faster_compute.1 / prefill - 1.5).abs() < 1e-9
        );
    }
}
