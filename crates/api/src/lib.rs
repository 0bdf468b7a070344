//! Wire types of the HTTP interfaces and their validation.
//!
//! Bytes come in as a wire type (`chat::ChatRequest`, lenient: unknown fields are ignored), are checked once by
//! [`chat::ChatRequest::validate`] into a [`chat::ValidChatRequest`], and nothing after that checks again. Every
//! refusal is a [`ValidationError`] that names the field, the rule and the value, and renders as OpenAI's error
//! object ([`ErrorBody`]). Every bound is a row of [`limits::LIMITS`] or [`limits::RANGES`].
//!
//! This crate does no input or output and knows neither tokens nor Harmony.

pub mod chat;
mod error;
mod json;
pub mod limits;
pub mod models;

pub use error::{ErrorBody, ErrorObject, ErrorType, ValidationError};
