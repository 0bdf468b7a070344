//! What is said to a client whose request can't be served.

use serde::{Deserialize, Serialize};

use crate::limits::Limit;

/// Longest part of a client's value that an error message repeats, in characters.
const VALUE_CHARS: usize = 80;

/// A request that breaks a rule of the interface. Every variant is answered with status 400.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValidationError {
    /// The body is not JSON.
    #[error("the request body is not valid JSON: {message}")]
    Syntax {
        /// What the JSON reader said, with line and column.
        message: String,
    },
    /// A field has the wrong JSON type.
    #[error("{param}: {message}")]
    Type {
        /// Path of the field, for example `messages[2].content`.
        param: String,
        /// What was expected and found.
        message: String,
    },
    /// A required field is absent or null.
    #[error("{param} is required{why}")]
    Missing {
        /// Path of the field.
        param: String,
        /// Empty, or a clause that says when it is required.
        why: &'static str,
    },
    /// A value breaks a rule.
    #[error("{param} must be {rule}, got {value}")]
    Value {
        /// Path of the field.
        param: String,
        /// The rule, completing "must be …".
        rule: String,
        /// The value, shortened.
        value: String,
    },
    /// Something longer, larger or deeper than a row of the limits table allows.
    #[error("{param} has {got} {}, the limit is {}", limit.unit, limit.max)]
    Limit {
        /// Path of the field; empty for the body as a whole.
        param: String,
        /// The row of the limits table.
        limit: &'static Limit,
        /// What was found, in the unit of the row.
        got: u64,
    },
    /// Something of OpenAI's interface that this server does not offer.
    #[error("{param}: {value} is not supported: {reason}")]
    Unsupported {
        /// Path of the field.
        param: String,
        /// The value or the feature asked for, shortened.
        value: String,
        /// Why, and what to do instead.
        reason: &'static str,
    },
}

impl ValidationError {
    /// A [`ValidationError::Value`] with `value` shortened for display.
    pub fn value(param: impl Into<String>, rule: impl Into<String>, value: impl std::fmt::Display) -> Self {
        Self::Value { param: param.into(), rule: rule.into(), value: shorten(&value.to_string()) }
    }

    /// A [`ValidationError::Unsupported`] with `value` shortened for display.
    pub fn unsupported(
        param: impl Into<String>,
        value: impl std::fmt::Display,
        reason: &'static str,
    ) -> Self {
        Self::Unsupported { param: param.into(), value: shorten(&value.to_string()), reason }
    }

    /// A [`ValidationError::Missing`] without a condition.
    pub fn missing(param: impl Into<String>) -> Self {
        Self::Missing { param: param.into(), why: "" }
    }

    /// The field at fault, for the error object's `param`.
    pub fn param(&self) -> Option<&str> {
        match self {
            Self::Syntax { .. } => None,
            Self::Type { param, .. }
            | Self::Missing { param, .. }
            | Self::Value { param, .. }
            | Self::Limit { param, .. }
            | Self::Unsupported { param, .. } => Some(param).filter(|param| !param.is_empty()).map(|p| &**p),
        }
    }

    /// The error object's `code`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Syntax { .. } => "invalid_json",
            Self::Type { .. } => "invalid_type",
            Self::Missing { .. } => "missing_required_parameter",
            Self::Value { .. } => "invalid_value",
            Self::Limit { limit, .. } => limit.code,
            Self::Unsupported { .. } => "unsupported_value",
        }
    }

    /// The body of the answer.
    pub fn body(&self) -> ErrorBody {
        ErrorBody::new(ErrorType::InvalidRequest, self.to_string(), self.param(), Some(self.code()))
    }
}

/// OpenAI's `error.type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ErrorType {
    /// The request is at fault: 400, 403, 404, 405, 408, 413, 415.
    #[serde(rename = "invalid_request_error")]
    InvalidRequest,
    /// The API key is missing or wrong: 401.
    #[serde(rename = "authentication_error")]
    Authentication,
    /// No capacity now: 429.
    #[serde(rename = "rate_limit_error")]
    RateLimit,
    /// The server can't answer: 500, 503.
    #[serde(rename = "server_error")]
    Server,
}

/// `{"error": {…}}`, the body of every answer with a status of 400 or above.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The object itself.
    pub error: ErrorObject,
}

/// OpenAI's error object. All four keys are always present.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorObject {
    /// One sentence for people.
    pub message: String,
    /// Class of the error.
    #[serde(rename = "type")]
    pub kind: ErrorType,
    /// The field at fault, or null.
    pub param: Option<String>,
    /// A word for programs, or null.
    pub code: Option<String>,
}

impl ErrorBody {
    /// An error body.
    pub fn new(
        kind: ErrorType,
        message: impl Into<String>,
        param: Option<&str>,
        code: Option<&str>,
    ) -> ErrorBody {
        ErrorBody {
            error: ErrorObject {
                message: message.into(),
                kind,
                param: param.map(str::to_owned),
                code: code.map(str::to_owned),
            },
        }
    }
}

/// The first [`VALUE_CHARS`] characters of `value`, with `…` when it goes on.
fn shorten(value: &str) -> String {
    match value.char_indices().nth(VALUE_CHARS) {
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_are_shortened_on_a_character_border() {
        let error = ValidationError::value("user", "short", "я".repeat(1_000_000));
        assert_eq!(error.to_string(), format!("user must be short, got {}…", "я".repeat(VALUE_CHARS)));
    }

    #[test]
    fn error_object_always_has_all_four_keys() {
        let json = serde_json::to_value(ErrorBody::new(ErrorType::Server, "x", None, None)).unwrap();
        assert_eq!(
            json,
            serde_json::json!({"error": {"message": "x", "type": "server_error", "param": null, "code": null}})
        );
    }
}
