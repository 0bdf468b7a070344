//! Requests that wait to run: first in, first out, bounded in requests and in prompt tokens.

use std::collections::VecDeque;

use crate::error::{QueueResource, SubmitError};
use crate::request::{RequestId, ValidRequest};

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
    /// [`SubmitError::QueueFull`] names the bound in `limit` that it would pass.
    pub(crate) fn with(self, prompt_tokens: usize, limit: QueueLoad) -> Result<QueueLoad, SubmitError> {
        let full = |resource, queued, requested, limit| {
            Err(SubmitError::QueueFull { resource, queued, requested, limit })
        };
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

    /// Both loads together.
    pub(crate) fn plus(self, other: QueueLoad) -> QueueLoad {
        Self {
            requests: self.requests + other.requests,
            prompt_tokens: self.prompt_tokens + other.prompt_tokens,
        }
    }
}

/// The waiting requests.
#[derive(Debug)]
pub(crate) struct RequestQueue {
    waiting: VecDeque<(RequestId, ValidRequest)>,
    load: QueueLoad,
    limit: QueueLoad,
}

impl RequestQueue {
    pub(crate) fn new(limit: QueueLoad) -> Self {
        Self {
            waiting: VecDeque::with_capacity(limit.requests.min(1 << 16)),
            load: QueueLoad::default(),
            limit,
        }
    }

    pub(crate) fn load(&self) -> QueueLoad {
        self.load
    }

    pub(crate) fn push(&mut self, id: RequestId, request: ValidRequest) -> Result<(), SubmitError> {
        self.load = self.load.with(request.prompt_tokens(), self.limit)?;
        self.waiting.push_back((id, request));
        Ok(())
    }

    pub(crate) fn front(&self) -> Option<&ValidRequest> {
        self.waiting.front().map(|(_, request)| request)
    }

    pub(crate) fn pop(&mut self) -> Option<(RequestId, ValidRequest)> {
        let entry = self.waiting.pop_front()?;
        self.forget(&entry.1);
        Some(entry)
    }

    pub(crate) fn contains(&self, id: RequestId) -> bool {
        self.waiting.iter().any(|(waiting, _)| *waiting == id)
    }

    pub(crate) fn remove(&mut self, id: RequestId) -> Option<ValidRequest> {
        let place = self.waiting.iter().position(|(waiting, _)| *waiting == id)?;
        let (_, request) = self.waiting.remove(place)?;
        self.forget(&request);
        Some(request)
    }

    fn forget(&mut self, request: &ValidRequest) {
        self.load.requests -= 1;
        self.load.prompt_tokens -= request.prompt_tokens();
    }
}
