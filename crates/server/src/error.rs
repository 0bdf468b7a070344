//! What can go wrong: at the start ([`ServerError`]) and with one request ([`ApiError`]).

use std::{io, net::SocketAddr, path::PathBuf, time::Duration};

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use sostenuto_api::{ErrorBody, ErrorType, ValidationError, limits};
use sostenuto_engine::SubmitError;

/// Time after which a client may try again that came while the model loads, or during shutdown, when another server may
/// answer.
pub(crate) const STATE_RETRY: Duration = Duration::from_secs(1);

/// Why a server could not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address can't be listened on.
    #[error("can't listen on {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The operating system's reason.
        source: io::Error,
    },
    /// Other machines could connect without a key.
    #[error(
        "refusing to listen on {address} without an API key: everybody who can reach this address could use the model; \
         set an API key, or listen on 127.0.0.1"
    )]
    OpenToTheNetwork {
        /// The address.
        address: SocketAddr,
    },
    /// The file of API keys can't be read.
    #[error("can't read API keys from {}: {source}", path.display())]
    ApiKeyFile {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// Others than the owner may read the file of API keys.
    #[error("{} can be read by others (mode {mode:03o}): run chmod 600 on it", path.display())]
    ApiKeyFileMode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A key that could be guessed.
    #[error("{source_name}, line {line}: the API key has {bytes} bytes, at least {min_bytes} are needed")]
    WeakApiKey {
        /// File or variable.
        source_name: String,
        /// Line in it, from 1.
        line: usize,
        /// Length of the key.
        bytes: usize,
        /// Shortest allowed length.
        min_bytes: usize,
    },
    /// The tokenizer can't speak Harmony.
    #[error(transparent)]
    Tokenizer(#[from] sostenuto_harmony::MissingControlToken),
}

/// Why one request is not served. Becomes OpenAI's error object.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    #[error(transparent)]
    Invalid(#[from] ValidationError),
    #[error("the model {model:?} does not exist; this server has {available}")]
    UnknownModel { model: String, available: String },
    #[error(
        "the conversation has {prompt_tokens} tokens, at most {max_prompt_tokens} leave room for an answer in this \
         model's context; shorten it"
    )]
    ContextExceeded { prompt_tokens: usize, max_prompt_tokens: usize },
    #[error("{0}")]
    Refused(String),
    #[error("the server has no room for another request now ({reason}); try again later")]
    Overloaded { reason: String, retry_after: Duration },
    #[error("the model is being loaded; try again later")]
    Starting,
    #[error("the server is shutting down")]
    ShuttingDown,
    #[error("the answer was not complete within the request's timeout")]
    DeadlineExceeded,
    #[error("the engine failed: {0}")]
    Engine(String),
    #[error(
        "the answer was stopped: its reader fell more than {} tokens behind",
        limits::STREAM_BACKLOG_TOKENS.max
    )]
    SlowReader,
    #[error("{method} {path} does not exist; see GET / for what does")]
    NotFound { method: String, path: String },
    #[error("{path} does not take {method}")]
    MethodNotAllowed { method: String, path: String },
    #[error("an API key is needed: send it as \"Authorization: Bearer KEY\" or \"x-api-key: KEY\"")]
    Unauthorized,
    #[error(
        "requests addressed to host {0:?} are not served; start the server with that name among its allowed hosts"
    )]
    Host(String),
    #[error("pages from {0} may not use this server; start it with that origin among its allowed origins")]
    Origin(String),
    #[error("the request body must be sent with Content-Type: application/json, got {0}")]
    ContentType(String),
    #[error("the request body is larger than {} bytes", limits::BODY_BYTES.max)]
    BodyTooLarge,
    #[error("the request body did not arrive within {0} seconds")]
    BodyTimeout(f32),
    #[error("the request body ended early")]
    BodyIncomplete,
}

