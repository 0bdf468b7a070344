//! What stands between `<|start|>` and `<|message|>`: role, recipient, channel and content type, in any usable order.

use serde::{Deserialize, Serialize};
use sostenuto_tokenizer::Utf8Stream;

use crate::message::{Author, Role};
use crate::warning::WarningKind;

/// A header longer than this is taken to lack its `<|message|>`. A marker counts as 8 bytes.
pub const HEADER_LIMIT_BYTES: usize = 512;

const MARKER_BYTES: usize = 8;
const CHANNELS: [&str; 3] = ["analysis", "commentary", "final"];
const CONTENT_TYPES: [&str; 5] = ["json", "code", "text", "python", "markdown"];
const NAMESPACE_TOOLS: [&str; 2] = ["python", "browser"];
const CHANNEL_MARKER: &str = "<|channel|>";
const CONSTRAIN_MARKER: &str = "<|constrain|>";

/// The header of a message, as understood.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Who writes.
    #[serde(flatten)]
    pub author: Author,
    /// To whom, for example `functions.get_weather`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<String>,
    /// On which channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// Form of the text: `<|constrain|>json` after that marker, else the bare word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
}

impl Header {
    /// Whether the header says that the text is JSON.
    pub fn is_json(&self) -> bool {
        let content_type = self.content_type.as_deref().unwrap_or_default();
        content_type.strip_prefix(CONSTRAIN_MARKER).unwrap_or(content_type) == "json"
    }

    /// NAME when the message is to `functions.NAME`.
    pub fn function_name(&self) -> Option<&str> {
        self.recipient.as_deref()?.strip_prefix("functions.")
    }
}

/// What introduces a stretch of header text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Marker {
    /// Nothing: the text after `<|start|>`.
    Lead,
    Channel,
    Constrain,
}

#[derive(Debug, Clone)]
struct Segment {
    marker: Marker,
    text: String,
}

/// A header while it arrives.
#[derive(Debug, Clone)]
pub(crate) struct HeaderBuffer {
    /// The role when it is known before the header begins.
    role: Option<Role>,
    /// The header to assume when this one turns out to say nothing: that of the message it interrupted.
    interrupted: Option<Header>,
    segments: Vec<Segment>,
    utf8: Utf8Stream,
    size_bytes: usize,
}

/// A warning without its position.
pub(crate) type Remark = (WarningKind, String);

/// A header and what was odd about it.
pub(crate) struct Understood {
    pub(crate) header: Header,
    pub(crate) remarks: Vec<Remark>,
}

/// A header without `<|message|>`: what of it is header and what is text.
pub(crate) struct Headless {
    pub(crate) understood: Understood,
    pub(crate) body: String,
    /// Bytes of an unfinished character at the end of the body.
    pub(crate) utf8: Utf8Stream,
    /// All text of the header, for a warning.
    pub(crate) raw: String,
}

impl HeaderBuffer {
    pub(crate) fn new(role: Option<Role>, interrupted: Option<Header>) -> Self {
        let segments = vec![Segment { marker: Marker::Lead, text: String::new() }];
        Self { role, interrupted, segments, utf8: Utf8Stream::new(), size_bytes: 0 }
    }

    pub(crate) fn push_text(&mut self, bytes: &[u8]) {
        self.size_bytes += bytes.len();
        let text = self.utf8.push(bytes);
        self.last_segment().push_str(&text);
    }

    pub(crate) fn push_marker(&mut self, marker: Marker) {
        self.size_bytes += MARKER_BYTES;
        self.flush();
        self.segments.push(Segment { marker, text: String::new() });
    }

    pub(crate) fn is_too_long(&self) -> bool {
        self.size_bytes > HEADER_LIMIT_BYTES
    }

    /// Nothing but white space so far.
    pub(crate) fn is_blank(&self) -> bool {
        self.segments.len() == 1 && self.segments[0].text.trim().is_empty() && !self.utf8.has_pending()
    }

