//! The control tokens of Harmony, found by name in a tokenizer.

use sostenuto_tokenizer::{TokenId, Tokenizer};

/// Ids of the control tokens that Harmony uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControlTokens {
    /// `<|start|>`: a message begins, its header follows.
    pub start: TokenId,
    /// `<|message|>`: the header ends, the text follows.
    pub message: TokenId,
    /// `<|end|>`: the message ends, the turn goes on.
    pub end: TokenId,
    /// `<|return|>`: the message and the turn end.
    pub return_: TokenId,
    /// `<|call|>`: the message ends and is to be answered by its recipient, a tool.
    pub call: TokenId,
    /// `<|channel|>`: the channel's name follows.
    pub channel: TokenId,
    /// `<|constrain|>`: the content type follows.
    pub constrain: TokenId,
    /// `<|endoftext|>`: ends a document; in an assistant's turn it ends the message and the turn.
    pub end_of_text: TokenId,
}

/// The tokenizer lacks a control token of Harmony.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("tokenizer: control token {name}: expected an id, found none")]
pub struct MissingControlToken {
    /// Its name, for example `<|start|>`.
    pub name: &'static str,
}

impl ControlTokens {
    /// Looks the control tokens up by name.
    ///
    /// # Errors
    /// One of them is not a control token of `tokenizer`.
    pub fn of(tokenizer: &Tokenizer) -> Result<Self, MissingControlToken> {
        let id = |name| tokenizer.special_id(name).ok_or(MissingControlToken { name });
        Ok(Self {
            start: id("<|start|>")?,
            message: id("<|message|>")?,
            end: id("<|end|>")?,
            return_: id("<|return|>")?,
            call: id("<|call|>")?,
            channel: id("<|channel|>")?,
            constrain: id("<|constrain|>")?,
            end_of_text: id("<|endoftext|>")?,
        })
    }

    /// The ids that end an assistant's turn: `<|return|>`, `<|call|>`, `<|endoftext|>`. Not `<|end|>`, which ends a message
    /// of a turn that goes on.
    pub fn stop_ids(&self) -> [TokenId; 3] {
        [self.return_, self.call, self.end_of_text]
    }
}
