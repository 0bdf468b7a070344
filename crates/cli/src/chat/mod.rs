//! `sostenuto chat`: a conversation in the terminal, over HTTP.

mod command;
mod conversation;
mod printer;
mod turn;

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::PathBuf;

use clap::Args;
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use tokio::runtime::Runtime;

pub(crate) use self::command::Effort;
use self::command::Line;
use self::conversation::{Conversation, Settings};
pub(crate) use self::printer::AnswerPrinter;
use self::turn::{Ending, Turn};
use crate::client::{API_KEY_VARIABLE, Client, ClientError, DEFAULT_URL, read_api_key};
use crate::error::CliError;
use crate::local_server::LocalServer;
use crate::model_args::ModelArgs;
use crate::output::{Style, printable};

/// Arguments of `chat`.
#[derive(Debug, Args)]
pub(crate) struct ChatArgs {
    /// The server to talk to. Without it: the one on 127.0.0.1:8080, else one started for this chat.
    #[arg(long, value_name = "URL", conflicts_with = "model")]
    url: Option<String>,
    /// File with the server's API key (or set SOSTENUTO_API_KEY).
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// How long the model may think.
    #[arg(long, value_enum)]
    effort: Option<Effort>,
    /// Instructions for the model.
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Sampling temperature, 0 to 2; 0 takes the likeliest token.
    #[arg(long)]
    temperature: Option<f32>,
    /// Seed of the sampling: the same seed gives the same answer.
    #[arg(long)]
    seed: Option<u64>,
    /// Tokens of an answer, thinking included, at most.
    #[arg(long, value_name = "N")]
    max_tokens: Option<u32>,
    #[command(flatten)]
    model: ModelArgs,
}

/// Runs the chat until its input ends.
pub(crate) fn run(args: &ChatArgs) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (client, local_server) = connect(args, &runtime)?;
    let model = runtime.block_on(client.model_name())?;
    let settings = Settings {
        model,
        system: args.system.clone(),
        effort: args.effort,
        temperature: args.temperature,
        seed: args.seed,
        max_tokens: args.max_tokens,
    };
    let mut chat =
        Chat { runtime, client, settings, conversation: Conversation::default(), style: Style::of_stdout() };
    let result = if io::stdin().is_terminal() { chat.interactive() } else { chat.piped() };
    if let Some(server) = local_server {
        server.stop();
    }
    result
}

/// The server that was asked for, else the one on the default port, else one of our own.
fn connect(args: &ChatArgs, runtime: &Runtime) -> Result<(Client, Option<LocalServer>), CliError> {
    let api_key = read_api_key(args.api_key_file.as_deref())?;
    if let Some(url) = &args.url {
        return Ok((Client::new(url, api_key)?, None));
    }
    if args.model.model.is_none() {
        let client = Client::new(DEFAULT_URL, api_key)?;
        match runtime.block_on(client.model_name()) {
            Ok(_) => return Ok((client, None)),
            Err(ClientError::Connect { .. }) => {}
            Err(error @ ClientError::Refused { .. }) => {
                return Err(CliError::from(error).context(format!(
                    "{DEFAULT_URL} (a key goes into --api-key-file or {API_KEY_VARIABLE}; --model starts a server of its own)"
                )));
            }
            Err(error) => eprintln!("{DEFAULT_URL}: {error}"),
        }
        eprintln!("No server for a chat answers at {DEFAULT_URL}; starting one for this chat.");
    }
    let server = LocalServer::start(&args.model)?;
    Ok((Client::new(&server.url(), None)?, Some(server)))
}

struct Chat {
    runtime: Runtime,
    client: Client,
    settings: Settings,
    conversation: Conversation,
    style: Style,
}

impl Chat {
    /// Line by line from a pipe; the answers alone on standard output.
    fn piped(&mut self) -> Result<(), CliError> {
        let mut failed = false;
        for line in io::stdin().lock().lines() {
            let line = line?;
            match command::parse(&line) {
                Line::Message(message) => failed |= !self.piped_turn(message)?,
                Line::Quit => break,
                other => {
                    if let Some(text) = self.obey(&other) {
                        eprintln!("{text}");
                    }
                    failed |= matches!(other, Line::Wrong(_));
                }
            }
        }
        if failed { Err(CliError::AlreadyReported) } else { Ok(()) }
    }

    fn piped_turn(&mut self, message: &str) -> Result<bool, CliError> {
        let request = self.conversation.request(&self.settings, message);
        let printer = AnswerPrinter::for_program(io::stdout());
        let asked = turn::ask(&self.client, &request, printer, std::future::pending());
        match self.runtime.block_on(asked) {
            Ok(turn) => {
                self.conversation.keep(message, &turn.answer);
                let complaint = complaint(&turn);
                if let Some(text) = &complaint {
                    eprintln!("sostenuto: {text}");
                }
                Ok(!matches!(turn.ending, Ending::Broken(_)))
            }
            Err(CliError::Message(text)) => {
                eprintln!("sostenuto: {text}");
                Ok(false)
            }
            Err(other) => Err(other),
        }
    }

