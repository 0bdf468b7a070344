//! What the front knows of every live request, so that another engine process can go on with it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use crate::error::EngineError;
use crate::event::{Event, EventSink, FinishReason, TokenEvent, Usage};
use crate::queue::{QueueFull, QueueLoad};
use crate::remote::message::ToEngine;
use crate::request::GenerateRequest;

/// A request that the engine process had in this many failures in a row, without a token in between, fails.
pub const MAX_CRASHES: u32 = 3;
/// After one failure fewer it is sent alone, so that it takes no other with it and no other is blamed for it.
const SUSPECT_CRASHES: u32 = MAX_CRASHES - 1;

/// A request that was accepted and has not ended.
struct Entry {
    /// As it is to be sent: with every token delivered so far.
    request: GenerateRequest,
    /// None while an event is delivered, and once it closed.
    sink: Option<Box<dyn EventSink>>,
    submitted: Instant,
    /// Tokens of the prompt that were cached when it started first.
    cached_tokens: usize,
    /// The engine process that lives has it.
    sent: bool,
    /// The engine process that lives runs it.
    running: bool,
    /// Its end was asked for.
    cancelled: bool,
    /// Its `Started` was delivered.
    started: bool,
    /// Failures in a row of engine processes that had it, without a token in between.
    crashes: u32,
}

impl Entry {
    fn is_suspect(&self) -> bool {
        self.crashes >= SUSPECT_CRASHES
    }

    /// What is left to do, in the time that is left.
    fn remaining(&self, now: Instant) -> GenerateRequest {
        GenerateRequest { timeout: self.remaining_time(now), ..self.request.clone() }
    }

    fn remaining_time(&self, now: Instant) -> Option<Duration> {
        let waited = now.saturating_duration_since(self.submitted);
        Some(self.request.timeout?.saturating_sub(waited))
    }

    /// What it adds to those that wait.
    fn load(&self) -> QueueLoad {
        QueueLoad { requests: 1, prompt_tokens: self.request.prompt.len() }
    }

    fn usage(&self) -> Usage {
        Usage {
            prompt_tokens: self.request.prompt.len(),
            completion_tokens: self.request.generated.len(),
            cached_prompt_tokens: self.cached_tokens,
        }
    }
}

/// An event on its way to its sink.
pub(crate) struct Delivery {
    pub(crate) id: u64,
    pub(crate) sink: Box<dyn EventSink>,
    pub(crate) event: Event,
}

/// The engine said something that can't be: events are lost or double.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventViolation {
    /// A token out of turn.
    #[error("request {id} got token {got}; {expected} is next")]
    Index {
        /// The request.
        id: u64,
        /// Index of the token.
        got: usize,
        /// Tokens it has.
        expected: usize,
    },
    /// An event of a request that was never sent.
    #[error("request {id} got an event and was not sent")]
    NotSent {
        /// The request.
        id: u64,
    },
}

/// The live requests, by id, so in order of arrival. At most as many as the queue's limit and the engine's sequences
/// together.
pub(crate) struct Journal {
    entries: BTreeMap<u64, Entry>,
    /// Ids to be sent, in order; some may have ended.
    unsent: VecDeque<u64>,
    /// Ids to be cancelled in the engine process, which has them.
    cancels: BTreeSet<u64>,
    /// A request that is tried alone: nothing else is sent until it gets a token or ends.
    trial: Option<u64>,
    /// Requests that do not run.
    waiting: QueueLoad,
    limit: QueueLoad,
    next_id: u64,
}

impl Journal {
    /// An empty journal. Ids count up from `first_id`.
    pub(crate) fn new(limit: QueueLoad, first_id: u64) -> Self {
        Self {
            entries: BTreeMap::new(),
            unsent: VecDeque::new(),
            cancels: BTreeSet::new(),
            trial: None,
            waiting: QueueLoad::default(),
            limit,
            next_id: first_id,
        }
    }

    /// Takes in a request that keeps the rules.
    ///
    /// # Errors
    /// [`QueueFull`].
    pub(crate) fn submit(
        &mut self,
        request: GenerateRequest,
        sink: Box<dyn EventSink>,
        now: Instant,
    ) -> Result<u64, QueueFull> {
        self.waiting = self.waiting.with(request.prompt.len(), self.limit)?;
        let id = self.next_id;
        self.next_id += 1;
        let entry = Entry {
            request,
            sink: Some(sink),
            submitted: now,
            cached_tokens: 0,
            sent: false,
            running: false,
            cancelled: false,
            started: false,
            crashes: 0,
        };
        self.entries.insert(id, entry);
        self.unsent.push_back(id);
        Ok(id)
    }

