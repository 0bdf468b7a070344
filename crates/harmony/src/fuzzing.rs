//! Entry points of the fuzz targets in `fuzz/`; the tests replay the committed corpus through them.

use std::sync::LazyLock;

use sostenuto_tokenizer::{TokenId, Tokenizer};

use crate::message::{Conversation, Message};
use crate::parser::{EndedBy, Event, ParseStart, Parsed};
use crate::render::{Harmony, RenderOptions};

static HARMONY: LazyLock<Harmony> =
    LazyLock::new(|| Harmony::new(Tokenizer::o200k_harmony()).expect("o200k_harmony has the control tokens"));

/// Texts that a fuzz input names by one byte, so that headers come up often.
const PHRASES: [&str; 24] = [
    "assistant",
    "user",
    "tool",
    "functions.lookup1",
    "analysis",
    "commentary",
    "final",
    " to=functions.get2",
    " to=",
    " json",
    "json",
    " code",
    "??",
    " ",
    "\n",
    "Привет",
    "<|channel|>",
    "<|constrain|>",
    "<|end|>",
    "assistantassistant",
    "3",
    " 47 ",
    "{\"a\":1}",
    "python",
];

/// Parses a token sequence made from `data` and checks what must hold of every parse.
///
/// # Panics
/// When it does not hold.
#[doc(hidden)]
pub fn fuzz_parse(data: &[u8]) {
    let ids = ids_of(data);
    for start in [ParseStart::AssistantHeader, ParseStart::Message] {
        check_parse(&ids, start);
    }
}

/// Parses `data` as a conversation's JSON, renders it and parses the result.
///
/// # Panics
/// When a control token comes from a field's text, or the parse breaks its rules.
#[doc(hidden)]
pub fn fuzz_render(data: &[u8]) {
    let Ok(conversation) = serde_json::from_slice::<Conversation>(data) else { return };
    for keep_analysis in [false, true] {
        let Ok(ids) = HARMONY.render_messages(&conversation, &RenderOptions { keep_analysis }) else {
            return;
        };
        let control_count = ids.iter().filter(|&&id| HARMONY.tokenizer().is_special(id)).count();
        let most: usize = conversation.messages.iter().map(skeleton_tokens).sum();
        assert!(control_count <= most, "{control_count} control tokens, at most {most} in the skeleton");
        check_parse(&ids, ParseStart::Message);
    }
}

/// Control tokens of a message: start, message, end, and those of the channel and the content type.
fn skeleton_tokens(message: &Message) -> usize {
    let constrained = message.content_type.as_deref().is_some_and(|kind| kind.starts_with("<|constrain|>"));
    3 + usize::from(message.channel.is_some()) + usize::from(constrained)
}

fn ids_of(data: &[u8]) -> Vec<TokenId> {
    let control = HARMONY.control();
    let tokenizer = HARMONY.tokenizer();
    let special = [
        control.start,
        control.message,
        control.end,
        control.return_,
        control.call,
        control.channel,
        control.constrain,
        control.end_of_text,
        200_000,
        TokenId::MAX,
    ];
    let mut ids = Vec::new();
    let mut bytes = data.iter().copied();
    while let Some(byte) = bytes.next() {
        let byte = usize::from(byte);
        if let Some(&id) = special.get(byte) {
            ids.push(id);
        } else if let Some(phrase) = PHRASES.get(byte - special.len()) {
            tokenizer.encode_into(phrase, &mut ids);
        } else {
            let (low, high) = (bytes.next().unwrap_or(0), bytes.next().unwrap_or(0));
            ids.push(TokenId::from(u16::from_le_bytes([low, high])) * 3);
        }
    }
    ids
}

fn check_parse(ids: &[TokenId], start: ParseStart) {
    let mut parser = HARMONY.parser_from(start);
    let mut events: Vec<Event> = Vec::new();
    for &id in ids {
        events.extend(parser.push(id));
    }
    let parsed = parser.finish();
    events.extend(parsed.events.iter().cloned());
    check_events(&events, &parsed);
    check_digits(ids, &parsed);
}

/// The events tell the same messages as the result.
fn check_events(events: &[Event], parsed: &Parsed) {
    let mut told: Vec<(Message, Option<EndedBy>)> = Vec::new();
    for event in events {
        let open = told.last_mut().filter(|(_, ended)| ended.is_none());
        match (event, open) {
            (Event::MessageStarted { header }, None) => {
                let author = header.author.clone();
                let (recipient, channel) = (header.recipient.clone(), header.channel.clone());
                let content_type = header.content_type.clone();
                let message = Message::text(author.role, "");
                told.push((Message { author, recipient, channel, content_type, ..message }, None));
            }
            (Event::TextDelta { text }, Some((message, _))) => {
                assert!(!text.is_empty(), "a delta has text");
                let so_far = message.joined_text();
                message.content = Message::user(so_far + text).content;
            }
            (Event::MessageEnded { by }, Some((_, ended))) => *ended = Some(*by),
            (event, open) => panic!("{event:?} with open message {open:?}"),
        }
    }
    let ended_by: Vec<_> = told.iter().map(|(_, ended)| ended.expect("every message ends")).collect();
    let messages: Vec<_> = told.into_iter().map(|(message, _)| message).collect();
    assert_eq!(messages, parsed.messages);
    assert_eq!(ended_by, parsed.ended_by);
}

/// Digits are no part of any header word, so each must turn up in a message, its header or a warning.
fn check_digits(ids: &[TokenId], parsed: &Parsed) {
    let mut left = [0_i64; 10];
    let mut add = |bytes: &[u8], sign: i64| {
        for digit in bytes.iter().filter(|byte| byte.is_ascii_digit()) {
            left[usize::from(digit - b'0')] += sign;
        }
    };
    for &id in ids {
        add(HARMONY.tokenizer().token_bytes(id).unwrap_or_default(), 1);
    }
    for message in &parsed.messages {
        add(message.joined_text().as_bytes(), -1);
        let fields = [&message.author.name, &message.recipient, &message.channel, &message.content_type];
        fields.into_iter().flatten().for_each(|field| add(field.as_bytes(), -1));
    }
    for warning in &parsed.warnings {
        add(warning.text.as_bytes(), -1);
    }
    assert!(left.iter().all(|&count| count <= 0), "digits lost: {left:?} in {parsed:?}");
}
