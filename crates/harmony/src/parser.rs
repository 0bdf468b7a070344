//! Token ids to messages: total, one id at a time.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sostenuto_tokenizer::{TokenId, Tokenizer, Utf8Stream};

use crate::control::ControlTokens;
use crate::header::{Header, HeaderBuffer, Headless, Marker, Understood};
use crate::message::{Content, Message, Role, TextContent};
use crate::warning::{Warning, WarningKind};

/// What a parser reports while ids arrive. A message is one `MessageStarted`, any number of `TextDelta`, one `MessageEnded`;
/// messages do not overlap.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum Event {
    /// A message began; its header is known.
    MessageStarted {
        /// Author, recipient, channel and content type.
        header: Header,
    },
    /// More text of the open message; never empty, always whole characters.
    TextDelta {
        /// The text.
        text: String,
    },
    /// The open message ended.
    MessageEnded {
        /// What ended it.
        by: EndedBy,
    },
}

/// What ended a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndedBy {
    /// `<|end|>`.
    End,
    /// `<|return|>`.
    Return,
    /// `<|call|>`.
    Call,
    /// `<|endoftext|>`.
    EndOfText,
    /// The next message began without an end.
    NextMessage,
    /// The ids ended, for example at a limit or a stop string.
    EndOfInput,
}

/// Where in a conversation a parser starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ParseStart {
    /// After `<|start|>assistant`: the completion of a rendered prompt.
    #[default]
    AssistantHeader,
    /// Before a `<|start|>`: a whole conversation.
    Message,
}

/// What a parser found, complete.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// The events of the end of input: the last text and end of a message that was still open.
    pub events: Vec<Event>,
    /// All messages, each with one text.
    pub messages: Vec<Message>,
    /// By message, what ended it.
    pub ended_by: Vec<EndedBy>,
    /// All oddities in order.
    pub warnings: Vec<Warning>,
}

/// A streaming parser that accepts every sequence of ids. Make one with [`Harmony::parser`](crate::Harmony::parser).
///
/// Memory is bounded by the input: the text so far, and at most [`HEADER_LIMIT_BYTES`](crate::HEADER_LIMIT_BYTES) of header.
#[derive(Debug, Clone)]
pub struct StreamParser {
    tokenizer: Arc<Tokenizer>,
    control: ControlTokens,
    state: State,
    token_count: usize,
    messages: Vec<Message>,
    ended_by: Vec<EndedBy>,
    warnings: Vec<Warning>,
}

#[derive(Debug, Clone)]
enum State {
    Between,
    Header(HeaderBuffer),
    Body(OpenMessage),
}

#[derive(Debug, Clone)]
struct OpenMessage {
    header: Header,
    text: String,
    utf8: Utf8Stream,
}

/// A token by what it does.
#[derive(Debug, Clone, Copy)]
enum Kind<'a> {
    Text(&'a [u8]),
    Start,
    Message,
    Marker(Marker),
    End(EndedBy),
    Meaningless,
}

impl StreamParser {
    pub(crate) fn new(tokenizer: Arc<Tokenizer>, control: ControlTokens, start: ParseStart) -> Self {
        let state = match start {
            ParseStart::AssistantHeader => State::Header(HeaderBuffer::new(Some(Role::Assistant), None)),
            ParseStart::Message => State::Between,
        };
        Self {
            tokenizer,
            control,
            state,
            token_count: 0,
            messages: Vec::new(),
            ended_by: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Takes the next id and returns what it caused, often nothing or one delta.
    pub fn push(&mut self, id: TokenId) -> Vec<Event> {
        let mut events = Vec::new();
        let tokenizer = Arc::clone(&self.tokenizer);
        let kind = self.kind_of(&tokenizer, id);
        if matches!(kind, Kind::Meaningless) {
            self.warn_ignored(id);
        } else {
            self.state = match std::mem::replace(&mut self.state, State::Between) {
                State::Between => self.push_between(id, kind, &mut events),
                State::Header(header) => self.push_header(id, header, kind, &mut events),
                State::Body(message) => self.push_body(id, message, kind, &mut events),
            };
        }
        self.token_count += 1;
        events
    }

    /// Messages that have ended so far.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Header of the open message, if one is open.
    pub fn open_header(&self) -> Option<&Header> {
        match &self.state {
            State::Body(message) => Some(&message.header),
            State::Between | State::Header(_) => None,
        }
    }

    /// Oddities so far.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// Ends the input: closes an open message and returns everything.
    pub fn finish(mut self) -> Parsed {
        let mut events = Vec::new();
        match std::mem::replace(&mut self.state, State::Between) {
            State::Between => {}
            State::Header(header) => self.close_header(header, EndedBy::EndOfInput, &mut events),
            State::Body(message) => self.close_message(message, EndedBy::EndOfInput, &mut events),
        }
        Parsed { events, messages: self.messages, ended_by: self.ended_by, warnings: self.warnings }
    }

    fn kind_of<'a>(&self, tokenizer: &'a Tokenizer, id: TokenId) -> Kind<'a> {
        if let Some(bytes) = tokenizer.token_bytes(id) {
            return Kind::Text(bytes);
        }
        let control = &self.control;
        match id {
            id if id == control.start => Kind::Start,
            id if id == control.message => Kind::Message,
            id if id == control.channel => Kind::Marker(Marker::Channel),
            id if id == control.constrain => Kind::Marker(Marker::Constrain),
            id if id == control.end => Kind::End(EndedBy::End),
            id if id == control.return_ => Kind::End(EndedBy::Return),
            id if id == control.call => Kind::End(EndedBy::Call),
            id if id == control.end_of_text => Kind::End(EndedBy::EndOfText),
            _ => Kind::Meaningless,
        }
    }

