//! One question and its streamed answer.

use std::future::Future;
use std::io::Write;
use std::pin::pin;
use std::time::Instant;

use serde_json::Value;

use super::printer::AnswerPrinter;
use crate::client::{CHAT_PATH, Client, ClientError, EventStream, error_message};
use crate::error::CliError;

/// How a turn ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The server's `finish_reason`.
    Finished(String),
    /// The user stopped it.
    Stopped,
    /// The stream ended, or said that something went wrong.
    Broken(String),
}

/// What came of a turn.
#[derive(Debug)]
pub(crate) struct Turn {
    /// The answer's text, without the reasoning.
    pub(crate) answer: String,
    /// How it ended.
    pub(crate) ending: Ending,
    /// Tokens written, reasoning included, if the server said.
    pub(crate) completion_tokens: Option<u64>,
    /// Seconds from the first to the last piece.
    pub(crate) writing_seconds: f64,
    /// Seconds from the question to the first piece.
    pub(crate) first_piece_seconds: Option<f64>,
}

/// Asks and prints until the answer ends or `stop` is done.
///
/// # Errors
/// The server's refusal, or what the output says.
pub(crate) async fn ask<W: Write>(
    client: &Client,
    request: &Value,
    printer: AnswerPrinter<W>,
    stop: impl Future<Output = ()>,
) -> Result<Turn, CliError> {
    let mut stop = pin!(stop);
    let mut reader = TurnReader::new(printer);
    let mut stream = tokio::select! {
        stream = client.post_events(CHAT_PATH, request) => stream?,
        () = &mut stop => return reader.end(Ending::Stopped),
    };
    loop {
        let ending = tokio::select! {
            ending = reader.read_event(&mut stream) => ending?,
            () = &mut stop => Some(Ending::Stopped),
        };
        if let Some(ending) = ending {
            return reader.end(ending);
        }
    }
}

struct TurnReader<W> {
    printer: AnswerPrinter<W>,
    answer: String,
    finish_reason: Option<String>,
    completion_tokens: Option<u64>,
    start: Instant,
    pieces: Option<(Instant, Instant)>,
}

impl<W: Write> TurnReader<W> {
    fn new(printer: AnswerPrinter<W>) -> Self {
        Self {
            printer,
            answer: String::new(),
            finish_reason: None,
            completion_tokens: None,
            start: Instant::now(),
            pieces: None,
        }
    }

    /// Takes one event; says how the turn ended if this was its last.
    async fn read_event(&mut self, stream: &mut EventStream) -> Result<Option<Ending>, CliError> {
        let event = match stream.next().await {
            Ok(Some(event)) => event,
            Ok(None) => return Ok(Some(self.ending_at_end_of_stream())),
            Err(error) => return Ok(Some(Ending::Broken(error.to_string()))),
        };
        if event == "[DONE]" {
            return Ok(Some(self.ending_at_end_of_stream()));
        }
        let chunk: Value =
            serde_json::from_str(&event).map_err(|error| ClientError::Unexpected(error.to_string()))?;
        if !chunk["error"].is_null() {
            return Ok(Some(Ending::Broken(error_message(&chunk))));
        }
        self.take_chunk(&chunk)?;
        Ok(None)
    }

    fn take_chunk(&mut self, chunk: &Value) -> Result<(), CliError> {
        if let Some(tokens) = chunk["usage"]["completion_tokens"].as_u64() {
            self.completion_tokens = Some(tokens);
        }
        let choice = &chunk["choices"][0];
        if let Some(reason) = choice["finish_reason"].as_str() {
            self.finish_reason = Some(reason.to_owned());
        }
        let delta = &choice["delta"];
        let reasoning = delta["reasoning"].as_str().or(delta["reasoning_content"].as_str()).unwrap_or("");
        let answer = delta["content"].as_str().unwrap_or("");
        if !reasoning.is_empty() || !answer.is_empty() {
            let now = Instant::now();
            let first = self.pieces.map_or(now, |(first, _)| first);
            self.pieces = Some((first, now));
        }
        self.printer.reasoning(reasoning)?;
        self.printer.answer(answer)?;
        self.answer.push_str(answer);
        Ok(())
    }

    fn ending_at_end_of_stream(&mut self) -> Ending {
        match self.finish_reason.take() {
            Some(reason) => Ending::Finished(reason),
            None => Ending::Broken("the answer broke off: the server closed the connection".to_owned()),
        }
    }

    fn end(mut self, ending: Ending) -> Result<Turn, CliError> {
        self.printer.finish()?;
        Ok(Turn {
            answer: self.answer,
            ending,
            completion_tokens: self.completion_tokens,
            writing_seconds: self.pieces.map_or(0.0, |(first, last)| (last - first).as_secs_f64()),
            first_piece_seconds: self.pieces.map(|(first, _)| (first - self.start).as_secs_f64()),
        })
    }
}
