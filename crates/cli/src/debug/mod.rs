//! `sostenuto debug`: parts of the machine by themselves, JSON lines in and out, for bug reports and comparisons.

mod harmony;
mod lines;
mod logits;
mod tokenize;

use clap::{Args, Subcommand};

use crate::error::CliError;

/// Arguments of `debug`.
#[derive(Debug, Args)]
pub(crate) struct DebugArgs {
    #[command(subcommand)]
    command: DebugCommand,
}

#[derive(Debug, Subcommand)]
enum DebugCommand {
    /// {"ids":[…]} → {"logits":[[…],…]} after each of the last K ids.
    Logits(logits::LogitsArgs),
    /// {"text":"…"} → {"ids":[…]}; text never becomes a control token.
    Tokenize(tokenize::TokenizerArgs),
    /// {"ids":[…]} → {"text":"…"}; control tokens by their names.
    Detokenize(tokenize::TokenizerArgs),
    /// {"conversation":{…},"keep_analysis":false} → {"ids":[…],"text":"…"}, ready for completion.
    Render(tokenize::TokenizerArgs),
    /// {"ids":[…]} of a completion → {"messages":[…],"warnings":[…]}.
    Parse(tokenize::TokenizerArgs),
}

/// Runs one of the commands over standard input.
pub(crate) fn run(args: &DebugArgs) -> Result<(), CliError> {
    match &args.command {
        DebugCommand::Logits(args) => logits::run(args),
        DebugCommand::Tokenize(args) => tokenize::tokenize(args),
        DebugCommand::Detokenize(args) => tokenize::detokenize(args),
        DebugCommand::Render(args) => harmony::render(args),
        DebugCommand::Parse(args) => harmony::parse(args),
    }
}
