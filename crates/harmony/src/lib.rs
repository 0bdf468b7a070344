//! Conversations to tokens and tokens to messages: OpenAI's Harmony format.
//!
//! [`Harmony`] joins a tokenizer with its control tokens. [`Harmony::render`] turns a [`Conversation`] into the ids that an
//! assistant turn continues; [`Harmony::parser`] turns the ids that the model then produces into [`Event`]s while they arrive
//! and into [`Message`]s at the end.
//!
//! ```
//! use sostenuto_harmony::{Conversation, Event, Harmony, Message, ReasoningEffort, RenderOptions, SystemContent};
//! use sostenuto_tokenizer::Tokenizer;
//!
//! let harmony = Harmony::new(Tokenizer::o200k_harmony()).unwrap();
//! let conversation = Conversation::new(vec![
//!     Message::system(SystemContent::for_date("2026-11-23", ReasoningEffort::Low)),
//!     Message::user("What is 2 + 2?"),
//! ]);
//! let prompt = harmony.render(&conversation, &RenderOptions::default()).unwrap();
//! assert_eq!(prompt.last(), Some(&harmony.tokenizer().encode("assistant")[0]));
//!
//! let mut parser = harmony.parser();
//! let control = harmony.control();
//! let mut completion = vec![control.channel];
//! completion.extend(harmony.tokenizer().encode("final"));
//! completion.push(control.message);
//! completion.extend(harmony.tokenizer().encode("4"));
//! completion.push(control.return_);
//! let events: Vec<Event> = completion.into_iter().flat_map(|id| parser.push(id)).collect();
//! assert!(matches!(&events[1], Event::TextDelta { text } if text == "4"));
//! let parsed = parser.finish();
//! assert_eq!(parsed.messages, [Message::assistant("final", "4")]);
//! assert!(parsed.warnings.is_empty());
//! ```
//!
//! # What holds
//! * Rendering equals openai-harmony 0.0.8 token for token.
//! * Text of any field is encoded as ordinary tokens: whatever a client or a tool writes, the control tokens of a prompt are
//!   those of its messages' skeleton. One field is structure and not text: a `content_type` that starts with
//!   `<|constrain|>` renders that control token, so a server sets it itself and never copies it from a client.
//! * The parser accepts every sequence of ids. It has no error: what it does not expect becomes a [`Warning`], and text that
//!   is in no message or header field is in a warning. Control tokens never become text.
//! * Parsing depends on the sequence of ids only, not on how it was divided into calls.

mod builtin_tools;
mod control;
mod fuzzing;
mod header;
mod message;
mod parser;
mod render;
mod typescript;
mod warning;

pub use control::{ControlTokens, MissingControlToken};
pub use fuzzing::{fuzz_parse, fuzz_render};
pub use header::{HEADER_LIMIT_BYTES, Header};
pub use message::{
    Author, ChannelConfig, Content, Conversation, DeveloperContent, Message, ReasoningEffort, Role,
    SystemContent, TextContent, ToolDescription, ToolNamespaceConfig,
};
pub use parser::{EndedBy, Event, ParseStart, Parsed, StreamParser};
pub use render::{Harmony, RenderError, RenderOptions};
pub use typescript::MAX_SCHEMA_DEPTH;
pub use warning::{Warning, WarningKind};
