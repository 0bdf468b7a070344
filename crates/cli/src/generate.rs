//! `sostenuto generate`: one prompt, one answer, no server.

use std::io::{self, IsTerminal, Read, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use clap::Args;
use sostenuto_engine::{
    Engine, EngineOptions, Event, FinishReason, GenerateRequest, SamplingParams, ShutdownMode,
};
use sostenuto_harmony::{
    Conversation, DeveloperContent, Harmony, Message, ReasoningEffort, RenderOptions, StreamParser,
    SystemContent,
};
use sostenuto_harmony::{Event as HarmonyEvent, Header};
use sostenuto_tokenizer::{Tokenizer, Utf8Stream};

use crate::chat::{AnswerPrinter, Effort};
use crate::date::Date;
use crate::error::CliError;
use crate::load::Source;
use crate::model_args::ModelArgs;
use crate::output::{Style, printable};

/// Bytes of a prompt from standard input that are read at most.
const MAX_PROMPT_BYTES: u64 = 16 << 20;

/// Arguments of `generate`.
#[derive(Debug, Args)]
pub(crate) struct GenerateArgs {
    /// The prompt; without it, standard input.
    #[arg(value_name = "PROMPT")]
    prompt: Option<String>,
    /// Continue the text as it is, without the chat format.
    #[arg(long, conflicts_with_all = ["system", "effort", "show_reasoning", "date"])]
    raw: bool,
    /// Tokens to write at most, thinking included.
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    max_tokens: u32,
    /// Sampling temperature, 0 to 2; 0 takes the likeliest token.
    #[arg(long, default_value_t = 1.0)]
    temperature: f32,
    /// Keep the fewest likeliest tokens whose probabilities sum to this.
    #[arg(long, default_value_t = 1.0)]
    top_p: f32,
    /// Seed of the sampling: the same seed gives the same answer.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// How long the model may think.
    #[arg(long, value_enum, default_value = "medium")]
    effort: Effort,
    /// Instructions for the model.
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Print the thinking to standard error.
    #[arg(long)]
    show_reasoning: bool,
    /// Current date as the model is told; without it, today's (UTC).
    #[arg(long, value_name = "YYYY-MM-DD")]
    date: Option<Date>,
    #[command(flatten)]
    model: ModelArgs,
}

/// Prints the answer to standard output.
pub(crate) fn run(args: &GenerateArgs) -> Result<(), CliError> {
    let prompt = match &args.prompt {
        Some(prompt) => prompt.clone(),
        None => read_prompt()?,
    };
    let source = Source::find(&args.model)?;
    let tokenizer = source.tokenizer()?;
    let mut reader: Box<dyn AnswerReader>;
    let (ids, stop_token_ids);
    if args.raw {
        ids = tokenizer.encode(&prompt);
        stop_token_ids = source.config().eos_token_id.clone();
        reader = Box::new(RawReader::new(tokenizer));
    } else {
        let harmony = Harmony::new(tokenizer)?;
        ids = harmony.render(&args.conversation(prompt), &RenderOptions::default())?;
        stop_token_ids = harmony.stop_ids().to_vec();
        reader = Box::new(HarmonyReader::new(&harmony, args.show_reasoning));
    }
    let request = GenerateRequest {
        stop_token_ids,
        sampling: SamplingParams {
            temperature: args.temperature,
            top_p: args.top_p,
            seed: args.seed,
            ..SamplingParams::default()
        },
        ..GenerateRequest::greedy(ids, args.max_tokens as usize)
    };
    let reason = generate(args, &source, request, reader.as_mut())?;
    if reason == FinishReason::Length {
        eprintln!("sostenuto: cut off at the limit of tokens (--max-tokens {}, --ctx)", args.max_tokens);
    }
    Ok(())
}

impl GenerateArgs {
    fn conversation(&self, prompt: String) -> Conversation {
        let effort = match self.effort {
            Effort::Low => ReasoningEffort::Low,
            Effort::Medium => ReasoningEffort::Medium,
            Effort::High => ReasoningEffort::High,
        };
        let date = self.date.clone().unwrap_or_else(Date::today);
        let mut messages = vec![Message::system(SystemContent::for_date(date.as_str(), effort))];
        if let Some(system) = &self.system {
            messages.push(Message::developer(DeveloperContent::new(Some(system.clone()), Vec::new())));
        }
        messages.push(Message::user(prompt));
        Conversation::new(messages)
    }
}

fn read_prompt() -> Result<String, CliError> {
    if io::stdin().is_terminal() {
        eprintln!("Type the prompt, then Ctrl-D.");
    }
    let mut bytes = Vec::new();
    io::stdin().lock().take(MAX_PROMPT_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_PROMPT_BYTES {
        return Err(CliError::new(format!("the prompt is longer than {MAX_PROMPT_BYTES} bytes")));
    }
    String::from_utf8(bytes).map_err(|error| {
        CliError::new(format!("the prompt is not UTF-8: byte {}", error.utf8_error().valid_up_to()))
    })
}

fn generate(
    args: &GenerateArgs,
    source: &Source,
    request: GenerateRequest,
    reader: &mut dyn AnswerReader,
) -> Result<FinishReason, CliError> {
    let mut model_args = args.model.clone();
    model_args.sequences = 1;
    let limits = model_args.serving_limits(source.config())?;
    let model = source.load(&model_args, &limits)?.model;
    let engine = Engine::start(model, EngineOptions::default())?;
    let (sender, receiver) = sync_channel(request.max_tokens + 2);
    engine.submit(request, sender)?;
    let reason = read_events(&receiver, reader);
    engine.shutdown(ShutdownMode::Now);
    reason
}

fn read_events(receiver: &Receiver<Event>, reader: &mut dyn AnswerReader) -> Result<FinishReason, CliError> {
    loop {
        match receiver.recv()? {
            Event::Started { .. } => {}
            Event::Token(token) => reader.push(token.id)?,
            Event::Finished { reason, .. } => {
                reader.finish()?;
                return Ok(reason);
            }
            Event::Failed(error) => return Err(error.into()),
        }
    }
}

/// Prints what tokens say.
trait AnswerReader {
    fn push(&mut self, id: u32) -> Result<(), CliError>;
    fn finish(&mut self) -> Result<(), CliError>;
}

/// Ordinary tokens as they come.
struct RawReader {
    tokenizer: Arc<Tokenizer>,
    utf8: Utf8Stream,
    printer: AnswerPrinter<io::Stdout>,
}

impl RawReader {
    fn new(tokenizer: Arc<Tokenizer>) -> Self {
        Self { tokenizer, utf8: Utf8Stream::new(), printer: answer_printer() }
    }
}

impl AnswerReader for RawReader {
    fn push(&mut self, id: u32) -> Result<(), CliError> {
        let bytes = self.tokenizer.token_bytes(id).unwrap_or_default();
        Ok(self.printer.answer(&self.utf8.push(bytes))?)
    }

    fn finish(&mut self) -> Result<(), CliError> {
        self.printer.answer(&self.utf8.finish())?;
        Ok(self.printer.finish()?)
    }
}

/// The answer to standard output, the thinking to standard error.
struct HarmonyReader {
    parser: Option<StreamParser>,
    printer: AnswerPrinter<io::Stdout>,
    show_reasoning: bool,
    is_reasoning: bool,
    style: Style,
}

impl HarmonyReader {
    fn new(harmony: &Harmony, show_reasoning: bool) -> Self {
        Self {
            parser: Some(harmony.parser()),
            printer: answer_printer(),
            show_reasoning,
            is_reasoning: false,
            style: Style::of_stderr(),
        }
    }

    fn take(&mut self, event: HarmonyEvent) -> Result<(), CliError> {
        match event {
            HarmonyEvent::MessageStarted { header } => self.is_reasoning = !is_answer(&header),
            HarmonyEvent::TextDelta { text } if self.is_reasoning => self.reasoning(&text)?,
            HarmonyEvent::TextDelta { text } => self.printer.answer(&text)?,
            HarmonyEvent::MessageEnded { .. } if self.is_reasoning => self.reasoning("\n")?,
            HarmonyEvent::MessageEnded { .. } => {}
        }
        Ok(())
    }

    fn reasoning(&self, text: &str) -> Result<(), CliError> {
        if self.show_reasoning {
            write!(io::stderr(), "{}{}{}", self.style.dim(), printable(text), self.style.reset())?;
        }
        Ok(())
    }
}

impl AnswerReader for HarmonyReader {
    fn push(&mut self, id: u32) -> Result<(), CliError> {
        let events = self.parser.as_mut().map(|parser| parser.push(id)).unwrap_or_default();
        events.into_iter().try_for_each(|event| self.take(event))
    }

    fn finish(&mut self) -> Result<(), CliError> {
        let parsed = self.parser.take().map(StreamParser::finish);
        parsed
            .map(|parsed| parsed.events)
            .unwrap_or_default()
            .into_iter()
            .try_for_each(|event| self.take(event))?;
        Ok(self.printer.finish()?)
    }
}

/// What the model says to the user. A message without a channel is one too: the model meant to say something.
fn is_answer(header: &Header) -> bool {
    header.recipient.is_none() && matches!(header.channel.as_deref(), Some("final") | None)
}

fn answer_printer() -> AnswerPrinter<io::Stdout> {
    if io::stdout().is_terminal() {
        AnswerPrinter::for_terminal(io::stdout(), Style::of_stdout(), false)
    } else {
        AnswerPrinter::for_program(io::stdout())
    }
}