    fn push_between(&mut self, id: TokenId, kind: Kind<'_>, events: &mut Vec<Event>) -> State {
        match kind {
            Kind::Start => State::Header(HeaderBuffer::new(None, None)),
            Kind::End(_) | Kind::Meaningless => {
                self.warn_ignored(id);
                State::Between
            }
            Kind::Text(_) => {
                self.warn(WarningKind::MissingStart, "");
                self.push_header(id, HeaderBuffer::new(None, None), kind, events)
            }
            Kind::Message | Kind::Marker(_) => {
                self.warn(WarningKind::MissingStart, "");
                self.push_header(id, HeaderBuffer::new(Some(Role::Assistant), None), kind, events)
            }
        }
    }

    fn push_header(
        &mut self,
        id: TokenId,
        mut header: HeaderBuffer,
        kind: Kind<'_>,
        events: &mut Vec<Event>,
    ) -> State {
        match kind {
            Kind::Text(bytes) => header.push_text(bytes),
            Kind::Marker(marker) => header.push_marker(marker),
            Kind::Message => {
                let header = self.accept(header.complete());
                return State::Body(open_message(header, String::new(), Utf8Stream::new(), events));
            }
            Kind::Start => {
                if header.is_blank() {
                    self.warn_ignored(id);
                } else {
                    self.close_header(header, EndedBy::NextMessage, events);
                }
                return State::Header(HeaderBuffer::new(None, None));
            }
            Kind::End(by) => {
                self.close_header(header, by, events);
                return State::Between;
            }
            Kind::Meaningless => self.warn_ignored(id),
        }
        if !header.is_too_long() {
            return State::Header(header);
        }
        self.warn(WarningKind::HeaderTooLong, "");
        let Headless { understood, body, utf8, .. } = header.without_message_token(true, false);
        let header = self.accept(understood);
        State::Body(open_message(header, body, utf8, events))
    }

    fn push_body(
        &mut self,
        id: TokenId,
        mut message: OpenMessage,
        kind: Kind<'_>,
        events: &mut Vec<Event>,
    ) -> State {
        match kind {
            Kind::Text(bytes) => {
                let text = message.utf8.push(bytes);
                message.add(text, events);
            }
            Kind::Start => {
                self.warn(WarningKind::MissingEnd, "");
                self.close_message(message, EndedBy::NextMessage, events);
                return State::Header(HeaderBuffer::new(None, None));
            }
            Kind::Marker(Marker::Channel) => {
                self.warn(WarningKind::MissingEnd, "");
                let header = message.header.clone();
                self.close_message(message, EndedBy::NextMessage, events);
                let next = HeaderBuffer::new(Some(header.author.role), Some(header));
                return self.push_header(id, next, kind, events);
            }
            Kind::End(by) => {
                self.close_message(message, by, events);
                return State::Between;
            }
            Kind::Message | Kind::Marker(_) | Kind::Meaningless => self.warn_ignored(id),
        }
        State::Body(message)
    }

    /// Ends a header that has no `<|message|>`: a message when there is something in it, else a warning.
    fn close_header(&mut self, header: HeaderBuffer, by: EndedBy, events: &mut Vec<Event>) {
        let is_last = by == EndedBy::EndOfInput;
        let Headless { understood, body, raw, .. } = header.without_message_token(false, is_last);
        let Header { recipient, channel, .. } = &understood.header;
        let ended_by_token = !matches!(by, EndedBy::NextMessage | EndedBy::EndOfInput);
        if body.is_empty() && !(ended_by_token && (recipient.is_some() || channel.is_some())) {
            self.warn(WarningKind::IncompleteHeader, raw);
            return;
        }
        self.warn(WarningKind::MissingMessageToken, "");
        let header = self.accept(understood);
        let message = open_message(header, body, Utf8Stream::new(), events);
        self.close_message(message, by, events);
    }

    fn close_message(&mut self, mut message: OpenMessage, by: EndedBy, events: &mut Vec<Event>) {
        let tail = message.utf8.finish();
        message.add(tail, events);
        events.push(Event::MessageEnded { by });
        let OpenMessage { header, text, .. } = message;
        self.ended_by.push(by);
        self.messages.push(Message {
            author: header.author,
            recipient: header.recipient,
            content: vec![Content::Text(TextContent { text })],
            channel: header.channel,
            content_type: header.content_type,
        });
    }

    fn accept(&mut self, Understood { header, remarks }: Understood) -> Header {
        for (kind, text) in remarks {
            self.warn(kind, text);
        }
        header
    }

    fn warn_ignored(&mut self, id: TokenId) {
        match self.tokenizer.special_name(id).map(str::to_owned) {
            Some(name) => self.warn(WarningKind::StrayControlToken, name),
            None => self.warn(WarningKind::UnknownToken, id.to_string()),
        }
    }

    fn warn(&mut self, kind: WarningKind, text: impl Into<String>) {
        self.warnings.push(Warning { kind, at_token: self.token_count, text: text.into() });
    }
}

impl OpenMessage {
    fn add(&mut self, text: String, events: &mut Vec<Event>) {
        if !text.is_empty() {
            self.text.push_str(&text);
            events.push(Event::TextDelta { text });
        }
    }
}

fn open_message(header: Header, text: String, utf8: Utf8Stream, events: &mut Vec<Event>) -> OpenMessage {
    events.push(Event::MessageStarted { header: header.clone() });
    let mut message = OpenMessage { header, text: String::new(), utf8 };
    message.add(text, events);
    message
}
