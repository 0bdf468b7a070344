use super::MAX_CONFIG_BYTES;

/// Why a configuration is refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[allow(missing_docs)] // the fields are the facts that each message names
pub enum ConfigError {
    /// The file is longer than the bound.
    #[error("file too long: expected at most {MAX_CONFIG_BYTES} bytes, found {found}")]
    TooLong { found: u64 },
    /// Not JSON, or a key is given twice.
    #[error("expected a JSON object, found: {reason}")]
    Json { reason: String },
    /// A field that has no default is not there.
    #[error("{field}: expected {expected}, found nothing")]
    Missing { field: String, expected: &'static str },
    /// A field of the wrong JSON type.
    #[error("{field}: expected {expected}, found {found}")]
    WrongType { field: String, expected: &'static str, found: String },
    /// A whole number outside its bounds.
    #[error("{field}: expected {min} to {max}, found {found}")]
    OutOfRange { field: &'static str, min: u64, max: u64, found: u64 },
    /// A real number outside its bounds.
    #[error("{field}: expected {min:e} to {max:e}, found {found}")]
    NumberOutOfRange { field: &'static str, min: f64, max: f64, found: f64 },
    /// A size that is no multiple of what it must be a multiple of.
    #[error("{field}: expected a multiple of {of}, found {found}")]
    NotMultiple { field: &'static str, of: usize, found: usize },
    /// Two fields that mean the same thing differ.
    #[error("{field}: expected the same value as {other} ({expected}), found {found}")]
    Disagree { field: String, other: &'static str, expected: usize, found: usize },
    /// `layer_types` has another length than there are layers.
    #[error("layer_types: expected {expected} (num_hidden_layers), found {found}")]
    LayerTypes { expected: usize, found: usize },
    /// A model of another architecture, or a variant that is not supported.
    #[error("{field}: not supported: expected {expected}, found {found}")]
    Unsupported { field: String, expected: &'static str, found: String },
}

impl ConfigError {
    pub(crate) fn unsupported(
        field: impl Into<String>,
        expected: &'static str,
        found: impl Into<String>,
    ) -> ConfigError {
        ConfigError::Unsupported { field: field.into(), expected, found: found.into() }
    }
}
