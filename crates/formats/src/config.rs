//! The configuration of a gpt-oss model: one type, read from Hugging Face's `config.json` or from OpenAI's
//! `original/config.json`, with the field names of the former.

mod error;
mod fields;
mod huggingface;
mod original;
mod presets;

pub use error::ConfigError;
pub use fields::MAX_CONFIG_BYTES;

use fields::Fields;

/// Bounds of what a configuration may ask for. They keep every product of sizes far from overflow and turn an absurd
/// file into a clear refusal; gpt-oss-120b lies well within each.
pub mod limits {
    /// Most layers.
    pub const MAX_HIDDEN_LAYERS: usize = 1024;
    /// Largest `hidden_size`.
    pub const MAX_HIDDEN_SIZE: usize = 1 << 16;
    /// Largest `intermediate_size`.
    pub const MAX_INTERMEDIATE_SIZE: usize = 1 << 18;
    /// Largest `head_dim`.
    pub const MAX_HEAD_DIM: usize = 1024;
    /// Most query heads, and most KV heads.
    pub const MAX_HEADS: usize = 1024;
    /// Most experts of a layer.
    pub const MAX_EXPERTS: usize = 4096;
    /// Largest vocabulary.
    pub const MAX_VOCAB_SIZE: usize = 1 << 22;
    /// Longest context, window and YaRN original length, in tokens.
    pub const MAX_POSITIONS: usize = 1 << 24;
    /// Most stop tokens that `eos_token_id` may list.
    pub const MAX_EOS_TOKENS: usize = 64;
}

/// What a layer's attention sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LayerType {
    /// Position i sees j with i − j < `sliding_window`.
    SlidingAttention,
    /// Position i sees every j ≤ i.
    FullAttention,
}

impl LayerType {
    /// Hugging Face's word.
    pub fn name(self) -> &'static str {
        match self {
            LayerType::SlidingAttention => "sliding_attention",
            LayerType::FullAttention => "full_attention",
        }
    }
}

/// YaRN parameters of the rotary embedding.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeScaling {
    /// How many times longer the context is than in pre-training; ≥ 1.
    pub factor: f64,
    /// Context length of pre-training, in tokens.
    pub original_max_position_embeddings: usize,
    /// Rotations within the original length above which a dimension is left alone.
    pub beta_fast: f64,
    /// Rotations within the original length below which a dimension is interpolated.
    pub beta_slow: f64,
    /// Whether the ramp's two ends are rounded to whole dimensions; false in gpt-oss. A `config.json` that leaves it out means
    /// true, as in transformers.
    pub truncate: bool,
}

/// Shape and constants of one gpt-oss model. A value of this type from a parser or a preset has passed
/// [`ModelConfig::validate`].
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// Rows of the embedding and of the unembedding.
    pub vocab_size: usize,
    /// Width of the residual stream; a multiple of 32.
    pub hidden_size: usize,
    /// Width of one expert's inner activation; a multiple of 32. The gate-up projection has twice as many rows.
    pub intermediate_size: usize,
    /// Width of a head; even.
    pub head_dim: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// KV heads; divides `num_attention_heads`.
    pub num_key_value_heads: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Experts of each layer.
    pub num_local_experts: usize,
    /// Experts that each token is routed to.
    pub num_experts_per_tok: usize,
    /// Tokens that a sliding layer sees, the present one included.
    pub sliding_window: usize,
    /// One for each layer.
    pub layer_types: Vec<LayerType>,
    /// Longest context, in tokens.
    pub max_position_embeddings: usize,
    /// Base of the rotary embedding.
    pub rope_theta: f64,
    /// YaRN, the only kind of scaling that is supported.
    pub rope_scaling: RopeScaling,
    /// Added to the mean square in RMSNorm.
    pub rms_norm_eps: f64,
    /// Bound of the SwiGLU inputs: gate ≤ limit, |up| ≤ limit.
    pub swiglu_limit: f64,
    /// Whether attention projections have biases; always true.
    pub attention_bias: bool,
    /// Whether embedding and unembedding are one matrix; always false.
    pub tie_word_embeddings: bool,
    /// Stop tokens in the order of the files, `generation_config.json` before `config.json`; may be empty.
    pub eos_token_id: Vec<u32>,
    /// First token of a text, if named.
    pub bos_token_id: Option<u32>,
    /// Padding token, if named.
    pub pad_token_id: Option<u32>,
}

