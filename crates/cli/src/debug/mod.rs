//! `sostenuto debug`: parts of the machine by themselves, JSON lines in and out, for bug reports and comparisons.

mod harmony;
mod kv;
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
    /// {"ids":[…]} → {"mean_kl":…,…}: how far the type of keys and values (--kv-dtype) moves the probabilities.
    Kv(kv::KvArgs),
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
        DebugCommand::Kv(args) => kv::run(args),
        DebugCommand::Tokenize(args) => tokenize::tokenize(args),
        DebugCommand::Detokenize(args) => tokenize::detokenize(args),
        DebugCommand::Render(args) => harmony::render(args),
        DebugCommand::Parse(args) => harmony::parse(args),
    }
}