impl ApiError {
    /// HTTP status, error type, parameter and code.
    fn facts(&self) -> (StatusCode, ErrorType, Option<&str>, &'static str) {
        use ErrorType::{Authentication, InvalidRequest, RateLimit, Server};
        match self {
            Self::Invalid(error) => (StatusCode::BAD_REQUEST, InvalidRequest, error.param(), error.code()),
            Self::UnknownModel { .. } => {
                (StatusCode::NOT_FOUND, InvalidRequest, Some("model"), "model_not_found")
            }
            Self::ContextExceeded { .. } => {
                (StatusCode::BAD_REQUEST, InvalidRequest, Some("messages"), "context_length_exceeded")
            }
            Self::Refused(_) => (StatusCode::BAD_REQUEST, InvalidRequest, None, "invalid_value"),
            Self::Overloaded { .. } => {
                (StatusCode::TOO_MANY_REQUESTS, RateLimit, None, "rate_limit_exceeded")
            }
            Self::Starting => (StatusCode::SERVICE_UNAVAILABLE, Server, None, "starting"),
            Self::ShuttingDown => (StatusCode::SERVICE_UNAVAILABLE, Server, None, "shutting_down"),
            Self::DeadlineExceeded => (StatusCode::GATEWAY_TIMEOUT, Server, None, "deadline_exceeded"),
            Self::Engine(_) => (StatusCode::INTERNAL_SERVER_ERROR, Server, None, "engine_error"),
            Self::SlowReader => {
                (StatusCode::REQUEST_TIMEOUT, InvalidRequest, None, limits::STREAM_BACKLOG_TOKENS.code)
            }
            Self::NotFound { .. } => (StatusCode::NOT_FOUND, InvalidRequest, None, "not_found"),
            Self::MethodNotAllowed { .. } => {
                (StatusCode::METHOD_NOT_ALLOWED, InvalidRequest, None, "method_not_allowed")
            }
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, Authentication, None, "invalid_api_key"),
            Self::Host(_) => (StatusCode::FORBIDDEN, InvalidRequest, None, "host_not_allowed"),
            Self::Origin(_) => (StatusCode::FORBIDDEN, InvalidRequest, None, "origin_not_allowed"),
            Self::ContentType(_) => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, InvalidRequest, None, "unsupported_media_type")
            }
            Self::BodyTooLarge => {
                (StatusCode::PAYLOAD_TOO_LARGE, InvalidRequest, None, limits::BODY_BYTES.code)
            }
            Self::BodyTimeout(_) => {
                (StatusCode::REQUEST_TIMEOUT, InvalidRequest, None, limits::BODY_SECONDS.code)
            }
            Self::BodyIncomplete => (StatusCode::BAD_REQUEST, InvalidRequest, None, "incomplete_body"),
        }
    }

    /// The body of the answer.
    pub(crate) fn body(&self) -> ErrorBody {
        let (_, kind, param, code) = self.facts();
        ErrorBody::new(kind, self.to_string(), param, Some(code))
    }

    /// The error object's `code`.
    pub(crate) fn code(&self) -> &'static str {
        self.facts().3
    }
}

impl From<SubmitError> for ApiError {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::QueueFull { retry_after, .. } => {
                Self::Overloaded { reason: error.to_string(), retry_after }
            }
            SubmitError::PromptTooLong { prompt_tokens, max_prompt_tokens } => {
                Self::ContextExceeded { prompt_tokens, max_prompt_tokens }
            }
            SubmitError::TokenOutOfRange { .. } | SubmitError::InvalidSampling { .. } => {
                Self::Refused(error.to_string())
            }
            SubmitError::Starting => Self::Starting,
            SubmitError::ShuttingDown => Self::ShuttingDown,
            SubmitError::EmptyPrompt | SubmitError::Stopped { .. } | SubmitError::DuplicateId { .. } => {
                Self::Engine(error.to_string())
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.facts().0;
        let mut response = (status, Json(self.body())).into_response();
        let headers = response.headers_mut();
        match self {
            Self::Overloaded { retry_after, .. } => {
                headers.insert(header::RETRY_AFTER, whole_seconds(retry_after));
            }
            Self::Starting | Self::ShuttingDown => {
                headers.insert(header::RETRY_AFTER, whole_seconds(STATE_RETRY));
            }
            Self::Unauthorized => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            _ => {}
        }
        response
    }
}

/// At least the time given, and at least a second.
pub(crate) fn whole_seconds(time: Duration) -> HeaderValue {
    let seconds = time.as_secs() + u64::from(time.subsec_nanos() > 0);
    HeaderValue::from(seconds.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_to_wait_is_rounded_up_to_a_whole_second() {
        for (ms, seconds) in [(0, "1"), (1, "1"), (1000, "1"), (1001, "2"), (600_000, "600")] {
            assert_eq!(whole_seconds(Duration::from_millis(ms)), seconds, "{ms}");
        }
    }
}
