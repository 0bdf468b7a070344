//! What can go wrong, with the facts.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use crate::request::RequestId;

/// A step failed in the executor.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ExecutorError {
    /// The step failed and left the executor usable: the sequences that run are lost, the next ones can run.
    #[error("the step failed: {source}")]
    Step {
        /// What the executor reports.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// The executor can't be trusted any more; the engine stops.
    #[error("the device failed: {source}")]
    Device {
        /// What the executor reports.
        source: Arc<dyn Error + Send + Sync>,
    },
}

impl ExecutorError {
    /// Whether further steps may succeed.
    pub fn recoverable(&self) -> bool {
        matches!(self, Self::Step { .. })
    }
}

/// Why an accepted request failed, or why the engine ended.
#[derive(Clone, Debug, thiserror::Error)]
pub enum EngineError {
    /// The executor failed.
    #[error(transparent)]
    Executor(#[from] ExecutorError),
    /// The model gave a logit that is no number. Only this sequence fails.
    #[error("logit of token {token} at position {position} is {value}")]
    NonFiniteLogits {
        /// Tokens before it.
        position: usize,
        /// The first such token id.
        token: u32,
        /// NaN or an infinity.
        value: f32,
    },
    /// Every token is excluded (`min_tokens` with a stop token for each id of the vocabulary).
    #[error("no token may be sampled at position {position}")]
    NoCandidate {
        /// Position of the token to be sampled.
        position: usize,
    },
    /// The owner thread panicked: a bug. The engine stops, since its state can't be trusted.
    #[error("the engine thread panicked: {message}")]
    Panicked {
        /// The panic's message.
        message: String,
    },
    /// A failure in the engine process, in its words.
    #[error("{message}")]
    Remote {
        /// What it reported, or how it ended.
        message: String,
    },
    /// The engine process failed whenever it had this request, which got no token in between: it is not sent again.
    #[error("the engine failed {crashes} times in a row with this request; the last time: {last}")]
    Crashes {
        /// How often.
        crashes: u32,
        /// How it ended the last time.
        last: String,
    },
}

/// Which bound of the queue is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueResource {
    /// Waiting requests.
    Requests,
    /// Prompt tokens of all waiting requests.
    PromptTokens,
}

impl std::fmt::Display for QueueResource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Requests => "requests",
            Self::PromptTokens => "prompt tokens",
        })
    }
}

/// Why a request was not accepted.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SubmitError {
    /// Capacity: the queue has no room. Try again later.
    #[error("the queue is full: {queued} {resource} wait, {requested} more asked for, the limit is {limit}")]
    QueueFull {
        /// Which bound.
        resource: QueueResource,
        /// What waits already.
        queued: usize,
        /// What this request would add.
        requested: usize,
        /// The bound.
        limit: usize,
        /// When to try again: predicted from how fast requests left the queue of late.
        retry_after: Duration,
    },
    /// The prompt leaves no room for a completion token.
    #[error("the prompt has {prompt_tokens} tokens; at most {max_prompt_tokens} fit")]
    PromptTooLong {
        /// Tokens of the prompt.
        prompt_tokens: usize,
        /// The most that could be accepted.
        max_prompt_tokens: usize,
    },
    /// The prompt has no token.
    #[error("the prompt is empty")]
    EmptyPrompt,
    /// A token id beyond the vocabulary.
    #[error("{field} holds token {token}; the vocabulary has {vocab_size}")]
    TokenOutOfRange {
        /// Field of the request.
        field: &'static str,
        /// The id.
        token: u32,
        /// Number of ids.
        vocab_size: usize,
    },
    /// A parameter outside its rule.
    #[error("{field} is {value}; it must be {rule}")]
    InvalidSampling {
        /// Field of the request.
        field: &'static str,
        /// Its value.
        value: String,
        /// The rule it breaks, to be read after "must be".
        rule: String,
    },
    /// No engine is ready yet: its weights are being loaded.
    #[error("the model is being loaded")]
    Starting,
    /// The engine shuts down and accepts nothing new.
    #[error("the engine is shutting down")]
    ShuttingDown,
    /// The engine ended.
    #[error("the engine has stopped{}", .reason.as_ref().map(|e| format!(": {e}")).unwrap_or_default())]
    Stopped {
        /// The failure that ended it, none after an orderly shutdown.
        reason: Option<EngineError>,
    },
    /// The id is in use already (only through [`crate::EngineCore::submit`], whose caller chooses ids).
    #[error("request {id} exists already")]
    DuplicateId {
        /// The id.
        id: RequestId,
    },
}

/// Why an engine could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A limit or option under which requests could not run.
    #[error("{field} is {value}; it must be {rule}")]
    Limit {
        /// Which.
        field: &'static str,
        /// Its value.
        value: usize,
        /// The rule it breaks, to be read after "must be".
        rule: &'static str,
    },
    /// The owner thread could not be created.
    #[error("the engine thread could not start: {0}")]
    Thread(#[from] std::io::Error),
}
