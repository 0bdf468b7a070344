//! What the requests of one engine are owed and what they got, kept from the outside: from plans, outputs and events.

use std::ops::Range;
use std::time::Duration;

use sostenuto_engine::{
    BLOCK_SLOTS, EngineError, Event, ExecutorError, FinishReason, GenerateRequest, RequestEvent, RequestId,
    Sampler, Scheduler, StepPlan, TokenEvent,
};

use crate::device::Device;
use crate::model::{ModelShape, SoloRun, VOCAB_SIZE};
use crate::record::{Progress, Record, State};

/// What the simulation did just now: it decides which events may come of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// A step was planned.
    Planned { now: Duration },
    /// A step was computed.
    Computed,
    /// A step failed; the device stays usable.
    StepFailed,
    /// The device was lost.
    DeviceLost,
    /// This request was cancelled.
    Cancelled(RequestId),
    /// The engine was shut down.
    ShutDown,
}

/// A request that ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) record: Record,
    /// Why, unless it failed.
    pub(crate) reason: Option<FinishReason>,
}

/// The requests of one engine: `RequestId(n)` is the n-th.
#[derive(Debug)]
pub(crate) struct Journal {
    shape: ModelShape,
    capacity: usize,
    /// Completion tokens for which blocks are promised at a time.
    reserve_tokens: usize,
    /// None once it has ended.
    records: Vec<Option<Record>>,
    /// Requests that have not ended, in the order of submission.
    live: Vec<RequestId>,
    preemptions: u64,
    sampler: Sampler,
}

impl Journal {
    pub(crate) fn new(shape: ModelShape, capacity: usize, reserve_tokens: usize) -> Self {
        let sampler = Sampler::new(VOCAB_SIZE);
        Self {
            shape,
            capacity,
            reserve_tokens,
            records: Vec::new(),
            live: Vec::new(),
            preemptions: 0,
            sampler,
        }
    }

    /// The id that the next accepted request gets.
    pub(crate) fn next_id(&self) -> RequestId {
        RequestId(self.records.len() as u64)
    }

    /// Notes a request that the engine accepted under [`Journal::next_id`]. `solo` is its run so far, where it has one.
    pub(crate) fn accept(&mut self, request: GenerateRequest, solo: Option<SoloRun>, now: Duration) {
        self.live.push(self.next_id());
        let solo = solo.unwrap_or_else(|| SoloRun::new(self.shape));
        self.records.push(Some(Record::new(request, self.capacity, solo, now)));
    }

    /// Requests that have not ended, in the order of submission.
    pub(crate) fn live(&self) -> &[RequestId] {
        &self.live
    }

    /// Takes out the requests that have not ended, in the order of submission.
    pub(crate) fn into_open(self) -> impl Iterator<Item = Record> {
        self.records.into_iter().flatten()
    }

    pub(crate) fn record(&self, id: RequestId) -> &Record {
        let record = self.records.get(id.0 as usize).and_then(Option::as_ref);
        record.unwrap_or_else(|| panic!("request {id} was submitted and has not ended"))
    }

    pub(crate) fn record_mut(&mut self, id: RequestId) -> &mut Record {
        let record = self.records.get_mut(id.0 as usize).and_then(Option::as_mut);
        record.unwrap_or_else(|| panic!("request {id} was submitted and has not ended"))
    }

