//! `debug render` and `debug parse`.

use serde::{Deserialize, Serialize};
use sostenuto_harmony::{Conversation, Harmony, Message, RenderOptions, Warning};

use super::lines::answer_stdin;
use super::tokenize::{IdsLine, TokenizerArgs};
use crate::error::CliError;

/// A line with a conversation in openai-harmony's JSON form.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RenderLine {
    conversation: Conversation,
    #[serde(default)]
    keep_analysis: bool,
}

/// A prompt.
#[derive(Serialize)]
struct Rendered {
    ids: Vec<u32>,
    /// The same as text; control tokens by their names.
    text: String,
}

/// What a completion says.
#[derive(Serialize)]
struct Parsed {
    messages: Vec<Message>,
    warnings: Vec<Warning>,
}

/// Conversations to prompts, each ready for completion by the assistant.
pub(crate) fn render(args: &TokenizerArgs) -> Result<(), CliError> {
    let harmony = Harmony::new(args.open()?)?;
    answer_stdin(|line: RenderLine| {
        let options = RenderOptions { keep_analysis: line.keep_analysis };
        let ids = harmony.render(&line.conversation, &options)?;
        let text = harmony.tokenizer().decode_lossy(&ids);
        Ok(Rendered { ids, text })
    })
}

/// Completions to messages. Any ids are accepted; what is odd about them is among the warnings.
pub(crate) fn parse(args: &TokenizerArgs) -> Result<(), CliError> {
    let harmony = Harmony::new(args.open()?)?;
    answer_stdin(|line: IdsLine| {
        let mut parser = harmony.parser();
        for id in line.ids {
            parser.push(id);
        }
        let parsed = parser.finish();
        Ok(Parsed { messages: parsed.messages, warnings: parsed.warnings })
    })
}
