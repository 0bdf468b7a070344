//! One answer: tokens in, deltas of a Chat Completions message out.
//!
//! | Harmony message of the assistant | becomes |
//! |---|---|
//! | to a declared function, on any channel | a tool call |
//! | `analysis`, otherwise | `reasoning` |
//! | everything else: `final`, commentary (preambles), calls of undeclared tools | `content` |
//!
//! The turn is over when the model says so (a stop token), when a final message ends, when a stop string appears in
//! `content`, when somebody else begins to speak, and, where calls may not be parallel, after the first call.

use std::sync::Arc;

use sostenuto_api::chat::{FinishReason, TokenLogprob, TopLogprob};
use sostenuto_engine::TokenEvent;
use sostenuto_harmony::{EndedBy, Event, Harmony, Header, Role, StreamParser};
use sostenuto_tokenizer::Tokenizer;

use super::{
    align::Aligner,
    names::ToolNames,
    stop::{StopMatcher, Stopped},
};
use crate::clock::IdSource;

/// Between two messages that become one text.
const SEPARATOR: &str = "\n\n";
/// Stands for the logarithm of zero, which JSON can't carry. OpenAI's value.
const LOGPROB_OF_ZERO: f32 = -9999.0;

/// What is added to an answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Delta {
    /// More reasoning.
    Reasoning(String),
    /// More content, and log probabilities of the tokens that are complete with it.
    Content { text: String, logprobs: Vec<TokenLogprob> },
    /// A call begins.
    Call { index: usize, id: String, name: String },
    /// More of a call's arguments.
    Arguments { index: usize, text: String },
}

/// How a turn is read.
#[derive(Debug, Clone)]
pub(crate) struct TurnOptions {
    pub(crate) names: Arc<ToolNames>,
    pub(crate) stop: Vec<String>,
    pub(crate) logprobs: bool,
    pub(crate) include_reasoning: bool,
    pub(crate) parallel_tool_calls: bool,
}

/// A turn in progress.
pub(crate) struct Turn {
    options: TurnOptions,
    ids: Arc<IdSource>,
    tokenizer: Arc<Tokenizer>,
    parser: StreamParser,
    stop: StopMatcher,
    aligner: Aligner,
    open: Option<Open>,
    /// Texts that already hold something, so that the next message is set apart.
    has_reasoning: bool,
    has_content: bool,
    calls: usize,
    undeclared_calls: usize,
    completion_tokens: usize,
    reasoning_tokens: usize,
    ended: Option<FinishReason>,
}

/// What the open message becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    Reasoning,
    Content { is_final: bool },
    Call { index: usize, is_empty: bool },
}

/// What a turn came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TurnEnd {
    pub(crate) reason: FinishReason,
    pub(crate) completion_tokens: usize,
    pub(crate) reasoning_tokens: usize,
    /// Oddities of the model's Harmony.
    pub(crate) warnings: usize,
}

impl Turn {
    pub(crate) fn new(harmony: &Harmony, options: TurnOptions, ids: Arc<IdSource>) -> Turn {
        Turn {
            stop: StopMatcher::new(&options.stop),
            options,
            ids,
            tokenizer: Arc::clone(harmony.tokenizer()),
            parser: harmony.parser(),
            aligner: Aligner::default(),
            open: None,
            has_reasoning: false,
            has_content: false,
            calls: 0,
            undeclared_calls: 0,
            completion_tokens: 0,
            reasoning_tokens: 0,
            ended: None,
        }
    }

    /// Takes the next token. Returns whether the turn is over; further tokens then change nothing.
    pub(crate) fn push(&mut self, token: TokenEvent, deltas: &mut Vec<Delta>) -> bool {
        if self.ended.is_some() {
            return true;
        }
        self.completion_tokens += 1;
        let before = self.open.filter(|_| self.parser.open_header().is_some());
        let events = self.parser.push(token.id);
        let is_text = self.tokenizer.token_bytes(token.id).is_some() && self.parser.open_header().is_some();
        match before.filter(|_| is_text) {
            Some(Open::Reasoning) => self.reasoning_tokens += 1,
            Some(Open::Content { .. }) if self.options.logprobs => {
                let text_bytes = events.iter().map(delta_bytes).sum();
                let entry = self.logprob_entry(token);
                self.aligner.push_token(entry, text_bytes);
            }
            _ => {}
        }
        self.take_events(events, deltas);
        self.ended.is_some()
    }

    /// Ends the turn: the engine gave `reason` unless the turn was over before.
    pub(crate) fn finish(&mut self, reason: FinishReason, deltas: &mut Vec<Delta>) -> TurnEnd {
        let warnings = self.parser.warnings().len() + self.undeclared_calls;
        if self.ended.is_none() {
            let events = self.parser.clone().finish().events;
            self.take_events(events, deltas);
        }
        let by_itself = match reason {
            FinishReason::Stop if self.calls > 0 => FinishReason::ToolCalls,
            other => other,
        };
        TurnEnd {
            reason: self.ended.unwrap_or(by_itself),
            completion_tokens: self.completion_tokens,
            reasoning_tokens: self.reasoning_tokens,
            warnings,
        }
    }