    /// Reads a header that `<|message|>` completed.
    pub(crate) fn complete(mut self) -> Understood {
        self.flush();
        let segments = split_at_spelled_markers(self.segments);
        let mut reader = Reader::new(self.role);
        let mut words = Vec::new();
        for Segment { marker, text } in &segments {
            match marker {
                Marker::Lead => words.extend(text.split_whitespace()),
                Marker::Channel => words.extend(reader.read_channel(text)),
                Marker::Constrain => words.extend(reader.read_constrain(text)),
            }
        }
        let lead_words = segments[0].text.split_whitespace().count();
        let rest = reader.read_role(&words, lead_words);
        reader.read_words(&rest);
        reader.finish(self.interrupted)
    }

    /// Reads a header that has no `<|message|>`: header elements as far as they go, then text. `is_last` says that the input
    /// ended here, so that a last word may be cut short.
    pub(crate) fn without_message_token(mut self, keep_pending: bool, is_last: bool) -> Headless {
        if !keep_pending {
            self.flush();
        }
        let utf8 = std::mem::take(&mut self.utf8);
        let raw: String = self.segments.iter().map(|segment| segment.text.as_str()).collect();
        let mut reader = Reader::new(self.role);
        let mut body = String::new();
        let mut in_body = false;
        for segment in &self.segments {
            if in_body {
                body.push_str(&segment.text);
                continue;
            }
            let rest = reader.read_prefix(segment);
            let is_cut_channel = is_last
                && segment.marker == Marker::Channel
                && CHANNELS.iter().any(|channel| channel.starts_with(segment.text.trim()));
            if !rest.trim().is_empty() && !is_cut_channel {
                body.push_str(if rest.len() < segment.text.len() { rest.trim_start() } else { rest });
                in_body = true;
            }
        }
        let interrupted = if reader.channel.is_none() { self.interrupted } else { None };
        Headless { understood: reader.finish(interrupted), body, utf8, raw }
    }

    fn last_segment(&mut self) -> &mut String {
        &mut self.segments.last_mut().expect("there is always the lead").text
    }

    fn flush(&mut self) {
        let tail = self.utf8.finish();
        self.last_segment().push_str(&tail);
    }
}

/// Collects the elements of one header.
struct Reader {
    role: Option<Role>,
    name: Option<String>,
    recipient: Option<String>,
    channel: Option<String>,
    content_type: Option<String>,
    remarks: Vec<Remark>,
}

impl Reader {
    fn new(role: Option<Role>) -> Self {
        Self { role, name: None, recipient: None, channel: None, content_type: None, remarks: Vec::new() }
    }

    fn remark(&mut self, kind: WarningKind, text: impl Into<String>) {
        self.remarks.push((kind, text.into()));
    }

    fn set_channel(&mut self, channel: &str) {
        if let Some(dropped) = self.channel.replace(channel.to_owned()) {
            self.remark(WarningKind::RepeatedHeader, dropped);
        }
    }

    fn set_recipient(&mut self, recipient: &str) {
        if let Some(dropped) = self.recipient.replace(recipient.to_owned()) {
            self.remark(WarningKind::RepeatedHeader, dropped);
        }
    }

    fn set_content_type(&mut self, content_type: String) {
        if let Some(dropped) = self.content_type.replace(content_type) {
            self.remark(WarningKind::RepeatedHeader, dropped);
        }
    }

