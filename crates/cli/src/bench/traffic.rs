//! Bytes that a step of decoding must read, from the configuration alone.

use serde::Serialize;
use sostenuto_formats::{LayerType, LayerWeight, ModelConfig, WeightRef};
use sostenuto_ops::{KvDtype, Precision};

/// How dense weights are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DenseFormat {
    /// As in the checkpoint.
    Bf16,
    /// 8 bits and a 16-bit scale for every 32: what the limits of `bench` are made with, as no model of this family is
    /// served with less.
    EightBit,
}

impl DenseFormat {
    /// What the CPU backend multiplies with.
    pub(crate) fn of(precision: Precision) -> DenseFormat {
        match precision {
            Precision::Exact => DenseFormat::Bf16,
            Precision::Fast => DenseFormat::EightBit,
        }
    }
}

/// Parts of what one step reads. Activations stay in the caches and are not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Traffic {
    /// bf16 attention weights, routers, norms, biases and sinks of all layers, and one row of the embedding.
    pub(crate) dense_bytes: u64,
    /// The bf16 unembedding.
    pub(crate) unembedding_bytes: u64,
    /// Blocks, scales and biases of the experts that the token is routed to.
    pub(crate) expert_bytes: u64,
    /// Keys and values: the whole context in full layers, the window in sliding ones.
    pub(crate) kv_bytes: u64,
}

impl Traffic {
    /// What a token reads whose sequence holds `context` tokens.
    pub(crate) fn of(config: &ModelConfig, kv_dtype: KvDtype, context: usize) -> Traffic {
        let mut traffic = Traffic { dense_bytes: 0, unembedding_bytes: 0, expert_bytes: 0, kv_bytes: 0 };
        for weight in WeightRef::all(config) {
            let (dtype, shape) = weight.dtype_and_shape(config);
            let bytes = (shape.iter().product::<usize>() * dtype.size_bytes()) as u64;
            match weight {
                WeightRef::Embedding => traffic.dense_bytes += bytes / config.vocab_size as u64,
                WeightRef::Unembedding => traffic.unembedding_bytes += bytes,
                WeightRef::Layer(_, weight) if is_per_expert(weight) => {
                    traffic.expert_bytes += bytes / shape[0] as u64 * config.num_experts_per_tok as u64;
                }
                WeightRef::Layer(..) | WeightRef::FinalNorm => traffic.dense_bytes += bytes,
            }
        }
        let slot_bytes = 2 * config.num_key_value_heads * kv_dtype.head_bytes(config.head_dim);
        let slots: usize = config.layer_types.iter().map(|kind| slots_read(*kind, config, context)).sum();
        traffic.kv_bytes = (slots * slot_bytes) as u64;
        traffic
    }

    /// What a step reads with one row of each of `streams` sequences that hold `context` tokens: dense weights and chosen
    /// experts once, each sequence's keys and values.
    pub(crate) fn of_step(
        config: &ModelConfig,
        kv_dtype: KvDtype,
        streams: usize,
        context: usize,
    ) -> Traffic {
        let one = Traffic::of(config, kv_dtype, context);
        Traffic { kv_bytes: streams as u64 * one.kv_bytes, ..one }.of_rows(config, streams)
    }

    /// The experts that `rows` rows choose instead of those that one does, chosen independently and evenly.
    pub(crate) fn of_rows(self, config: &ModelConfig, rows: usize) -> Traffic {
        let (experts, active) = (config.num_local_experts as f64, config.num_experts_per_tok as f64);
        let chosen = experts * (1.0 - (1.0 - active / experts).powi(rows.min(1 << 20) as i32));
        Traffic { expert_bytes: (self.expert_bytes as f64 * chosen / active).round() as u64, ..self }
    }

    /// With dense weights and unembedding in another format; counted from bf16.
    pub(crate) fn dense_as(self, format: DenseFormat) -> Traffic {
        let convert = |bytes: u64| match format {
            DenseFormat::Bf16 => bytes,
            DenseFormat::EightBit => bytes * 34 / 64,
        };
        Traffic {
            dense_bytes: convert(self.dense_bytes),
            unembedding_bytes: convert(self.unembedding_bytes),
            ..self
        }
    }

    /// Sum of the parts.
    pub(crate) fn total_bytes(&self) -> u64 {
        self.dense_bytes + self.unembedding_bytes + self.expert_bytes + self.kv_bytes
    }
}

fn slots_read(kind: LayerType, config: &ModelConfig, context: usize) -> usize {
    match kind {
        LayerType::FullAttention => context,
        LayerType::SlidingAttention => context.min(config.sliding_window),
    }
}

fn is_per_expert(weight: LayerWeight) -> bool {
    use LayerWeight::*;
    matches!(weight, GateUpBlocks | GateUpScales | GateUpBias | DownBlocks | DownScales | DownBias)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total_gb(config: &ModelConfig) -> f64 {
        Traffic::of(config, KvDtype::Bf16, 0).total_bytes() as f64 / 1e9
    }

    #[test]
    fn published_models_read_what_is_known_of_them() {
        assert!((total_gb(&ModelConfig::gpt_oss_20b()) - 3.71).abs() < 0.01);
        assert!((total_gb(&ModelConfig::gpt_oss_120b()) - 5.00).abs() < 0.01);
    }

    #[test]
    fn eight_bit_dense_weights_take_the_known_bytes() {
        let traffic =
            Traffic::of(&ModelConfig::gpt_oss_20b(), KvDtype::Bf16, 0).dense_as(DenseFormat::EightBit);
        assert!((traffic.total_bytes() as f64 / 1e9 - 2.57).abs() < 0.01, "{traffic:?}");
    }

    #[test]
    fn steps_read_dense_weights_once_and_more_experts_with_more_rows() {
        let config = ModelConfig::gpt_oss_20b();
        let step = |streams| Traffic::of_step(&config, KvDtype::Bf16, streams, 100);
        assert_eq!(step(1), Traffic::of(&config, KvDtype::Bf16, 100));
        assert_eq!((step(8).dense_bytes, step(8).kv_bytes), (step(1).dense_bytes, 8 * step(1).kv_bytes));
        let all = step(1).expert_bytes * 8;
        assert!(step(8).expert_bytes < all && step(256).expert_bytes as f64 > 0.999 * all as f64);
    }

    #[test]
    fn window_bounds_the_sliding_layers_alone() {
        let config = ModelConfig::gpt_oss_20b();
        let kv = |context| Traffic::of(&config, KvDtype::Bf16, context).kv_bytes;
        assert_eq!(kv(100), 24 * 100 * 2048);
        assert_eq!(kv(1128) - kv(128), 24_576 * 1000);
    }
}
