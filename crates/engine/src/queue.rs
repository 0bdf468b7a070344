//! Requests that wait to run: by priority, then fair between keys; bounded in requests and in prompt tokens.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::error::{QueueResource, SubmitError};
use crate::limits::{DECODE_WORK, QUEUE_QUANTUM, RESERVE_TOKENS};
use crate::request::RequestId;
use crate::sequence::Sequence;

/// How much waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueLoad {
    /// Requests.
    pub requests: usize,
    /// Their prompt tokens.
    pub prompt_tokens: usize,
}

impl QueueLoad {
    /// This load with one more request.
    ///
    /// # Errors
    /// The bound in `limit` that it would pass, what waits, what is added, and the limit.
    pub(crate) fn with(self, prompt_tokens: usize, limit: QueueLoad) -> Result<QueueLoad, QueueFull> {
        let full = |resource, queued, requested, limit| Err(QueueFull { resource, queued, requested, limit });
        let sum = Self {
            requests: self.requests + 1,
            prompt_tokens: self.prompt_tokens.saturating_add(prompt_tokens),
        };
        if sum.requests > limit.requests {
            return full(QueueResource::Requests, self.requests, 1, limit.requests);
        }
        if sum.prompt_tokens > limit.prompt_tokens {
            return full(QueueResource::PromptTokens, self.prompt_tokens, prompt_tokens, limit.prompt_tokens);
        }
        Ok(sum)
    }

    /// This load without another that is part of it.
    pub(crate) fn minus(self, other: QueueLoad) -> QueueLoad {
        Self {
            requests: self.requests - other.requests,
            prompt_tokens: self.prompt_tokens - other.prompt_tokens,
        }
    }

    /// Both loads together.
    pub(crate) fn plus(self, other: QueueLoad) -> QueueLoad {
        Self {
            requests: self.requests + other.requests,
            prompt_tokens: self.prompt_tokens + other.prompt_tokens,
        }
    }
}

/// The bound that a further request would pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueueFull {
    resource: QueueResource,
    queued: usize,
    requested: usize,
    limit: usize,
}

impl QueueFull {
    /// The refusal, with the time after which to try again.
    pub(crate) fn into_error(self, retry_after: Duration) -> SubmitError {
        let Self { resource, queued, requested, limit } = self;
        SubmitError::QueueFull { resource, queued, requested, limit, retry_after }
    }
}

/// What a request is predicted to cost, in prefill tokens: its tokens, and [`DECODE_WORK`] for each of the first
/// [`RESERVE_TOKENS`] it may generate.
pub(crate) fn predicted_work(sequence: &Sequence) -> usize {
    sequence.tokens.len() + DECODE_WORK * sequence.remaining_tokens().min(RESERVE_TOKENS)
}

/// The waiting requests of one key, first in, first out.
#[derive(Debug, Default)]
struct KeyQueue {
    key: u64,
    waiting: VecDeque<Sequence>,
    /// Work it may still start in this round.
    deficit: usize,
    /// Whether this turn's quantum is in the deficit, however it came to be first.
    has_turn: bool,
}

/// The waiting requests. Higher priorities go first; within a priority, keys take turns by deficit round robin
/// over [`predicted_work`]: each gets [`QUEUE_QUANTUM`] a turn, saves what it does not use while it waits, and
/// starts with nothing when it comes back.
#[derive(Debug)]
pub(crate) struct RequestQueue {
    /// By priority, highest first; keys in the order of their turns. No empty list, no empty key.
    classes: BTreeMap<Reverse<i32>, VecDeque<KeyQueue>>,
    load: QueueLoad,
    limit: QueueLoad,
}

impl RequestQueue {
    pub(crate) fn new(limit: QueueLoad) -> Self {
        Self { classes: BTreeMap::new(), load: QueueLoad::default(), limit }
    }

    pub(crate) fn load(&self) -> QueueLoad {
        self.load
    }

    pub(crate) fn push(&mut self, sequence: Sequence) -> Result<(), QueueFull> {
        self.load = self.load.with(sequence.prompt_tokens, self.limit)?;
        let keys = self.classes.entry(Reverse(sequence.priority)).or_default();
        let place = keys.iter().position(|queue| queue.key == sequence.key).unwrap_or_else(|| {
            keys.push_back(KeyQueue { key: sequence.key, ..KeyQueue::default() });
            keys.len() - 1
        });
        keys[place].waiting.push_back(sequence);
        Ok(())
    }

    /// The request whose turn it is. It stays so until it is popped or removed, or one of higher priority arrives.
    pub(crate) fn front(&mut self) -> Option<&mut Sequence> {
        let keys = self.classes.values_mut().next()?;
        let is_alone = keys.len() == 1;
        loop {
            let queue = &mut keys[0];
            if !std::mem::replace(&mut queue.has_turn, true) {
                queue.deficit += QUEUE_QUANTUM;
            }
            let work = predicted_work(queue.waiting.front().expect("no key is empty"));
            if work <= queue.deficit || is_alone {
                break;
            }
            queue.has_turn = false;
            keys.rotate_left(1);
        }
        keys[0].waiting.front_mut()
    }

    /// Takes out what [`RequestQueue::front`] shows.
    pub(crate) fn pop(&mut self) -> Option<Sequence> {
        self.front()?;
        let mut class = self.classes.first_entry()?;
        let queue = &mut class.get_mut()[0];
        let sequence = queue.waiting.pop_front()?;
        queue.deficit = queue.deficit.saturating_sub(predicted_work(&sequence));
        if queue.waiting.is_empty() {
            class.get_mut().pop_front();
        }
        if class.get().is_empty() {
            class.remove();
        }
        self.forget(&sequence);
        Some(sequence)
    }

    pub(crate) fn contains(&self, id: RequestId) -> bool {
        self.iter().any(|sequence| sequence.id == id)
    }

    pub(crate) fn remove(&mut self, id: RequestId) -> Option<Sequence> {
        self.take_first(|sequence| sequence.id == id)
    }

    /// Takes out a request whose deadline is past.
    pub(crate) fn take_expired(&mut self, now: Duration) -> Option<Sequence> {
        self.take_first(|sequence| sequence.deadline.is_some_and(|deadline| deadline <= now))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Sequence> {
        self.classes.values().flatten().flat_map(|queue| &queue.waiting)
    }

    fn take_first(&mut self, wanted: impl Fn(&Sequence) -> bool) -> Option<Sequence> {
        for (&priority, keys) in &mut self.classes {
            for key_place in 0..keys.len() {
                let waiting = &mut keys[key_place].waiting;
                let Some(place) = waiting.iter().position(&wanted) else { continue };
                let sequence = waiting.remove(place)?;
                if waiting.is_empty() {
                    keys.remove(key_place);
                }
                if keys.is_empty() {
                    self.classes.remove(&priority);
                }
                self.forget(&sequence);
                return Some(sequence);
            }
        }
        None
    }

    fn forget(&mut self, sequence: &Sequence) {
        self.load.requests -= 1;
        self.load.prompt_tokens -= sequence.prompt_tokens;
    }
}