    /// Requests that have not ended, in the order of submission.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (RequestId, &Record)> {
        self.live.iter().map(|&id| (id, self.record(id)))
    }

    /// Requests that wait, preempted ones among them.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &Record> {
        self.iter().map(|(_, record)| record).filter(|record| record.state == State::Waiting)
    }

    /// Prompt tokens and number of the requests that wait and were never preempted: what the queue's bound counts.
    pub(crate) fn queued(&self) -> (usize, usize) {
        let queued = self.waiting().filter(|record| !record.was_preempted);
        queued.fold((0, 0), |(requests, tokens), record| (requests + 1, tokens + record.request.prompt.len()))
    }

    /// Notes after planning which requests run: some were admitted, some gave up their place, some outgrew what is
    /// reserved for them. Lists in `admitted` those that
    /// were admitted, in order.
    pub(crate) fn note_running(&mut self, scheduler: &Scheduler, admitted: &mut Vec<RequestId>) {
        let mut running = 0;
        admitted.clear();
        for &id in &self.live {
            let record = self.records[id.0 as usize].as_mut().expect("a live request has a record");
            let now = scheduler.running_sequences().find(|running| running.id == id);
            running += usize::from(now.is_some());
            let yielded = match now {
                None => matches!(record.state, State::Running(_)),
                Some(now) => now.was_preempted && !record.was_preempted,
            };
            if yielded {
                assert!(!record.was_preempted, "request {id} gave up its place a second time");
                (record.state, record.was_preempted) = (State::Waiting, true);
                self.preemptions += 1;
            }
            match &mut record.state {
                State::Waiting if now.is_some() => {
                    record.state = State::Running(admission(record, self.reserve_tokens));
                    admitted.push(id);
                }
                State::Running(progress) if record.tokens.len() > progress.reserved_tokens => {
                    let most = record.request.prompt.len() + record.max_tokens;
                    progress.reserved_tokens = most.min(progress.reserved_tokens + self.reserve_tokens);
                }
                _ => {}
            }
        }
        admitted.sort_by_key(|&id| scheduler.running_sequences().position(|running| running.id == id));
        assert_eq!(running, scheduler.num_running(), "only requests that have not ended run");
        assert_eq!(self.preemptions, scheduler.totals().preemptions, "preemptions");
    }

    /// Checks one sequence's rows of a plan against its tokens, and notes that they are planned.
    pub(crate) fn note_rows(&mut self, id: RequestId, plan: &StepPlan, sequence: usize, first_row: usize) {
        let rerun_tokens = (self.shape.window - 1) * self.shape.sliding_layers();
        let rows = plan.scheduled[sequence].num_scheduled_tokens;
        let start = plan.positions[first_row] as usize;
        let write_from = plan.kv_write_from[sequence] as usize;
        let record = self.record_mut(id);
        let State::Running(mut progress) = record.state else { panic!("request {id} has rows and no ring") };
        match progress.next {
            Some(next) => {
                let planned = (start, write_from);
                assert_eq!(planned, (next, progress.write_from), "request {id} goes on where it was");
            }
            None => {
                progress.write_from = write_from;
                progress.published = write_from / BLOCK_SLOTS;
                progress.exact_from = write_from.min(record.tokens.len() - 1);
                check_start(id, record, start, write_from, rerun_tokens);
            }
        }
        let end = start + rows;
        progress.next = Some(end);
        record.state = State::Running(progress);
        assert!(end <= record.tokens.len(), "request {id}: rows to {end} of {} tokens", record.tokens.len());
        assert!(
            end <= progress.reserved_tokens,
            "request {id}: rows to {end}, {} reserved",
            progress.reserved_tokens
        );
        let planned = &plan.token_ids[first_row..first_row + rows];
        assert_eq!(planned, &record.tokens[start..end], "request {id}: tokens from {start}");
        let gives_token = plan.scheduled[sequence].gives_token;
        assert_eq!(gives_token, end == record.tokens.len(), "request {id}: a token behind the last one only");
    }

    /// Checks of a planned step that no request is past its deadline, that every decoding one has a row, and that
    /// prefill rows went to the highest priority, and there to whoever has waited longest for some.
    pub(crate) fn check_planned(&mut self, now: Duration, planned: &[RequestId], step: u64) {
        let mut prefilled: Option<(i32, u64)> = None;
        for (id, record) in self.iter() {
            let is_past = record.deadline.is_some_and(|deadline| deadline <= now);
            assert!(!is_past, "request {id} is past its deadline {:?} at {now:?}", record.deadline);
            let State::Running(progress) = record.state else { continue };
            let has_rows = planned.contains(&id);
            assert!(has_rows || !progress.is_decoding, "request {id} decodes and has no row");
            if has_rows && !progress.is_decoding {
                let rank = (-record.request.priority, progress.last_prefill);
                prefilled = prefilled.max(Some(rank));
            }
        }
        for (id, record) in self.iter() {
            let State::Running(progress) = record.state else { continue };
            if !progress.is_decoding && !planned.contains(&id) {
                let rank = (-record.request.priority, progress.last_prefill);
                assert!(prefilled <= Some(rank), "request {id} waits for rows that others got");
            }
        }
        for &id in planned {
            let State::Running(progress) = &mut self.record_mut(id).state else { continue };
            progress.last_prefill = step;
        }
    }

    /// Checks what the device computed for a request's last planned row; `false` if it is no number, for a reason of the
    /// request's own.
    pub(crate) fn check_output(&self, id: RequestId, logit_row: usize, device: &Device) -> bool {
        let record = self.record(id);
        let State::Running(progress) = record.state else { panic!("request {id} has logits and no ring") };
        let position = progress.next.expect("it has rows") - 1;
        match device.output(logit_row) {
            _ if position < progress.exact_from => true,
            Some(output) => {
                let solo = record.solo_output(position);
                assert_eq!(output, solo, "request {id}: logits at {position} equal the solo run's");
                true
            }
            None => {
                let exact_from = progress.exact_from;
                assert!(
                    record.is_poisoned,
                    "request {id} met another's NaN at {position}, exact from {exact_from}"
                );
                false
            }
        }
    }

    /// Notes that a request's rows so far are known to be good. Returns which blocks of its table became complete since.
    pub(crate) fn note_complete(&mut self, id: RequestId) -> Range<usize> {
        let record = self.record_mut(id);
        let tokens = record.tokens.len();
        let State::Running(progress) = &mut record.state else {
            panic!("request {id} has logits and no ring")
        };
        let end = progress.next.expect("it has rows");
        progress.is_decoding = end == tokens;
        let complete = (end / BLOCK_SLOTS).max(progress.published);
        std::mem::replace(&mut progress.published, complete)..complete
    }

    /// Takes in an event. Returns the request if that was its end.
    pub(crate) fn take_event(&mut self, event: RequestEvent, cause: Cause) -> Option<Ended> {
        let RequestEvent { id, event } = event;
        match event {
            Event::Started { prompt_tokens, max_tokens, cached_tokens } => {
                assert!(matches!(cause, Cause::Planned { .. }), "request {id} started: {cause:?}");
                let record = self.record_mut(id);
                assert_eq!(record.cached_tokens, None, "request {id} started twice");
                let facts = (record.request.prompt.len(), record.max_tokens);
                assert_eq!(
                    (prompt_tokens, max_tokens),
                    facts,
                    "request {id}: prompt and most completion tokens"
                );
                record.cached_tokens = Some(cached_tokens);
                None
            }
            Event::Token(token) => {
                assert_eq!(cause, Cause::Computed, "request {id} got a token");
                self.take_token(id, &token);
                None
            }
            Event::Finished { reason, usage } => {
                self.check_reason(id, reason, cause);
                assert_eq!(usage, self.record(id).usage(), "request {id}: usage");
                Some(self.end(id, Some(reason)))
            }
            Event::Failed(error) => {
                let record = self.record(id);
                let is_due = match (&error, cause) {
                    (EngineError::Executor(ExecutorError::Step { .. }), Cause::StepFailed) => {
                        matches!(record.state, State::Running(_))
                    }
                    (EngineError::Executor(ExecutorError::Device { .. }), Cause::DeviceLost) => true,
                    (EngineError::NonFiniteLogits { position, .. }, Cause::Computed) => {
                        record.is_poisoned && record.is_at(*position)
                    }
                    _ => false,
                };
                assert!(is_due, "request {id} failed: {error}; {cause:?}");
                Some(self.end(id, None))
            }
        }
    }

    fn take_token(&mut self, id: RequestId, token: &TokenEvent) {
        let record = self.records[id.0 as usize].as_mut().expect("a token comes before the end");
        assert!(record.cached_tokens.is_some(), "request {id} got a token before it started");
        assert_eq!(token.index, record.completion_tokens(), "request {id}: index of a token");
        match record.solo_token(&mut self.sampler) {
            Ok(solo) => {
                assert_eq!(token.id, solo.id, "request {id}: token {} as alone", token.index)
            }
            Err(error) => panic!("request {id} got a token where alone there is none: {error}"),
        }
        record.push(token.id);
        assert!(record.completion_tokens() <= record.max_tokens, "request {id} got more than max_tokens");
    }

    fn check_reason(&self, id: RequestId, reason: FinishReason, cause: Cause) {
        let record = self.record(id);
        let is_stop = |token: &u32| record.request.stop_token_ids.contains(token);
        let last =
            record.tokens.last().filter(|_| record.completion_tokens() > record.request.generated.len());
        let is_due = match (reason, cause) {
            (FinishReason::StopToken(token), Cause::Computed) => last == Some(&token) && is_stop(&token),
            (FinishReason::Length, Cause::Computed) => {
                record.remaining_tokens() == 0 && !last.is_some_and(is_stop)
            }
            (FinishReason::Deadline, Cause::Planned { now }) => {
                record.deadline.is_some_and(|deadline| deadline <= now)
            }
            (FinishReason::Cancelled, Cause::Cancelled(cancelled)) => cancelled == id,
            (FinishReason::ShuttingDown, Cause::ShutDown) => true,
            _ => false,
        };
        assert!(is_due, "request {id} ended with {reason:?} after {} tokens; {cause:?}", record.tokens.len());
    }

    /// Checks that what had to end has ended.
    pub(crate) fn check_ended(&self, cause: Cause) {
        for &id in &self.live {
            let record = self.record(id);
            let is_open = match cause {
                Cause::Computed => record.remaining_tokens() > 0,
                Cause::StepFailed => record.state == State::Waiting,
                Cause::Cancelled(cancelled) => cancelled != id,
                Cause::DeviceLost | Cause::ShutDown => false,
                Cause::Planned { now } => record.deadline.is_none_or(|deadline| deadline > now),
            };
            assert!(is_open, "request {id} has not ended; {cause:?}");
        }
    }

    fn end(&mut self, id: RequestId, reason: Option<FinishReason>) -> Ended {
        self.live.retain(|&other| other != id);
        let record = self.records[id.0 as usize].take().expect("a request ends once");
        Ended { record, reason }
    }
}

/// Checks where a request starts to compute: no further back than it takes to rebuild the windows behind what is cached,
/// and where [`Event::Started`] said.
fn check_start(id: RequestId, record: &Record, start: usize, cached: usize, rerun_tokens: usize) {
    let target = cached.min(record.tokens.len() - 1);
    assert!(start <= target, "request {id} starts at {start}, {target} positions cached");
    let again = target - start;
    assert!(again <= rerun_tokens, "request {id} runs {again} positions again, at most {rerun_tokens}");
    if !record.was_preempted {
        let said = Some(start.min(record.request.prompt.len()));
        assert_eq!(record.cached_tokens, said, "request {id}: cached tokens of its start");
    }
}

/// A request that was admitted just now.
fn admission(record: &Record, reserve_tokens: usize) -> Progress {
    let remaining = record.remaining_tokens();
    let reserved = if record.was_preempted { remaining } else { remaining.min(reserve_tokens) };
    Progress {
        next: None,
        write_from: 0,
        published: 0,
        is_decoding: false,
        exact_from: 0,
        last_prefill: 0,
        reserved_tokens: record.tokens.len() + reserved,
    }
}