    /// The text after `<|channel|>`: its first word is the channel; returns the other words.
    fn read_channel<'a>(&mut self, text: &'a str) -> Vec<&'a str> {
        let end = text.find(|c: char| c.is_whitespace() || c == '<').unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        let mut words: Vec<&str> = rest.split_whitespace().collect();
        if value.is_empty() {
            return words;
        }
        match split_channel(value) {
            Some((channel, "")) => self.set_channel(channel),
            Some((channel, glued)) => {
                self.set_channel(channel);
                words.insert(0, glued);
            }
            None if is_name(value) => {
                self.set_channel(value);
                self.remark(WarningKind::UnknownChannel, value);
            }
            None => words.insert(0, value),
        }
        words
    }

    /// The text after `<|constrain|>`: its first word is the content type; returns the other words.
    fn read_constrain<'a>(&mut self, text: &'a str) -> Vec<&'a str> {
        let mut words: Vec<&str> = text.split_whitespace().collect();
        if words.first().is_some_and(|word| !word.starts_with("to=")) {
            let content_type = words.remove(0);
            self.set_content_type(format!("{CONSTRAIN_MARKER}{content_type}"));
        }
        words
    }

    /// Takes the role from the first of `words`, of which `lead_words` stand before any marker; returns the words left.
    fn read_role<'a>(&mut self, words: &[&'a str], lead_words: usize) -> Vec<&'a str> {
        let mut rest = words.to_vec();
        if self.role.is_none() {
            if lead_words == 0 {
                self.remark(WarningKind::UnknownRole, "");
            } else {
                let has_recipient = rest[1..].iter().any(|word| word.starts_with("to="));
                self.read_role_word(&mut rest, has_recipient);
            }
        }
        let role = self.role.unwrap_or(Role::Assistant).as_str();
        while let Some(glued) = rest.first().and_then(|word| word.strip_prefix(role)) {
            if !(glued.is_empty() || is_header_word(glued) || glued.starts_with(role)) {
                break;
            }
            self.remark(WarningKind::RepeatedHeader, role);
            rest.remove(0);
            if !glued.is_empty() {
                rest.insert(0, glued);
            }
        }
        rest
    }

    fn read_role_word(&mut self, rest: &mut Vec<&str>, has_recipient: bool) {
        let word = rest[0];
        let (role_word, name) = match word.split_once(':') {
            Some((role_word, name)) => (role_word, Some(name).filter(|name| !name.is_empty())),
            None => (word, None),
        };
        if let Some(role) = Role::from_word(role_word) {
            self.role = Some(role);
            self.name = name.map(str::to_owned);
            rest.remove(0);
        } else if let Some(glued) = word.strip_prefix(Role::Assistant.as_str())
            && (is_header_word(glued) || glued.starts_with(Role::Assistant.as_str()))
        {
            self.role = Some(Role::Assistant);
            rest[0] = glued;
        } else if is_header_word(word) {
            self.remark(WarningKind::UnknownRole, "");
        } else if has_recipient || word.contains('.') && is_name(word) {
            self.role = Some(Role::Tool);
            self.name = Some(word.to_owned());
            rest.remove(0);
        } else {
            self.remark(WarningKind::UnknownRole, word);
            rest.remove(0);
        }
    }

    /// Recipient, content type and what else there is.
    fn read_words(&mut self, words: &[&str]) {
        let mut others: Vec<&str> = Vec::new();
        let mut follows_recipient = false;
        let mut words = words.iter().copied().peekable();
        while let Some(word) = words.next() {
            if let Some(value) = word.strip_prefix("to=") {
                let value = if value.is_empty() { words.next().unwrap_or_default() } else { value };
                self.set_recipient(value);
                follows_recipient = true;
            } else if CHANNELS.contains(&word) {
                self.remark(WarningKind::MissingMarker, word);
                self.set_channel(word);
                follows_recipient = false;
            } else if follows_recipient && self.extends_recipient(word, words.peek().is_none()) {
                let recipient = format!("{} {word}", self.recipient.take().unwrap_or_default());
                self.remark(WarningKind::SpaceInRecipient, recipient.as_str());
                self.recipient = Some(recipient);
            } else {
                others.push(word);
            }
        }
        self.read_others(&others);
    }

    /// Whether `word`, after a recipient, belongs to a tool name with spaces rather than being the content type.
    fn extends_recipient(&self, word: &str, is_last: bool) -> bool {
        let may_be_content_type = is_last && self.content_type.is_none() && is_content_type(word);
        is_name(word) && !may_be_content_type
    }

    fn read_others(&mut self, others: &[&str]) {
        let mut meaningless = Vec::new();
        for (index, &word) in others.iter().enumerate() {
            let is_last = index + 1 == others.len();
            let is_tool = is_name(word) && (word.contains('.') || NAMESPACE_TOOLS.contains(&word));
            if self.recipient.is_none() && is_tool {
                self.remark(WarningKind::MissingMarker, word);
                self.recipient = Some(word.to_owned());
            } else if is_last && self.content_type.is_none() && is_content_type(word) {
                self.content_type = Some(word.to_owned());
            } else {
                meaningless.push(word);
            }
        }
        if !meaningless.is_empty() {
            self.remark(WarningKind::HeaderText, meaningless.join(" "));
        }
    }

    /// Reads header elements from the front of a segment; returns what follows them.
    fn read_prefix<'a>(&mut self, segment: &'a Segment) -> &'a str {
        let mut rest = segment.text.as_str();
        match segment.marker {
            Marker::Lead => {}
            Marker::Channel => {
                let trimmed = rest.trim_start();
                let Some(channel) = CHANNELS.into_iter().find(|channel| trimmed.starts_with(channel)) else {
                    return rest;
                };
                self.set_channel(channel);
                rest = &trimmed[channel.len()..];
            }
            Marker::Constrain => {
                let trimmed = rest.trim_start();
                let end = trimmed.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(trimmed.len());
                if end > 0 {
                    self.set_content_type(format!("{CONSTRAIN_MARKER}{}", &trimmed[..end]));
                    rest = &trimmed[end..];
                }
            }
        }
        loop {
            let trimmed = rest.trim_start();
            let end = trimmed.find(char::is_whitespace).unwrap_or(trimmed.len());
            let word = &trimmed[..end];
            let is_role_word = segment.marker == Marker::Lead && self.takes_role(word);
            if let Some(recipient) = word.strip_prefix("to=").filter(|recipient| is_name(recipient)) {
                self.set_recipient(recipient);
            } else if !is_role_word {
                return rest;
            }
            rest = &trimmed[end..];
        }
    }

    /// Whether a word in front of a header without `<|message|>` is its role, or repeats it.
    fn takes_role(&mut self, word: &str) -> bool {
        let Some(role) = Role::from_word(word) else { return false };
        role == *self.role.get_or_insert(role)
    }

    fn finish(mut self, interrupted: Option<Header>) -> Understood {
        let role = self.role.unwrap_or(Role::Assistant);
        if role == Role::Assistant && self.channel.is_none() {
            self.remark(WarningKind::MissingChannel, "");
            if let Some(header) =
                interrupted.filter(|_| self.recipient.is_none() && self.content_type.is_none())
            {
                return Understood { header, remarks: self.remarks };
            }
        }
        let header = Header {
            author: Author { role, name: self.name },
            recipient: self.recipient.filter(|recipient| !recipient.is_empty()),
            channel: self.channel,
            content_type: self.content_type,
        };
        Understood { header, remarks: self.remarks }
    }
}

