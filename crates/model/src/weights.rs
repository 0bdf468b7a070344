//! Weights bound once to named fields.

use sostenuto_formats::{LayerWeight, ModelConfig, WeightRef};
use sostenuto_ops::{WeightFormat, WeightId, WeightSpec};

/// Every weight of the model, on the device.
#[derive(Clone, Debug)]
pub(crate) struct Weights {
    /// bf16 `[vocab_size, hidden_size]`.
    pub(crate) embedding: WeightId,
    /// One entry per transformer layer.
    pub(crate) layers: Vec<LayerWeights>,
    /// bf16 `[hidden_size]`.
    pub(crate) final_norm: WeightId,
    /// bf16 `[vocab_size, hidden_size]`.
    pub(crate) unembedding: WeightId,
}

/// The weights of one transformer layer.
#[derive(Clone, Debug)]
pub(crate) struct LayerWeights {
    pub(crate) attention_norm: WeightId,
    pub(crate) qkv_weight: WeightId,
    pub(crate) qkv_bias: WeightId,
    pub(crate) sinks: WeightId,
    pub(crate) out_weight: WeightId,
    pub(crate) out_bias: WeightId,
    pub(crate) mlp_norm: WeightId,
    pub(crate) router_weight: WeightId,
    pub(crate) router_bias: WeightId,
    pub(crate) gate_up_weight: WeightId,
    pub(crate) gate_up_bias: WeightId,
    pub(crate) down_weight: WeightId,
    pub(crate) down_bias: WeightId,
}

/// A layer's weights, in the order of [`LayerWeights`]' fields. An MXFP4 weight's scales travel with its blocks.
const LAYER_WEIGHTS: [LayerWeight; 13] = [
    LayerWeight::AttnNorm,
    LayerWeight::QkvWeight,
    LayerWeight::QkvBias,
    LayerWeight::Sinks,
    LayerWeight::OutWeight,
    LayerWeight::OutBias,
    LayerWeight::MlpNorm,
    LayerWeight::RouterWeight,
    LayerWeight::RouterBias,
    LayerWeight::GateUpBlocks,
    LayerWeight::GateUpBias,
    LayerWeight::DownBlocks,
    LayerWeight::DownBias,
];

/// How a device is told of a weight.
pub(crate) fn spec(reference: WeightRef, config: &ModelConfig) -> WeightSpec {
    use LayerWeight::{DownBias, GateUpBias, OutWeight, QkvWeight};
    let (_, shape) = reference.dtype_and_shape(config);
    let name = match reference {
        WeightRef::Layer(layer, weight) => format!("{weight:?} of layer {layer}"),
        outer => format!("{outer:?}"),
    };
    match (reference, shape.as_slice()) {
        (_, &[len]) => WeightSpec::vector(name, len),
        (WeightRef::Layer(_, GateUpBias | DownBias), &[experts, width]) => {
            WeightSpec { experts, ..WeightSpec::vector(name, width) }
        }
        (
            WeightRef::Unembedding | WeightRef::Layer(_, QkvWeight | OutWeight),
            &[out_features, in_features],
        ) => WeightSpec::product(name, out_features, in_features),
        (_, &[out_features, in_features]) => WeightSpec::matrix(name, out_features, in_features),
        (_, &[experts, out_features, mx_blocks, bytes]) => WeightSpec {
            name,
            format: WeightFormat::Mxfp4,
            experts,
            out_features,
            in_features: mx_blocks * bytes * 2,
            may_round: false,
        },
        (_, shape) => unreachable!("{name} has {} dimensions", shape.len()),
    }
}

impl Weights {
    /// Binds every weight to the id that `load` gives it.
    pub(crate) fn bind<E>(
        config: &ModelConfig,
        mut load: impl FnMut(WeightRef) -> Result<WeightId, E>,
    ) -> Result<Self, E> {
        Ok(Self {
            embedding: load(WeightRef::Embedding)?,
            final_norm: load(WeightRef::FinalNorm)?,
            unembedding: load(WeightRef::Unembedding)?,
            layers: (0..config.num_hidden_layers)
                .map(|layer| LayerWeights::bind(|weight| load(WeightRef::Layer(layer, weight))))
                .collect::<Result<_, _>>()?,
        })
    }
}

impl LayerWeights {
    fn bind<E>(mut load: impl FnMut(LayerWeight) -> Result<WeightId, E>) -> Result<Self, E> {
        let mut ids = [WeightId(0); LAYER_WEIGHTS.len()];
        for (id, weight) in ids.iter_mut().zip(LAYER_WEIGHTS) {
            *id = load(weight)?;
        }
        let [attention_norm, qkv_weight, qkv_bias, sinks, out_weight, out_bias, mlp_norm, rest @ ..] = ids;
        let [router_weight, router_bias, gate_up_weight, gate_up_bias, down_weight, down_bias] = rest;
        Ok(Self {
            attention_norm,
            qkv_weight,
            qkv_bias,
            sinks,
            out_weight,
            out_bias,
            mlp_norm,
            router_weight,
            router_bias,
            gate_up_weight,
            gate_up_bias,
            down_weight,
            down_bias,
        })
    }
}

/// The E8M0 scales that travel with an expert weight's blocks.
pub(crate) fn scales_of(reference: WeightRef) -> Option<WeightRef> {
    match reference {
        WeightRef::Layer(layer, LayerWeight::GateUpBlocks) => {
            Some(WeightRef::Layer(layer, LayerWeight::GateUpScales))
        }
        WeightRef::Layer(layer, LayerWeight::DownBlocks) => {
            Some(WeightRef::Layer(layer, LayerWeight::DownScales))
        }
        _ => None,
    }
}