    fn take_events(&mut self, events: Vec<Event>, deltas: &mut Vec<Delta>) {
        for event in events {
            if self.ended.is_some() {
                return;
            }
            match event {
                Event::MessageStarted { header } => self.start_message(&header, deltas),
                Event::TextDelta { text } => self.add_text(text, deltas),
                Event::MessageEnded { by } => self.end_message(by == EndedBy::EndOfInput, deltas),
            }
        }
    }

    fn start_message(&mut self, header: &Header, deltas: &mut Vec<Delta>) {
        if header.author.role != Role::Assistant {
            self.end_turn();
            return;
        }
        let called = header.recipient.as_deref().and_then(|recipient| self.options.names.called(recipient));
        self.open = Some(match (called, header.channel.as_deref()) {
            (Some(name), _) => {
                let (index, id) = (self.calls, self.ids.id("call_"));
                deltas.push(Delta::Call { index, id, name: name.to_owned() });
                self.calls += 1;
                Open::Call { index, is_empty: true }
            }
            (None, Some("analysis")) => Open::Reasoning,
            (None, channel) => {
                let is_tool = header.recipient.as_deref().is_some_and(|recipient| recipient != "all");
                self.undeclared_calls += usize::from(is_tool);
                Open::Content { is_final: channel == Some("final") && !is_tool }
            }
        });
        match self.open {
            Some(Open::Reasoning) if self.has_reasoning => self.add_reasoning(SEPARATOR.to_owned(), deltas),
            Some(Open::Content { .. }) if self.has_content => {
                deltas.push(Delta::Content { text: SEPARATOR.to_owned(), logprobs: Vec::new() });
            }
            _ => {}
        }
    }

    fn add_text(&mut self, text: String, deltas: &mut Vec<Delta>) {
        match &mut self.open {
            None => {}
            Some(Open::Reasoning) => self.add_reasoning(text, deltas),
            Some(Open::Call { index, is_empty }) => {
                *is_empty = false;
                deltas.push(Delta::Arguments { index: *index, text });
            }
            Some(Open::Content { .. }) => self.add_content_text(&text, deltas),
        }
    }

    fn add_content_text(&mut self, text: &str, deltas: &mut Vec<Delta>) {
        self.aligner.produce(text.len());
        match self.stop.push(text) {
            Stopped::No(text) => {
                let logprobs = self.aligner.release(text.len());
                self.add_content(text, logprobs, deltas);
            }
            Stopped::Yes(text) => {
                let logprobs = self.aligner.cut(text.len());
                self.add_content(text, logprobs, deltas);
                self.ended = Some(FinishReason::Stop);
            }
        }
    }

    /// A message that was cut by a limit does not end the turn by itself.
    fn end_message(&mut self, is_cut: bool, deltas: &mut Vec<Delta>) {
        match self.open.take() {
            None | Some(Open::Reasoning) => {}
            Some(Open::Content { is_final }) => {
                let text = self.stop.finish();
                let logprobs = self.aligner.release_all();
                self.add_content(text, logprobs, deltas);
                if is_final && !is_cut {
                    self.end_turn();
                }
            }
            Some(Open::Call { index, is_empty }) => {
                if is_empty && !is_cut {
                    // No arguments at all; clients parse the text as JSON.
                    deltas.push(Delta::Arguments { index, text: "{}".to_owned() });
                }
                if !self.options.parallel_tool_calls && !is_cut {
                    self.end_turn();
                }
            }
        }
    }

    fn end_turn(&mut self) {
        let reason = if self.calls > 0 { FinishReason::ToolCalls } else { FinishReason::Stop };
        self.ended = Some(reason);
    }

    fn add_reasoning(&mut self, text: String, deltas: &mut Vec<Delta>) {
        self.has_reasoning = true;
        if self.options.include_reasoning {
            deltas.push(Delta::Reasoning(text));
        }
    }

    fn add_content(&mut self, text: String, logprobs: Vec<TokenLogprob>, deltas: &mut Vec<Delta>) {
        if !text.is_empty() || !logprobs.is_empty() {
            self.has_content = true;
            deltas.push(Delta::Content { text, logprobs });
        }
    }

    fn logprob_entry(&self, token: TokenEvent) -> TokenLogprob {
        let top = token.top_logprobs.iter().map(|&(id, logprob)| {
            let (token, bytes) = self.token_text(id);
            TopLogprob { token, logprob: logprob.max(LOGPROB_OF_ZERO), bytes: Some(bytes) }
        });
        let top_logprobs = top.collect();
        let (text, bytes) = self.token_text(token.id);
        let logprob = token.logprob.unwrap_or(LOGPROB_OF_ZERO).max(LOGPROB_OF_ZERO);
        TokenLogprob { token: text, logprob, bytes: Some(bytes), top_logprobs }
    }

    fn token_text(&self, id: u32) -> (String, Vec<u8>) {
        let bytes = self.tokenizer.decode_bytes(&[id]);
        (String::from_utf8_lossy(&bytes).into_owned(), bytes)
    }
}

fn delta_bytes(event: &Event) -> usize {
    match event {
        Event::TextDelta { text } => text.len(),
        Event::MessageStarted { .. } | Event::MessageEnded { .. } => 0,
    }
}
