//! What a line typed into the chat means.

use clap::ValueEnum;

/// How long the model may think, in the model family's own three levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Effort {
    /// Short thinking.
    Low,
    /// The model's default.
    Medium,
    /// Long thinking.
    High,
}

impl Effort {
    /// The name in requests and prompts.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Effort::Low => "low",
            Effort::Medium => "medium",
            Effort::High => "high",
        }
    }
}

/// A line of input.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    /// Nothing but blanks.
    Empty,
    /// A message for the model.
    Message(&'a str),
    /// `/help`.
    Help,
    /// `/new`: forget the conversation.
    New,
    /// `/quit`.
    Quit,
    /// `/effort` alone: show it.
    ShowEffort,
    /// `/effort high`.
    SetEffort(Effort),
    /// `/system` alone: show it.
    ShowSystem,
    /// `/system TEXT`; `/system none` gives `None`.
    SetSystem(Option<&'a str>),
    /// A command with a wrong argument, or none of ours; the text says what would be right.
    Wrong(String),
}

/// What `/help` prints.
pub(crate) const HELP: &str = "\
/effort low|medium|high   how long the model may think
/system TEXT              instructions for the model (none: remove them); starts anew
/new                      start a new conversation
/quit                     end (or Ctrl-D)
Ctrl-C                    stop the answer
A line that ends with \\ goes on in the next. A message that starts with / is written //.";

/// Reads one line.
pub(crate) fn parse(line: &str) -> Line<'_> {
    let line = line.trim();
    if line.is_empty() {
        return Line::Empty;
    }
    if line.starts_with("//") {
        return Line::Message(&line[1..]);
    }
    let Some(command) = line.strip_prefix('/') else { return Line::Message(line) };
    let (name, argument) = match command.split_once(char::is_whitespace) {
        Some((name, argument)) => (name, argument.trim()),
        None => (command, ""),
    };
    match (name, argument) {
        ("help" | "?", "") => Line::Help,
        ("new" | "clear", "") => Line::New,
        ("quit" | "exit" | "bye", "") => Line::Quit,
        ("effort", "") => Line::ShowEffort,
        ("effort", level) => match Effort::from_str(level, true) {
            Ok(effort) => Line::SetEffort(effort),
            Err(_) => Line::Wrong(format!("there is no effort {level:?}: low, medium or high")),
        },
        ("system", "") => Line::ShowSystem,
        ("system", "none") => Line::SetSystem(None),
        ("system", text) => Line::SetSystem(Some(text)),
        ("help" | "?" | "new" | "clear" | "quit" | "exit" | "bye", _) => {
            Line::Wrong(format!("/{name} stands alone; a message that starts with / is written //"))
        }
        _ => Line::Wrong(format!("there is no command /{name}; /help lists them")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_mean_what_help_says() {
        assert_eq!(parse("  \t"), Line::Empty);
        assert_eq!(parse(" What is a KV cache? "), Line::Message("What is a KV cache?"));
        assert_eq!(parse("//etc/passwd, what is it?"), Line::Message("/etc/passwd, what is it?"));
        assert_eq!(parse("/effort high"), Line::SetEffort(Effort::High));
        assert_eq!(parse("/effort LOW"), Line::SetEffort(Effort::Low));
        assert_eq!(parse("/effort"), Line::ShowEffort);
        assert_eq!(parse("/system Answer in Russian."), Line::SetSystem(Some("Answer in Russian.")));
        assert_eq!(parse("/system none"), Line::SetSystem(None));
        assert_eq!(parse("/new"), Line::New);
        assert_eq!(parse("/quit"), Line::Quit);
    }

    #[test]
    fn wrong_commands_are_not_sent_to_the_model() {
        for line in ["/effort extreme", "/efort low", "/quit now", "/usr/bin/env"] {
            assert!(matches!(parse(line), Line::Wrong(_)), "{line}");
        }
    }
}
