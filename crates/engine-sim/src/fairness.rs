//! Whose turn it is: an account of admissions, kept from the outside.

use sostenuto_engine::{DECODE_WORK, RequestId};

use crate::journal::Journal;
use crate::record::{Record, State};
use crate::scenario::{MAX_KEYS, MAX_PRIORITY};

const CLASSES: usize = 2 * MAX_PRIORITY as usize + 1;

/// How many requests of each key wait, in one class of priority.
type Waiting = [usize; MAX_KEYS];

/// How much more work each key has started than each other, since when both have had requests waiting.
#[derive(Debug)]
pub(crate) struct Fairness {
    ahead: [[[i64; MAX_KEYS]; MAX_KEYS]; CLASSES],
    /// Completion tokens that are promised at a time.
    reserve_tokens: usize,
    /// The most that a key may be ahead.
    bound: i64,
}

impl Fairness {
    /// Deficit round robin: of two keys that both wait, none is ahead by more than a quantum and the work of two requests.
    pub(crate) fn new(quantum: usize, capacity: usize, reserve_tokens: usize) -> Self {
        let most_work = capacity + DECODE_WORK * capacity.min(reserve_tokens);
        let bound = (quantum + 2 * most_work) as i64;
        Self { ahead: Default::default(), reserve_tokens, bound }
    }

    /// Checks that it was the turn of the requests that were admitted, in this order, and notes their work.
    pub(crate) fn note_admitted(&mut self, admitted: &[RequestId], journal: &Journal) {
        let mut waiting = [Waiting::default(); CLASSES];
        for (id, record) in journal.iter() {
            let waited = record.state == State::Waiting || admitted.contains(&id);
            if waited && !record.was_preempted {
                waiting[class(record)][key(record)] += 1;
            }
        }
        self.forget_absent(&waiting);
        for (place, &id) in admitted.iter().enumerate() {
            let record = journal.record(id);
            if record.was_preempted {
                continue;
            }
            check_turn(id, record, &admitted[place + 1..], journal);
            waiting[class(record)][key(record)] -= 1;
            self.note_work(record, &waiting[class(record)]);
        }
        self.forget_absent(&waiting);
    }

    fn note_work(&mut self, record: &Record, waiting: &Waiting) {
        let tokens = record.remaining_tokens().min(self.reserve_tokens);
        let work = (record.tokens.len() + DECODE_WORK * tokens) as i64;
        let (key, ahead) = (key(record), &mut self.ahead[class(record)]);
        for other in (0..MAX_KEYS).filter(|&other| other != key && waiting[other] > 0) {
            ahead[key][other] += work;
            ahead[other][key] -= work;
            let (lead, bound) = (ahead[key][other], self.bound);
            assert!(lead <= bound, "key {key} is ahead of key {other} by {lead}, at most {bound}");
        }
    }

    /// Starts afresh where one of two keys has nothing that waits.
    fn forget_absent(&mut self, waiting: &[Waiting; CLASSES]) {
        for (ahead, waiting) in self.ahead.iter_mut().zip(waiting) {
            for (a, b) in (0..MAX_KEYS * MAX_KEYS).map(|pair| (pair / MAX_KEYS, pair % MAX_KEYS)) {
                if waiting[a] == 0 || waiting[b] == 0 {
                    ahead[a][b] = 0;
                }
            }
        }
    }
}

/// Preempted requests first, then by priority, then within a key in the order of submission. `later` were admitted after
/// this one, so they waited.
fn check_turn(id: RequestId, record: &Record, later: &[RequestId], journal: &Journal) {
    for (other, waits) in
        journal.iter().filter(|(id, record)| record.state == State::Waiting || later.contains(id))
    {
        assert!(!waits.was_preempted, "request {id} starts before request {other} goes on");
        let (priority, theirs) = (record.request.priority, waits.request.priority);
        assert!(theirs <= priority, "request {id} of priority {priority} starts before {other} of {theirs}");
        let is_before = theirs == priority && waits.request.key == record.request.key && other < id;
        assert!(!is_before, "request {id} starts before request {other} of the same key");
    }
}

fn class(record: &Record) -> usize {
    (record.request.priority + MAX_PRIORITY) as usize
}

fn key(record: &Record) -> usize {
    record.request.key as usize
}