impl ModelConfig {
    /// Layers with a sliding window.
    pub fn num_sliding_layers(&self) -> usize {
        self.layer_types.iter().filter(|&&kind| kind == LayerType::SlidingAttention).count()
    }

    /// Parses and validates a `config.json`: Hugging Face's, or OpenAI's (recognised by `num_experts` without
    /// `model_type` and `architectures`).
    ///
    /// # Errors
    /// The first field that is missing, of the wrong type, out of range, contradictory or unsupported.
    pub fn from_json(json: &[u8]) -> Result<ModelConfig, ConfigError> {
        let fields = Fields::parse(json)?;
        let is_huggingface = fields.has("model_type") || fields.has("architectures");
        let config = if !is_huggingface && fields.has("num_experts") {
            original::parse(&fields)?
        } else {
            huggingface::parse(&fields)?
        };
        config.validate()?;
        Ok(config)
    }

    /// Takes stop, first and padding tokens from a `generation_config.json`, which wins over `config.json`.
    ///
    /// # Errors
    /// As [`ModelConfig::from_json`].
    pub fn apply_generation_json(&mut self, json: &[u8]) -> Result<(), ConfigError> {
        huggingface::apply_generation(self, &Fields::parse(json)?)?;
        self.validate()
    }

    /// This configuration as Hugging Face's `config.json`.
    pub fn to_json(&self) -> String {
        pretty(&huggingface::to_json(self))
    }

    /// This configuration's token ids as `generation_config.json`.
    pub fn to_generation_json(&self) -> String {
        pretty(&huggingface::to_generation_json(self))
    }

    /// Rows of the query projection: `num_attention_heads` × `head_dim`.
    pub fn query_size(&self) -> usize {
        self.num_attention_heads * self.head_dim
    }

    /// Rows of the key projection, and of the value projection: `num_key_value_heads` × `head_dim`.
    pub fn key_value_size(&self) -> usize {
        self.num_key_value_heads * self.head_dim
    }

    /// Query heads that share a KV head.
    pub fn query_heads_per_kv_head(&self) -> usize {
        self.num_attention_heads / self.num_key_value_heads
    }

