//! What the parser found odd.

use serde::{Deserialize, Serialize};

/// Something in a token sequence that is not well-formed Harmony, and what it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// What was odd.
    pub kind: WarningKind,
    /// Position in the sequence given to the parser, from 0; its length when the end of input showed it.
    pub at_token: usize,
    /// The text, token name or id in question; may be empty.
    pub text: String,
}

/// Kinds of oddities. The name in JSON is the variant's in snake case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WarningKind {
    /// A control token where it has no meaning; it was ignored. `text` is its name.
    StrayControlToken,
    /// An id outside the vocabulary; it was ignored. `text` is the id.
    UnknownToken,
    /// A message began without `<|start|>`.
    MissingStart,
    /// A header ended without `<|message|>`; what is not header became the message's text.
    MissingMessageToken,
    /// A message began while another was open; the open one was ended.
    MissingEnd,
    /// The header did not begin with a known role. `text` is what was there; the assistant is assumed.
    UnknownRole,
    /// A message of the assistant has no channel.
    MissingChannel,
    /// The channel is none of `analysis`, `commentary`, `final`. It is kept; `text` is its name.
    UnknownChannel,
    /// A channel or a recipient without its marker (`<|channel|>`, `to=`) was recognized. `text` is its name.
    MissingMarker,
    /// Role, channel, recipient or content type was given twice; the last is kept. `text` is the one dropped.
    RepeatedHeader,
    /// A tool name with spaces was joined. `text` is the whole name.
    SpaceInRecipient,
    /// Words in the header that mean nothing there. `text` holds them.
    HeaderText,
    /// The header exceeded its limit; the rest became the message's text.
    HeaderTooLong,
    /// A header ended with nothing to say, or the input ended inside it. `text` is the header so far.
    IncompleteHeader,
}

impl WarningKind {
    /// The name in JSON, for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::StrayControlToken => "stray_control_token",
            Self::UnknownToken => "unknown_token",
            Self::MissingStart => "missing_start",
            Self::MissingMessageToken => "missing_message_token",
            Self::MissingEnd => "missing_end",
            Self::UnknownRole => "unknown_role",
            Self::MissingChannel => "missing_channel",
            Self::UnknownChannel => "unknown_channel",
            Self::MissingMarker => "missing_marker",
            Self::RepeatedHeader => "repeated_header",
            Self::SpaceInRecipient => "space_in_recipient",
            Self::HeaderText => "header_text",
            Self::HeaderTooLong => "header_too_long",
            Self::IncompleteHeader => "incomplete_header",
        }
    }
}
