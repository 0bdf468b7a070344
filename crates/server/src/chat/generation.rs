//! The sequences of one request: submitted together, read as one stream of updates, cancelled when dropped.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Instant,
};

use sostenuto_api::{
    chat::{FinishReason, Usage},
    limits::STREAM_BACKLOG_TOKENS,
};
use sostenuto_engine::{
    EngineClient, Event, FinishReason as EngineFinish, GenerateRequest, RequestId, SinkClosed, SubmitError,
};
use tokio::sync::mpsc::{self, error::TrySendError};

use super::turn::{Delta, Turn};
use crate::{
    error::ApiError,
    metrics::{AnswerEnd, AnswerMetrics, Timeline},
};

/// Events of a sequence beside its tokens: started and finished.
const EVENTS_BESIDE_TOKENS: usize = 2;

/// What happens to an answer.
#[derive(Debug)]
pub(crate) enum Update {
    /// Something is added to the answer with this index.
    Delta(usize, Delta),
    /// The answer with this index is complete.
    Finished(usize, FinishReason),
    /// Nothing further comes, for any answer.
    Failed(ApiError),
}

/// A request in progress. Dropping it cancels what still runs.
pub(crate) struct Generation {
    receiver: mpsc::Receiver<Arrival>,
    /// An event found no room, so its sequence was given up.
    overflowed: Arc<AtomicBool>,
    answers: Vec<Option<Answer>>,
    updates: VecDeque<Update>,
    usage: Usage,
    warnings: usize,
    failed: bool,
}

/// An event of the answer with this index, and when it came.
struct Arrival {
    index: usize,
    event: Event,
    at: Instant,
}

/// An answer that is not complete. Dropping it cancels its sequence.
struct Answer {
    turn: Turn,
    timeline: Timeline,
    engine: Arc<dyn EngineClient>,
    request: RequestId,
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.engine.cancel(self.request);
    }
}

impl Generation {
    /// Submits one sequence per turn, with seeds that count up from the request's, which arrived at `arrived`.
    ///
    /// # Errors
    /// [`SubmitError`] of the first sequence that is refused; those before it are cancelled.
    pub(crate) fn start(
        engine: &Arc<dyn EngineClient>,
        request: GenerateRequest,
        turns: Vec<Turn>,
        metrics: &Arc<AnswerMetrics>,
        arrived: Instant,
    ) -> Result<Generation, SubmitError> {
        let prompt_tokens = request.prompt.len();
        let rules = engine.rules().ok_or(SubmitError::Starting)?;
        let room = rules.sequence_capacity.saturating_sub(prompt_tokens).min(request.max_tokens);
        let backlog = room.min(STREAM_BACKLOG_TOKENS.max as usize) + EVENTS_BESIDE_TOKENS;
        // The engine does not wait: where an event finds no room, its sequence is given up.
        let (sender, receiver) = mpsc::channel(turns.len() * backlog);
        let overflowed = Arc::new(AtomicBool::new(false));
        let mut generation = Generation {
            receiver,
            overflowed: Arc::clone(&overflowed),
            answers: Vec::with_capacity(turns.len()),
            updates: VecDeque::new(),
            usage: Usage { prompt_tokens, ..Usage::default() },
            warnings: 0,
            failed: false,
        };
        for (index, turn) in turns.into_iter().enumerate() {
            let mut request = request.clone();
            request.sampling.seed = request.sampling.seed.wrapping_add(index as u64);
            let (sender, overflowed) = (sender.clone(), Arc::clone(&overflowed));
            let sink = move |event| {
                sender.try_send(Arrival { index, event, at: Instant::now() }).map_err(|error| {
                    overflowed.fetch_or(matches!(error, TrySendError::Full(_)), Ordering::Relaxed);
                    SinkClosed
                })
            };
            let request = match engine.submit(request, Box::new(sink)) {
                Ok(request) => request,
                Err(error) => {
                    generation.forget_timelines();
                    return Err(error);
                }
            };
            let timeline = Timeline::new(Arc::clone(metrics), arrived, prompt_tokens);
            generation.answers.push(Some(Answer { turn, timeline, engine: Arc::clone(engine), request }));
        }
        Ok(generation)
    }