    /// Checks every bound and relation between fields; what parsers and presets return has passed.
    ///
    /// # Errors
    /// The first violation, with field, expected and found.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.check_sizes()?;
        self.check_relations()?;
        self.check_constants()?;
        self.check_tokens()
    }

    fn check_sizes(&self) -> Result<(), ConfigError> {
        use limits::*;
        let rope_original = self.rope_scaling.original_max_position_embeddings;
        for (field, found, max) in [
            ("vocab_size", self.vocab_size, MAX_VOCAB_SIZE),
            ("hidden_size", self.hidden_size, MAX_HIDDEN_SIZE),
            ("intermediate_size", self.intermediate_size, MAX_INTERMEDIATE_SIZE),
            ("head_dim", self.head_dim, MAX_HEAD_DIM),
            ("num_attention_heads", self.num_attention_heads, MAX_HEADS),
            ("num_key_value_heads", self.num_key_value_heads, MAX_HEADS),
            ("num_hidden_layers", self.num_hidden_layers, MAX_HIDDEN_LAYERS),
            ("num_local_experts", self.num_local_experts, MAX_EXPERTS),
            ("num_experts_per_tok", self.num_experts_per_tok, MAX_EXPERTS),
            ("sliding_window", self.sliding_window, MAX_POSITIONS),
            ("max_position_embeddings", self.max_position_embeddings, MAX_POSITIONS),
            ("rope_scaling.original_max_position_embeddings", rope_original, MAX_POSITIONS),
        ] {
            if found == 0 || found > max {
                return Err(ConfigError::OutOfRange { field, min: 1, max: max as u64, found: found as u64 });
            }
        }
        Ok(())
    }

    fn check_relations(&self) -> Result<(), ConfigError> {
        for (field, found, of) in [
            ("hidden_size", self.hidden_size, 32),
            ("intermediate_size", self.intermediate_size, 32),
            ("head_dim", self.head_dim, 2),
            ("num_attention_heads", self.num_attention_heads, self.num_key_value_heads),
        ] {
            if found % of != 0 {
                return Err(ConfigError::NotMultiple { field, of, found });
            }
        }
        if self.num_experts_per_tok > self.num_local_experts {
            return Err(ConfigError::OutOfRange {
                field: "num_experts_per_tok",
                min: 1,
                max: self.num_local_experts as u64,
                found: self.num_experts_per_tok as u64,
            });
        }
        if self.layer_types.len() != self.num_hidden_layers {
            return Err(ConfigError::LayerTypes {
                expected: self.num_hidden_layers,
                found: self.layer_types.len(),
            });
        }
        Ok(())
    }

    fn check_constants(&self) -> Result<(), ConfigError> {
        let rope = &self.rope_scaling;
        for (field, found, min, max) in [
            ("rope_theta", self.rope_theta, 1.0 + f64::EPSILON, 1e12),
            ("rope_scaling.factor", rope.factor, 1.0, 1e6),
            ("rope_scaling.beta_fast", rope.beta_fast, f64::MIN_POSITIVE, 1e6),
            ("rope_scaling.beta_slow", rope.beta_slow, f64::MIN_POSITIVE, 1e6),
            ("rms_norm_eps", self.rms_norm_eps, 1e-12, 1.0),
            ("swiglu_limit", self.swiglu_limit, f64::MIN_POSITIVE, 1e6),
        ] {
            if !(min..=max).contains(&found) {
                return Err(ConfigError::NumberOutOfRange { field, min, max, found });
            }
        }
        if rope.beta_slow >= rope.beta_fast {
            return Err(ConfigError::NumberOutOfRange {
                field: "rope_scaling.beta_slow",
                min: f64::MIN_POSITIVE,
                max: rope.beta_fast,
                found: rope.beta_slow,
            });
        }
        if !self.attention_bias {
            return Err(ConfigError::unsupported("attention_bias", "true", "false"));
        }
        if self.tie_word_embeddings {
            return Err(ConfigError::unsupported("tie_word_embeddings", "false", "true"));
        }
        Ok(())
    }

    fn check_tokens(&self) -> Result<(), ConfigError> {
        if self.eos_token_id.len() > limits::MAX_EOS_TOKENS {
            return Err(ConfigError::OutOfRange {
                field: "eos_token_id (how many)",
                min: 0,
                max: limits::MAX_EOS_TOKENS as u64,
                found: self.eos_token_id.len() as u64,
            });
        }
        let eos = self.eos_token_id.iter().map(|id| ("eos_token_id", *id));
        let bos = self.bos_token_id.iter().map(|id| ("bos_token_id", *id));
        let pad = self.pad_token_id.iter().map(|id| ("pad_token_id", *id));
        for (field, id) in eos.chain(bos).chain(pad) {
            if id as usize >= self.vocab_size {
                let max = self.vocab_size as u64 - 1;
                return Err(ConfigError::OutOfRange { field, min: 0, max, found: u64::from(id) });
            }
        }
        Ok(())
    }
}

fn pretty(value: &serde_json::Value) -> String {
    let mut text = serde_json::to_string_pretty(value).expect("a JSON value always serialises");
    text.push('\n');
    text
}

/// Even layers slide, odd layers see everything: the pattern of every published gpt-oss model.
fn alternating_layer_types(num_hidden_layers: usize) -> Vec<LayerType> {
    let types = [LayerType::SlidingAttention, LayerType::FullAttention];
    types.into_iter().cycle().take(num_hidden_layers.min(limits::MAX_HIDDEN_LAYERS + 1)).collect()
}
