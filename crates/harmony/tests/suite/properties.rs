//! Sentences that hold for every input.

use proptest::prelude::*;
use sostenuto_harmony::{
    Conversation, DeveloperContent, EndedBy, Event, Message, ReasoningEffort, RenderOptions, Role,
    SystemContent, ToolDescription, fuzz_parse,
};
use sostenuto_tokenizer::TokenId;

use crate::support::{HARMONY, SMALL, parse_ids};

/// Text in which names of control tokens come up often.
fn hostile_text() -> impl Strategy<Value = String> {
    let names = [
        "<|start|>",
        "<|end|>",
        "<|message|>",
        "<|channel|>",
        "<|constrain|>",
        "<|return|>",
        "<|call|>",
        "<|endoftext|>",
    ];
    let part = prop_oneof![
        prop::sample::select(names.to_vec()).prop_map(str::to_owned),
        "\\PC{0,6}",
        prop::sample::select(vec![" ", "\n", "assistant", "final", "Привет", "<|", "|>"])
            .prop_map(str::to_owned),
    ];
    prop::collection::vec(part, 0..8).prop_map(|parts| parts.concat())
}

fn conversation() -> impl Strategy<Value = Conversation> {
    prop::collection::vec(hostile_text(), 12).prop_map(|texts| {
        let [a, b, c, d, e, f, g, h, i, j, k, l]: [String; 12] = texts.try_into().expect("twelve");
        let schema = serde_json::json!({
            "type": "object", "description": a.clone(),
            "properties": {b.clone(): {"type": "string", "description": c.clone(), "default": d.clone(), "enum": [e.clone()]}},
        });
        let tool = ToolDescription { name: f.clone(), description: g.clone(), parameters: Some(schema) };
        let system = SystemContent { model_identity: Some(h), ..SystemContent::for_date(i, ReasoningEffort::High) };
        let mut user = Message::user(j);
        user.author.name = Some(a);
        let mut assistant = Message::assistant(b, k);
        assistant.recipient = Some(c);
        Conversation::new(vec![
            Message::system(system),
            Message::developer(DeveloperContent::new(Some(l), vec![tool])),
            user,
            assistant,
            Message::function_call(&d, e),
            Message::function_result(&f, g),
        ])
    })
}

/// The same messages with all texts emptied: nothing but structure.
fn skeleton(conversation: &Conversation) -> Conversation {
    let mut messages: Vec<Message> = conversation.messages.clone();
    for message in &mut messages {
        message.content.clear();
        message.author.name = message.author.name.as_ref().map(|_| String::new());
        message.recipient = message.recipient.as_ref().map(|_| String::new());
        message.channel = message.channel.as_ref().map(|_| String::new());
    }
    Conversation::new(messages)
}

fn control_ids(harmony: &sostenuto_harmony::Harmony, conversation: &Conversation) -> Vec<TokenId> {
    let ids = harmony.render(conversation, &RenderOptions { keep_analysis: true }).expect("renders");
    ids.into_iter().filter(|&id| harmony.tokenizer().is_special(id)).collect()
}

/// Control tokens, header words and arbitrary tokens.
fn any_ids() -> impl Strategy<Value = Vec<TokenId>> {
    let words = [
        "assistant",
        " to=functions.f",
        "analysis",
        "final",
        "commentary",
        " json",
        "??",
        " 42",
        "я",
        "tool",
    ];
    let word_ids: Vec<TokenId> = words.iter().flat_map(|word| HARMONY.tokenizer().encode(word)).collect();
    let id =
        prop_oneof![4 => 199_998..=200_012_u32, 4 => prop::sample::select(word_ids), 2 => 0..201_100_u32];
    prop::collection::vec(id, 0..60)
}