    /// Whether a request with a prompt of so many tokens may wait.
    ///
    /// # Errors
    /// [`QueueFull`].
    pub(crate) fn check_room(&self, prompt_tokens: usize) -> Result<(), QueueFull> {
        self.waiting.with(prompt_tokens, self.limit).map(drop)
    }

    /// Requests that do not run.
    pub(crate) fn waiting(&self) -> QueueLoad {
        self.waiting
    }

    /// Whether [`Journal::next_message`] has one.
    pub(crate) fn has_message(&self) -> bool {
        !self.cancels.is_empty() || (self.trial.is_none() && !self.unsent.is_empty())
    }

    /// Whether no request is live.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Ends a request that the engine process does not have; asks the engine to end one that it has.
    pub(crate) fn cancel(&mut self, id: u64) -> Option<Delivery> {
        let entry = self.entries.get_mut(&id)?;
        if entry.sent {
            if !std::mem::replace(&mut entry.cancelled, true) {
                self.cancels.insert(id);
            }
            return None;
        }
        self.end(id, |usage| Event::Finished { reason: FinishReason::Cancelled, usage })
    }

    /// The next message for the engine process, if there is one.
    pub(crate) fn next_message(&mut self, now: Instant) -> Option<ToEngine> {
        if let Some(id) = self.cancels.pop_first() {
            return Some(ToEngine::Cancel { id });
        }
        if self.trial.is_some() {
            return None;
        }
        while let Some(id) = self.unsent.pop_front() {
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            entry.sent = true;
            if entry.is_suspect() {
                self.trial = Some(id);
            }
            return Some(ToEngine::Submit { id, request: entry.remaining(now) });
        }
        None
    }

    /// Takes in an event of the engine process. The sink must come back by [`Journal::delivered`] unless the event was
    /// the last. None if there is nothing to deliver.
    ///
    /// # Errors
    /// [`EventViolation`]: delivering it would lose or double something.
    pub(crate) fn take_event(&mut self, id: u64, event: Event) -> Result<Option<Delivery>, EventViolation> {
        if id >= self.next_id {
            return Err(EventViolation::NotSent { id });
        }
        // An event may cross the end of its request.
        let Some(entry) = self.entries.get_mut(&id) else { return Ok(None) };
        if !entry.sent {
            return Err(EventViolation::NotSent { id });
        }
        let event = match event {
            Event::Started { cached_tokens, .. } => {
                if !std::mem::replace(&mut entry.running, true) {
                    self.waiting = self.waiting.minus(entry.load());
                }
                if std::mem::replace(&mut entry.started, true) {
                    return Ok(None);
                }
                entry.cached_tokens = cached_tokens;
                event
            }
            Event::Token(TokenEvent { id: token, index, .. }) => {
                let expected = entry.request.generated.len();
                if index != expected {
                    return Err(EventViolation::Index { id, got: index, expected });
                }
                entry.request.generated.push(token);
                entry.crashes = 0;
                self.acquit(id);
                event
            }
            // Its counts are of this process alone.
            Event::Finished { reason, .. } => {
                return Ok(self.end(id, |usage| Event::Finished { reason, usage }));
            }
            Event::Failed(_) => return Ok(self.end(id, |_| event)),
        };
        let sink = self.entries.get_mut(&id).and_then(|entry| entry.sink.take());
        Ok(sink.map(|sink| Delivery { id, sink, event }))
    }