    /// At a terminal, with line editing.
    fn interactive(&mut self) -> Result<(), CliError> {
        let mut editor = DefaultEditor::new()?;
        self.greet()?;
        loop {
            let text = match read_message(&mut editor) {
                Ok(text) => text,
                Err(ReadlineError::Interrupted) => {
                    self.note("Ctrl-D or /quit ends the chat.")?;
                    continue;
                }
                Err(ReadlineError::Eof) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            match command::parse(&text) {
                Line::Empty => {}
                Line::Quit => return Ok(()),
                Line::Message(message) => {
                    editor.add_history_entry(text.trim())?;
                    self.interactive_turn(message)?;
                }
                other => {
                    editor.add_history_entry(text.trim())?;
                    if let Some(text) = self.obey(&other) {
                        self.note(&text)?;
                    }
                }
            }
        }
    }

    fn greet(&self) -> Result<(), CliError> {
        let (bold, reset) = (self.style.bold(), self.style.reset());
        writeln!(io::stdout(), "{bold}{}{reset} at {}", printable(&self.settings.model), self.client.url())?;
        self.note("/help lists the commands, Ctrl-C stops an answer, Ctrl-D ends.")
    }

    fn interactive_turn(&mut self, message: &str) -> Result<(), CliError> {
        let request = self.conversation.request(&self.settings, message);
        let printer = AnswerPrinter::for_terminal(io::stdout(), self.style, true);
        let stop = async {
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let asked = turn::ask(&self.client, &request, printer, stop);
        match self.runtime.block_on(asked) {
            Ok(turn) => {
                self.conversation.keep(message, &turn.answer);
                let line =
                    [complaint(&turn), speed(&turn)].into_iter().flatten().collect::<Vec<_>>().join(" · ");
                if line.is_empty() { Ok(()) } else { self.note(&line) }
            }
            Err(CliError::Message(text)) => self.note(&text),
            Err(other) => Err(other),
        }
    }

    /// Does what a command says and gives the text to show.
    fn obey(&mut self, line: &Line<'_>) -> Option<String> {
        let settings = &mut self.settings;
        Some(match line {
            Line::Help => command::HELP.to_owned(),
            Line::New => {
                self.conversation.clear();
                "A new conversation.".to_owned()
            }
            Line::ShowEffort => match settings.effort {
                Some(effort) => format!("The effort is {}.", effort.name()),
                None => "The effort is the server's default (medium).".to_owned(),
            },
            Line::SetEffort(effort) => {
                settings.effort = Some(*effort);
                format!("The effort is {}.", effort.name())
            }
            Line::ShowSystem => match &settings.system {
                Some(system) => format!("Instructions: {system}"),
                None => "There are no instructions.".to_owned(),
            },
            Line::SetSystem(text) => {
                settings.system = text.map(str::to_owned);
                self.conversation.clear();
                let what = if text.is_some() { "New instructions" } else { "No instructions" };
                format!("{what}; a new conversation.")
            }
            Line::Wrong(text) => text.clone(),
            Line::Empty | Line::Message(_) | Line::Quit => return None,
        })
    }

    fn note(&self, text: &str) -> Result<(), CliError> {
        writeln!(io::stdout(), "{}{}{}\n", self.style.dim(), printable(text), self.style.reset())?;
        Ok(())
    }
}

/// One message: a line, and the next where it ends with a backslash.
fn read_message(editor: &mut DefaultEditor) -> Result<String, ReadlineError> {
    let mut text = editor.readline("> ")?;
    while let Some(start) = text.strip_suffix('\\') {
        text = format!("{start}\n{}", editor.readline("… ")?);
    }
    Ok(text)
}

/// What there is to say about how a turn ended, if anything.
fn complaint(turn: &Turn) -> Option<String> {
    match &turn.ending {
        Ending::Finished(reason) if reason == "length" => Some("cut off at the limit of tokens".to_owned()),
        Ending::Finished(_) if turn.answer.is_empty() => Some("the model gave no answer".to_owned()),
        Ending::Finished(_) => None,
        Ending::Stopped => Some("stopped".to_owned()),
        Ending::Broken(reason) => Some(reason.clone()),
    }
}

fn speed(turn: &Turn) -> Option<String> {
    let tokens = turn.completion_tokens?;
    let mut text = format!("{tokens} tokens");
    if let Some(seconds) = turn.first_piece_seconds {
        text.push_str(&format!(", first after {seconds:.2} s"));
    }
    if tokens > 1 && turn.writing_seconds > 0.0 {
        text.push_str(&format!(", {:.1} tokens/s", (tokens - 1) as f64 / turn.writing_seconds));
    }
    Some(text)
}
