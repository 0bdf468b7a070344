//! What the endpoints share.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use sostenuto_api::models::{Model, ModelList};
use sostenuto_engine::{EngineClient, EngineState, SamplingParams};
use sostenuto_harmony::Harmony;
use sostenuto_tokenizer::Tokenizer;

use crate::{
    Deadlines, ServerConfig, ServerError,
    chat::Identity,
    clock::{Clock, IdSource},
    error::ApiError,
    metrics::Metrics,
};

/// What a server serves.
#[derive(Clone)]
pub struct AppState {
    /// The engine. The server submits and cancels; it never shuts the engine down.
    pub engine: Arc<dyn EngineClient>,
    /// The model's tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// The model's names.
    pub model: ServedModel,
    /// What holds where a request says nothing. `seed` and `logit_bias` are not used: a request without a seed gets
    /// a fresh one.
    pub sampling: SamplingParams,
    /// `Current date` of the system message, as `2026-11-23`. `None` for the clock's date in UTC at each request; a
    /// fixed date keeps prompts the same across midnight.
    pub current_date: Option<String>,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// Where identifiers and the seeds of requests without one come from. Different at each start, unless runs are to
    /// be repeated.
    pub seed: u64,
}

/// Names of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServedModel {
    /// The name in `/v1/models` and in answers.
    pub name: String,
    /// Further names that requests may use.
    pub aliases: Vec<String>,
    /// `system_fingerprint` of answers: names weights and backend, so that equal fingerprint and seed mean equal
    /// tokens.
    pub system_fingerprint: String,
}

/// The state behind the handlers.
pub(crate) struct App {
    pub(crate) engine: Arc<dyn EngineClient>,
    pub(crate) harmony: Harmony,
    pub(crate) sampling: SamplingParams,
    pub(crate) current_date: Option<String>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<IdSource>,
    pub(crate) deadlines: Deadlines,
    pub(crate) metrics: Arc<Metrics>,
    model: ServedModel,
    /// When the server was made, seconds since 1970.
    created: u64,
    closing: AtomicBool,
}

impl fmt::Debug for AppState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppState")
            .field("engine", &self.engine)
            .field("model", &self.model)
            .finish_non_exhaustive()
    }
}

impl App {
    pub(crate) fn new(state: AppState, config: &ServerConfig) -> Result<App, ServerError> {
        Ok(App {
            metrics: Arc::new(Metrics::new(&state.model.name, Arc::clone(&state.engine))),
            engine: state.engine,
            harmony: Harmony::new(state.tokenizer)?,
            sampling: state.sampling,
            current_date: state.current_date,
            created: state.clock.unix_seconds(),
            clock: state.clock,
            ids: Arc::new(IdSource::new(state.seed)),
            deadlines: config.deadlines,
            model: state.model,
            closing: AtomicBool::new(false),
        })
    }

    /// Refuses names that are neither the model's nor an alias.
    pub(crate) fn check_model(&self, name: &str) -> Result<(), ApiError> {
        let known = std::iter::once(&self.model.name).chain(&self.model.aliases);
        let available: Vec<&str> = known.map(String::as_str).collect();
        match available.contains(&name) {
            true => Ok(()),
            false => Err(ApiError::UnknownModel {
                model: name.chars().take(80).collect(),
                available: available.join(", "),
            }),
        }
    }

    /// A fresh identity for an answer.
    pub(crate) fn identity(&self) -> Identity {
        Identity {
            id: self.ids.id("chatcmpl-"),
            created: self.clock.unix_seconds(),
            model: self.model.name.clone(),
            system_fingerprint: self.model.system_fingerprint.clone(),
        }
    }

    /// The one model.
    ///
    /// # Errors
    /// [`ApiError::Starting`]: it is being loaded.
    pub(crate) fn model(&self) -> Result<Model, ApiError> {
        let rules = self.engine.rules().ok_or(ApiError::Starting)?;
        Ok(Model::new(&self.model.name, self.created, rules.sequence_capacity))
    }

    /// `/v1/models`.
    ///
    /// # Errors
    /// As [`App::model`].
    pub(crate) fn models(&self) -> Result<ModelList, ApiError> {
        Ok(ModelList::new(vec![self.model()?]))
    }

    /// Refuses a request before it is looked at, if none is accepted now.
    pub(crate) fn check_open(&self) -> Result<(), ApiError> {
        match self.state() {
            EngineState::Starting => Err(ApiError::Starting),
            EngineState::Draining => Err(ApiError::ShuttingDown),
            EngineState::Ready | EngineState::Degraded { .. } | EngineState::Stopped { .. } => Ok(()),
        }
    }

    /// Where the server and its engine stand.
    pub(crate) fn state(&self) -> EngineState {
        match self.engine.state() {
            EngineState::Starting | EngineState::Ready | EngineState::Degraded { .. }
                if self.is_closing() =>
            {
                EngineState::Draining
            }
            state => state,
        }
    }

    /// From now on new requests are refused.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    /// Whether new requests are refused.
    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }
}
