//! `GET /v1/models` and `GET /v1/models/{id}`.

use serde::{Deserialize, Serialize};

/// One model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    /// Name to send as `model`.
    pub id: String,
    /// Always `model`.
    pub object: String,
    /// When it was loaded, seconds since 1970.
    pub created: u64,
    /// Who made it available.
    pub owned_by: String,
    /// Context length in tokens: prompt and answer together. Not in OpenAI's schema; vLLM's name.
    pub max_model_len: usize,
}

/// All models.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelList {
    /// Always `list`.
    pub object: String,
    /// The models.
    pub data: Vec<Model>,
}

impl Model {
    /// A model owned by this server.
    pub fn new(id: impl Into<String>, created: u64, max_model_len: usize) -> Model {
        Model {
            id: id.into(),
            object: "model".to_owned(),
            created,
            owned_by: "sostenuto".to_owned(),
            max_model_len,
        }
    }
}

impl ModelList {
    /// The list of `data`.
    pub fn new(data: Vec<Model>) -> ModelList {
        ModelList { object: "list".to_owned(), data }
    }
}