    /// The request is refused as a whole, so none of its sequences is counted.
    fn forget_timelines(&mut self) {
        self.answers.iter_mut().flatten().for_each(|answer| answer.timeline.discard());
    }

    /// The next update; `None` when all answers are complete or one failed.
    pub(crate) fn poll_update(&mut self, cx: &mut Context<'_>) -> Poll<Option<Update>> {
        loop {
            if let Some(update) = self.updates.pop_front() {
                return Poll::Ready(Some(update));
            }
            if self.failed || self.answers.iter().all(Option::is_none) {
                return Poll::Ready(None);
            }
            match self.receiver.poll_recv(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(arrival)) => self.take_arrival(arrival),
                Poll::Ready(None) if self.overflowed.load(Ordering::Relaxed) => {
                    self.fail(ApiError::SlowReader);
                }
                Poll::Ready(None) => self.fail(ApiError::Engine("it ended without an answer".to_owned())),
            }
        }
    }

    /// Whether every answer came to its end.
    pub(crate) fn is_complete(&self) -> bool {
        !self.failed && self.answers.iter().all(Option::is_none)
    }

    /// Token counts of the complete answers.
    pub(crate) fn usage(&self) -> Usage {
        self.usage
    }

    /// Oddities of the model's Harmony so far, of complete answers.
    pub(crate) fn warnings(&self) -> usize {
        self.warnings
    }

    fn take_arrival(&mut self, arrival: Arrival) {
        let Arrival { index, event, at } = arrival;
        let Some(answer) = &mut self.answers[index] else { return };
        match event {
            Event::Started { cached_tokens, .. } => {
                answer.timeline.start(at);
                // Of several answers to one prompt, those that start later find what the first one computed.
                let cached = &mut self.usage.prompt_tokens_details.cached_tokens;
                *cached = if index == 0 { cached_tokens } else { *cached };
            }
            Event::Token(token) => {
                answer.timeline.token(at);
                let mut deltas = Vec::new();
                let is_over = answer.turn.push(token, &mut deltas);
                self.updates.extend(deltas.into_iter().map(|delta| Update::Delta(index, delta)));
                if is_over {
                    self.finish(index, FinishReason::Stop, at);
                }
            }
            Event::Finished { reason: EngineFinish::StopToken(_), .. } => {
                self.finish(index, FinishReason::Stop, at)
            }
            Event::Finished { reason: EngineFinish::Length, .. } => {
                self.finish(index, FinishReason::Length, at)
            }
            Event::Finished { reason: EngineFinish::Deadline, .. } => self.fail(ApiError::DeadlineExceeded),
            Event::Finished { reason: EngineFinish::ShuttingDown, .. } => self.fail(ApiError::ShuttingDown),
            Event::Finished { reason: EngineFinish::Cancelled, .. } => {
                self.fail(ApiError::Engine("the sequence was cancelled".to_owned()));
            }
            Event::Failed(error) => self.fail(ApiError::Engine(error.to_string())),
        }
    }

    fn finish(&mut self, index: usize, reason: FinishReason, at: Instant) {
        let Some(mut answer) = self.answers[index].take() else { return };
        let mut deltas = Vec::new();
        let end = answer.turn.finish(reason, &mut deltas);
        answer.timeline.end(at, AnswerEnd::of(end.reason));
        self.updates.extend(deltas.into_iter().map(|delta| Update::Delta(index, delta)));
        self.updates.push_back(Update::Finished(index, end.reason));
        self.warnings += end.warnings;
        let usage = &mut self.usage;
        usage.completion_tokens += end.completion_tokens;
        usage.completion_tokens_details.reasoning_tokens += end.reasoning_tokens;
        usage.total_tokens = usage.prompt_tokens + usage.completion_tokens;
    }

    fn fail(&mut self, error: ApiError) {
        self.failed = true;
        let end = AnswerEnd::of_error(&error);
        for mut answer in self.answers.iter_mut().filter_map(Option::take) {
            answer.timeline.end(Instant::now(), end);
        }
        self.updates.push_back(Update::Failed(error));
    }
}
