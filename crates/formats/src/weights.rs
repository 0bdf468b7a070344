//! Which tensors a checkpoint has: their names in both layouts, their types and their shapes.

use std::fmt;

use crate::codes::{MX_BLOCK_BYTES, MX_BLOCK_VALUES};
use crate::config::ModelConfig;
use crate::tensor::Dtype;

/// The two ways in which gpt-oss checkpoints are published. They hold the same numbers in the same order of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// Hugging Face's names; query, key and value projections are three tensors.
    HuggingFace,
    /// OpenAI's names, in folders called `original`; the three projections are stacked in one tensor.
    Original,
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Layout::HuggingFace => "Hugging Face",
            Layout::Original => "OpenAI original",
        })
    }
}

/// One weight of the model, whatever a layout calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WeightRef {
    /// bf16 `[vocab_size, hidden_size]`.
    Embedding,
    /// bf16 `[vocab_size, hidden_size]`.
    Unembedding,
    /// bf16 `[hidden_size]`.
    FinalNorm,
    /// A weight of the layer with this index.
    Layer(usize, LayerWeight),
}

/// One weight of a layer. E = experts, H = `hidden_size`, I = `intermediate_size`, Q = query rows, K = KV rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LayerWeight {
    /// bf16 `[H]`: RMSNorm before attention.
    AttnNorm,
    /// bf16 `[Q + 2K, H]`: query rows, then key rows, then value rows.
    QkvWeight,
    /// bf16 `[Q + 2K]`.
    QkvBias,
    /// bf16 `[H, Q]`.
    OutWeight,
    /// bf16 `[H]`.
    OutBias,
    /// bf16 `[num_attention_heads]`: one attention-sink logit per query head.
    Sinks,
    /// bf16 `[H]`: RMSNorm before the experts.
    MlpNorm,
    /// bf16 `[E, H]`.
    RouterWeight,
    /// bf16 `[E]`.
    RouterBias,
    /// E2M1 pairs `[E, 2I, H / 32, 16]`; even rows gate, odd rows up; low nibble first.
    GateUpBlocks,
    /// E8M0 `[E, 2I, H / 32]`.
    GateUpScales,
    /// bf16 `[E, 2I]`.
    GateUpBias,
    /// E2M1 pairs `[E, H, I / 32, 16]`.
    DownBlocks,
    /// E8M0 `[E, H, I / 32]`.
    DownScales,
    /// bf16 `[E, H]`.
    DownBias,
}

impl LayerWeight {
    /// All weights of a layer, in the order in which the forward pass uses them.
    pub const ALL: [LayerWeight; 15] = [
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
        LayerWeight::GateUpScales,
        LayerWeight::GateUpBias,
        LayerWeight::DownBlocks,
        LayerWeight::DownScales,
        LayerWeight::DownBias,
    ];
}

/// A tensor that a checkpoint must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Name in the layout's files.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Shape, slowest dimension first.
    pub shape: Vec<usize>,
}

impl TensorSpec {
    /// Number of elements: the product of the shape.
    pub fn num_elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes of the tensor.
    pub fn size_bytes(&self) -> usize {
        self.num_elements() * self.dtype.size_bytes()
    }
}

/// Every tensor of a checkpoint of this configuration, in the order of [`WeightRef::all`].
pub fn expected_tensors(config: &ModelConfig, layout: Layout) -> Vec<TensorSpec> {
    WeightRef::all(config).flat_map(|weight| weight.pieces(config, layout)).collect()
}

impl WeightRef {
    /// Every weight of a model of this configuration: embedding, layer by layer, final norm, unembedding.
    pub fn all(config: &ModelConfig) -> impl Iterator<Item = WeightRef> + use<> {
        let of_layer =
            |layer| LayerWeight::ALL.into_iter().map(move |weight| WeightRef::Layer(layer, weight));
        std::iter::once(WeightRef::Embedding)
            .chain((0..config.num_hidden_layers).flat_map(of_layer))
            .chain([WeightRef::FinalNorm, WeightRef::Unembedding])
    }

    /// Whether these are the E8M0 scales of an expert weight, which travel with its blocks.
    pub fn is_scales(self) -> bool {
        matches!(self, WeightRef::Layer(_, LayerWeight::GateUpScales | LayerWeight::DownScales))
    }