    /// Takes a sink back. None if it closed: its request is cancelled.
    pub(crate) fn delivered(&mut self, id: u64, sink: Option<Box<dyn EventSink>>) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let is_closed = sink.is_none();
        entry.sink = sink;
        if is_closed {
            let nothing_to_deliver = self.cancel(id);
            assert!(nothing_to_deliver.is_none(), "the sink of request {id} closed");
        }
    }

    /// The engine process is gone: everything is to be sent again, suspects first. If the failure may be a request's
    /// fault (`blame`), those that were sent and got no token are noted: whether they ran is not known, since news of the
    /// last step may be lost. Returned are the ends of those for which it
    /// was once too often, and of those cancelled meanwhile.
    pub(crate) fn crashed(&mut self, blame: bool, reason: &str) -> Vec<Delivery> {
        for entry in self.entries.values_mut() {
            entry.crashes += u32::from(blame && entry.sent);
            if entry.running {
                self.waiting = self.waiting.plus(entry.load());
            }
            (entry.sent, entry.running) = (false, false);
        }
        self.trial = None;
        let deliveries = self.end_where(
            |entry| entry.cancelled || entry.crashes >= MAX_CRASHES,
            |entry| match entry.cancelled {
                true => Event::Finished { reason: FinishReason::Cancelled, usage: entry.usage() },
                false => {
                    Event::Failed(EngineError::Crashes { crashes: MAX_CRASHES, last: reason.to_owned() })
                }
            },
        );
        let (suspects, others): (Vec<u64>, Vec<u64>) =
            self.entries.keys().copied().partition(|id| self.entries[id].is_suspect());
        self.unsent = suspects.into_iter().chain(others).collect();
        deliveries
    }

    /// Ends the requests whose time is up while no engine process has them; one that has them sees to it itself.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<Delivery> {
        self.end_where(
            |entry| !entry.sent && entry.remaining_time(now) == Some(Duration::ZERO),
            |entry| Event::Finished { reason: FinishReason::Deadline, usage: entry.usage() },
        )
    }

    /// Ends every request.
    pub(crate) fn end_all(&mut self, event: impl Fn(Usage) -> Event) -> Vec<Delivery> {
        self.end_where(|_| true, |entry| event(entry.usage()))
    }

    fn end_where(
        &mut self,
        condition: impl Fn(&Entry) -> bool,
        event: impl Fn(&Entry) -> Event,
    ) -> Vec<Delivery> {
        let chosen = self.entries.iter().filter(|(_, entry)| condition(entry));
        let ends: Vec<(u64, Event)> = chosen.map(|(&id, entry)| (id, event(entry))).collect();
        ends.into_iter().filter_map(|(id, event)| self.end(id, |_| event)).collect()
    }

    fn end(&mut self, id: u64, event: impl FnOnce(Usage) -> Event) -> Option<Delivery> {
        self.acquit(id);
        self.cancels.remove(&id);
        let entry = self.entries.remove(&id)?;
        if !entry.running {
            self.waiting = self.waiting.minus(entry.load());
        }
        let event = event(entry.usage());
        entry.sink.map(|sink| Delivery { id, sink, event })
    }

    /// A request on trial did not take the engine with it.
    fn acquit(&mut self, id: u64) {
        if self.trial == Some(id) {
            self.trial = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit() -> QueueLoad {
        QueueLoad { requests: 8, prompt_tokens: 100 }
    }

    fn journal(requests: usize) -> Journal {
        let mut journal = Journal::new(limit(), 1);
        for _ in 0..requests {
            submit(&mut journal);
        }
        journal
    }

    fn submit(journal: &mut Journal) -> u64 {
        let request = GenerateRequest::greedy(vec![1], 10);
        journal.submit(request, Box::new(|_| Ok(())), Instant::now()).unwrap()
    }

    /// Ids of the requests sent now, with the number of their tokens.
    fn sent(journal: &mut Journal) -> Vec<(u64, usize)> {
        let messages = std::iter::from_fn(|| journal.next_message(Instant::now()));
        let ids = messages.filter_map(|message| match message {
            ToEngine::Submit { id, request } => Some((id, request.generated.len())),
            ToEngine::Cancel { .. } => None,
        });
        ids.collect()
    }

    fn started() -> Event {
        Event::Started { prompt_tokens: 1, max_tokens: 10, cached_tokens: 0 }
    }

    fn token(index: usize) -> Event {
        Event::Token(TokenEvent { id: 5, index, logprob: None, top_logprobs: Vec::new() })
    }

    /// Takes an event in and gives the sink back; whether it was for delivery.
    fn take(journal: &mut Journal, id: u64, event: Event) -> Result<bool, EventViolation> {
        let delivery = journal.take_event(id, event)?;
        let is_some = delivery.is_some();
        if let Some(delivery) = delivery {
            journal.delivered(id, Some(delivery.sink));
        }
        Ok(is_some)
    }

    #[test]
    fn request_is_sent_again_with_its_tokens_and_starts_once() {
        let mut journal = journal(2);
        assert_eq!(sent(&mut journal), [(1, 0), (2, 0)]);
        assert_eq!(take(&mut journal, 1, started()), Ok(true));
        for index in 0..3 {
            assert_eq!(take(&mut journal, 1, token(index)), Ok(true));
        }
        assert!(journal.crashed(true, "why").is_empty());
        assert_eq!(sent(&mut journal), [(1, 3), (2, 0)]);
        assert_eq!(take(&mut journal, 1, started()), Ok(false));
        assert_eq!(take(&mut journal, 1, token(3)), Ok(true));
    }

    #[test]
    fn token_out_of_turn_is_a_violation() {
        let mut journal = journal(1);
        assert_eq!(take(&mut journal, 1, started()), Err(EventViolation::NotSent { id: 1 }));
        assert_eq!(take(&mut journal, 9, started()), Err(EventViolation::NotSent { id: 9 }));
        assert_eq!(sent(&mut journal), [(1, 0)]);
        assert_eq!(take(&mut journal, 1, token(0)), Ok(true));
        for (got, expected) in [(0, 1), (2, 1)] {
            let violation = EventViolation::Index { id: 1, got, expected };
            assert_eq!(take(&mut journal, 1, token(got)), Err(violation));
        }
    }

    #[test]
    fn suspects_are_sent_one_by_one_before_all_others() {
        let mut journal = journal(3);
        sent(&mut journal);
        take(&mut journal, 3, token(0)).unwrap();
        journal.crashed(true, "why");
        sent(&mut journal);
        take(&mut journal, 3, token(1)).unwrap();
        journal.crashed(true, "why");
        let late = submit(&mut journal);
        assert_eq!(sent(&mut journal), [(1, 0)], "alone");
        take(&mut journal, 1, token(0)).unwrap();
        assert_eq!(sent(&mut journal), [(2, 0)], "the next suspect");
        let ends = journal.crashed(true, "why");
        assert!(matches!(
            &ends[..],
            [Delivery { id: 2, event: Event::Failed(EngineError::Crashes { .. }), .. }]
        ));
        assert_eq!(sent(&mut journal), [(1, 1), (3, 2), (late, 0)], "nobody is suspected any more");
    }

    #[test]
    fn those_that_do_not_run_are_counted_through_start_end_and_failure() {
        let mut journal = journal(4);
        let waiting = |journal: &Journal| (journal.waiting().requests, journal.waiting().prompt_tokens);
        sent(&mut journal);
        for _ in 0..2 {
            take(&mut journal, 1, started()).unwrap();
        }
        take(&mut journal, 2, started()).unwrap();
        assert_eq!(waiting(&journal), (2, 2));
        let usage = Usage { prompt_tokens: 1, completion_tokens: 0, cached_prompt_tokens: 0 };
        for id in [2, 3] {
            take(&mut journal, id, Event::Finished { reason: FinishReason::Length, usage }).unwrap();
        }
        assert_eq!(waiting(&journal), (1, 1), "the last one waits, the first one runs");
        journal.crashed(false, "why");
        assert_eq!(waiting(&journal), (2, 2), "both wait for the next process");
        journal.end_all(|usage| Event::Finished { reason: FinishReason::Cancelled, usage });
        assert_eq!(waiting(&journal), (0, 0));
    }

    #[test]
    fn there_is_a_message_whenever_one_can_be_sent() {
        let mut journal = journal(2);
        while journal.has_message() {
            assert!(journal.next_message(Instant::now()).is_some());
        }
        assert!(journal.next_message(Instant::now()).is_none());
        journal.cancel(1);
        assert!(journal.has_message());
        for _ in 0..SUSPECT_CRASHES {
            journal.crashed(true, "why");
            journal.next_message(Instant::now());
        }
        assert!(!journal.has_message(), "one is tried alone");
    }

    #[test]
    fn kill_from_outside_blames_nobody() {
        let mut journal = journal(1);
        for _ in 0..2 * MAX_CRASHES {
            assert_eq!(sent(&mut journal), [(1, 0)]);
            assert!(journal.crashed(false, "why").is_empty());
        }
    }

    #[test]
    fn timeout_shrinks_with_the_time_that_passed_and_ends_what_is_not_sent() {
        let mut journal = Journal::new(limit(), 1);
        let begun = Instant::now();
        let timeout = Some(Duration::from_secs(10));
        let request = GenerateRequest { timeout, ..GenerateRequest::greedy(vec![1], 10) };
        journal.submit(request, Box::new(|_| Ok(())), begun).unwrap();
        for (seconds, left) in [(4, 6), (60, 0)] {
            let now = begun + Duration::from_secs(seconds);
            let Some(ToEngine::Submit { request, .. }) = journal.next_message(now) else {
                panic!("it is sent")
            };
            assert_eq!(request.timeout, Some(Duration::from_secs(left)));
            assert!(journal.expire(now).is_empty(), "the engine process has it");
            journal.crashed(false, "why");
        }
        assert!(journal.expire(begun + Duration::from_secs(9)).is_empty());
        let ends = journal.expire(begun + Duration::from_secs(10));
        let deadline = FinishReason::Deadline;
        assert!(
            matches!(&ends[..], [Delivery { event: Event::Finished { reason, .. }, .. }] if *reason == deadline)
        );
        assert!(journal.is_empty());
    }
}