proptest! {
    #[test]
    fn text_of_any_field_adds_no_control_token(conversation in conversation()) {
        for harmony in [&*HARMONY, &*SMALL] {
            prop_assert_eq!(control_ids(harmony, &conversation), control_ids(harmony, &skeleton(&conversation)));
        }
    }

    #[test]
    fn any_ids_give_messages_and_no_panic(data in prop::collection::vec(prop_oneof![0..34_u8, any::<u8>()], 0..200)) {
        fuzz_parse(&data);
    }

    #[test]
    fn message_texts_hold_no_control_token(ids in any_ids()) {
        // No ordinary token of the input spells one, so a name in a text could only come from a control token.
        let ordinary: Vec<TokenId> = ids.iter().copied().filter(|&id| !HARMONY.tokenizer().is_special(id)).collect();
        prop_assume!(!HARMONY.tokenizer().decode_lossy(&ordinary).contains("<|"));
        for message in parse_ids(&HARMONY, &ids).messages {
            prop_assert!(!message.joined_text().contains("<|"));
            for field in [message.author.name, message.recipient, message.channel].into_iter().flatten() {
                prop_assert!(!field.contains("<|"), "{}", field);
            }
        }
    }

    #[test]
    fn events_up_to_any_point_do_not_depend_on_what_follows(ids in any_ids(), cut in 0_usize..60) {
        let cut = cut.min(ids.len());
        let (mut whole, mut first) = (HARMONY.parser(), HARMONY.parser());
        let from_whole: Vec<Vec<Event>> = ids.iter().map(|&id| whole.push(id)).collect();
        let from_first: Vec<Vec<Event>> = ids[..cut].iter().map(|&id| first.push(id)).collect();
        prop_assert_eq!(&from_whole[..cut], &from_first[..]);
        let mut resumed = first.clone();
        let rest: Vec<Vec<Event>> = ids[cut..].iter().map(|&id| resumed.push(id)).collect();
        prop_assert_eq!(&from_whole[cut..], &rest[..]);
        prop_assert_eq!(whole.finish(), resumed.finish());
    }

    #[test]
    fn body_text_does_not_depend_on_its_tokens(text in hostile_text(), cuts in prop::collection::vec(1_usize..5, 1..9)) {
        let tokenizer = HARMONY.tokenizer();
        let control = HARMONY.control();
        let mut ids = vec![control.channel];
        tokenizer.encode_into("final", &mut ids);
        ids.push(control.message);
        let (mut rest, mut cuts) = (text.chars(), cuts.iter().cycle());
        while !rest.as_str().is_empty() {
            let piece: String = rest.by_ref().take(*cuts.next().expect("cycles")).collect();
            tokenizer.encode_into(&piece, &mut ids);
        }
        ids.push(control.return_);
        let parsed = parse_ids(&HARMONY, &ids);
        prop_assert_eq!(parsed.messages, vec![Message::assistant("final", text)]);
        prop_assert!(parsed.warnings.is_empty());
    }

    #[test]
    fn rendered_assistant_messages_parse_to_themselves(
        texts in prop::collection::vec(hostile_text(), 1..5),
        channels in prop::collection::vec(prop::sample::select(vec!["analysis", "commentary", "final"]), 5),
        name in "[a-zA-Z0-9_-]{1,64}",
        calls in prop::collection::vec(any::<bool>(), 5),
    ) {
        let messages: Vec<Message> = texts.iter().zip(&channels).zip(&calls).map(|((text, channel), &is_call)| {
            if is_call { Message::function_call(&name, text.clone()) } else { Message::assistant(*channel, text.clone()) }
        }).collect();
        for harmony in [&*HARMONY, &*SMALL] {
            let conversation = Conversation::new(messages.clone());
            let ids = harmony.render_messages(&conversation, &RenderOptions { keep_analysis: true }).expect("renders");
            let role_len = 1 + harmony.tokenizer().encode(Role::Assistant.as_str()).len();
            let parsed = parse_ids(harmony, &ids[role_len..]);
            prop_assert_eq!(&parsed.messages, &messages);
            prop_assert!(parsed.warnings.is_empty(), "{:?}", parsed.warnings);
            let expected = calls.iter().map(|&is_call| if is_call { EndedBy::Call } else { EndedBy::End });
            prop_assert_eq!(parsed.ended_by, expected.take(messages.len()).collect::<Vec<_>>());
        }
    }
}