    /// The tensors that hold this weight in `layout`: one, or several to be stacked along the first dimension in
    /// this order.
    pub fn pieces(self, config: &ModelConfig, layout: Layout) -> Vec<TensorSpec> {
        let (dtype, shape) = self.dtype_and_shape(config);
        let one = |name: String| vec![TensorSpec { name, dtype, shape: shape.clone() }];
        let (layer, weight) = match self {
            WeightRef::Layer(layer, weight) => (layer, weight),
            whole => return one(whole.model_name(layout).to_owned()),
        };
        let suffix = match weight {
            LayerWeight::QkvWeight => "weight",
            LayerWeight::QkvBias => "bias",
            _ => return one(layer_name(layer, weight, layout)),
        };
        if layout == Layout::Original {
            return one(format!("block.{layer}.attn.qkv.{suffix}"));
        }
        let (query, key_value) = (config.query_size(), config.key_value_size());
        let piece = |(letter, rows)| {
            let mut shape = shape.clone();
            shape[0] = rows;
            TensorSpec {
                name: format!("model.layers.{layer}.self_attn.{letter}_proj.{suffix}"),
                dtype,
                shape,
            }
        };
        [('q', query), ('k', key_value), ('v', key_value)].map(piece).to_vec()
    }

    /// Type and shape of the whole weight, its pieces stacked.
    pub fn dtype_and_shape(self, config: &ModelConfig) -> (Dtype, Vec<usize>) {
        use LayerWeight::*;
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let (query, experts) = (config.query_size(), config.num_local_experts);
        let qkv = query + 2 * config.key_value_size();
        let bf16 = |shape: &[usize]| (Dtype::Bf16, shape.to_vec());
        let u8 = |shape: &[usize]| (Dtype::U8, shape.to_vec());
        let weight = match self {
            WeightRef::Embedding | WeightRef::Unembedding => return bf16(&[config.vocab_size, hidden]),
            WeightRef::FinalNorm => return bf16(&[hidden]),
            WeightRef::Layer(_, weight) => weight,
        };
        match weight {
            AttnNorm | MlpNorm | OutBias => bf16(&[hidden]),
            QkvWeight => bf16(&[qkv, hidden]),
            QkvBias => bf16(&[qkv]),
            OutWeight => bf16(&[hidden, query]),
            Sinks => bf16(&[config.num_attention_heads]),
            RouterWeight => bf16(&[experts, hidden]),
            RouterBias => bf16(&[experts]),
            GateUpBlocks => u8(&[experts, 2 * inner, hidden / MX_BLOCK_VALUES, MX_BLOCK_BYTES]),
            GateUpScales => u8(&[experts, 2 * inner, hidden / MX_BLOCK_VALUES]),
            GateUpBias => bf16(&[experts, 2 * inner]),
            DownBlocks => u8(&[experts, hidden, inner / MX_BLOCK_VALUES, MX_BLOCK_BYTES]),
            DownScales => u8(&[experts, hidden, inner / MX_BLOCK_VALUES]),
            DownBias => bf16(&[experts, hidden]),
        }
    }

    fn model_name(self, layout: Layout) -> &'static str {
        let (huggingface, original) = match self {
            WeightRef::Embedding => ("model.embed_tokens.weight", "embedding.weight"),
            WeightRef::Unembedding => ("lm_head.weight", "unembedding.weight"),
            WeightRef::FinalNorm => ("model.norm.weight", "norm.scale"),
            WeightRef::Layer(..) => unreachable!("named by `layer_name`"),
        };
        match layout {
            Layout::HuggingFace => huggingface,
            Layout::Original => original,
        }
    }
}

fn layer_name(layer: usize, weight: LayerWeight, layout: Layout) -> String {
    use LayerWeight::*;
    let (huggingface, original) = match weight {
        AttnNorm => ("input_layernorm.weight", "attn.norm.scale"),
        OutWeight => ("self_attn.o_proj.weight", "attn.out.weight"),
        OutBias => ("self_attn.o_proj.bias", "attn.out.bias"),
        Sinks => ("self_attn.sinks", "attn.sinks"),
        MlpNorm => ("post_attention_layernorm.weight", "mlp.norm.scale"),
        RouterWeight => ("mlp.router.weight", "mlp.gate.weight"),
        RouterBias => ("mlp.router.bias", "mlp.gate.bias"),
        GateUpBlocks => ("mlp.experts.gate_up_proj_blocks", "mlp.mlp1_weight.blocks"),
        GateUpScales => ("mlp.experts.gate_up_proj_scales", "mlp.mlp1_weight.scales"),
        GateUpBias => ("mlp.experts.gate_up_proj_bias", "mlp.mlp1_bias"),
        DownBlocks => ("mlp.experts.down_proj_blocks", "mlp.mlp2_weight.blocks"),
        DownScales => ("mlp.experts.down_proj_scales", "mlp.mlp2_weight.scales"),
        DownBias => ("mlp.experts.down_proj_bias", "mlp.mlp2_bias"),
        QkvWeight | QkvBias => unreachable!("pieces are named by `WeightRef::pieces`"),
    };
    match layout {
        Layout::HuggingFace => format!("model.layers.{layer}.{huggingface}"),
        Layout::Original => format!("block.{layer}.{original}"),
    }
}