/// Splits text that spells `<|channel|>` or `<|constrain|>` in characters, as if it were the control token.
fn split_at_spelled_markers(segments: Vec<Segment>) -> Vec<Segment> {
    let mut split = Vec::with_capacity(segments.len());
    for Segment { mut marker, text } in segments {
        let mut rest = text.as_str();
        loop {
            let next = [(CHANNEL_MARKER, Marker::Channel), (CONSTRAIN_MARKER, Marker::Constrain)]
                .into_iter()
                .filter_map(|(spelled, next)| rest.find(spelled).map(|at| (at, spelled.len(), next)))
                .min_by_key(|&(at, ..)| at);
            let Some((at, len, next_marker)) = next else { break };
            split.push(Segment { marker, text: rest[..at].to_owned() });
            rest = &rest[at + len..];
            marker = next_marker;
        }
        split.push(Segment { marker, text: rest.to_owned() });
    }
    split
}

/// A known channel at the start of `value` and what is glued to it, when that can't be part of a name.
fn split_channel(value: &str) -> Option<(&'static str, &str)> {
    CHANNELS.into_iter().find_map(|channel| {
        let glued = value.strip_prefix(channel)?;
        let is_separate = !glued.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '-'));
        (is_separate || is_header_word(glued) || glued == Role::Assistant.as_str())
            .then_some((channel, glued))
    })
}

/// A channel or a recipient.
fn is_header_word(word: &str) -> bool {
    CHANNELS.contains(&word) || word.starts_with("to=")
}

fn is_name(word: &str) -> bool {
    !word.is_empty() && word.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '/'))
}

/// A known content type, or a word that looks like one (`json`, `application/json`).
fn is_content_type(word: &str) -> bool {
    CONTENT_TYPES.contains(&word)
        || (word.starts_with(|c: char| c.is_ascii_lowercase())
            && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "/+._-".contains(c)))
}
