//! One request and what came of it.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::chunk::{Chunk, Usage};
use crate::client::{CHAT_PATH, Client, ClientError};

/// Why there is no answer, or not all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Failure {
    /// No connection.
    Connect,
    /// Not complete within the time limit.
    Timeout,
    /// Another HTTP status than success, 429 or 503.
    Status(u16),
    /// The connection or the stream ended before the answer did.
    Broken,
    /// The stream carried an error.
    ErrorEvent,
    /// Not what a server of this kind sends.
    Malformed,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Connect => f.write_str("no connection"),
            Self::Timeout => f.write_str("timeout"),
            Self::Status(status) => write!(f, "status {status}"),
            Self::Broken => f.write_str("broken off"),
            Self::ErrorEvent => f.write_str("error in the stream"),
            Self::Malformed => f.write_str("malformed"),
        }
    }
}

/// What came of a request.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The whole answer.
    Complete(Box<Answer>),
    /// 429 or 503.
    Refused {
        /// Which.
        status: u16,
        /// `Retry-After` in seconds, if it was there and a whole number.
        retry_after_seconds: Option<u64>,
    },
    /// Neither.
    Failed(Failure),
}

/// A whole answer's times and counts.
#[derive(Debug)]
pub(crate) struct Answer {
    /// From sending to the first output.
    pub(crate) first: Duration,
    /// From sending to the end of the stream.
    pub(crate) whole: Duration,
    /// From one output to the next.
    pub(crate) gaps: Vec<Duration>,
    /// The server's counts; without them, one token for each output.
    pub(crate) usage: Usage,
}

impl Answer {
    /// Mean time of an output token after the first, if there are two.
    pub(crate) fn per_output_token(&self) -> Option<Duration> {
        let later = self.usage.completion_tokens.checked_sub(1).filter(|count| *count > 0)?;
        Some(self.gaps.iter().sum::<Duration>() / u32::try_from(later).ok()?)
    }
}

/// Asks and reads until the end.
pub(crate) async fn exchange(client: &Client, body: &Value, timeout: Duration) -> Outcome {
    match tokio::time::timeout(timeout, read(client, body)).await {
        Ok(Ok(answer)) => Outcome::Complete(Box::new(answer)),
        Ok(Err(outcome)) => outcome,
        Err(_) => Outcome::Failed(Failure::Timeout),
    }
}

async fn read(client: &Client, body: &Value) -> Result<Answer, Outcome> {
    let start = Instant::now();
    let mut stream = client.post_events(CHAT_PATH, body).await.map_err(outcome_of)?;
    let (mut first, mut last) = (None, start);
    let (mut gaps, mut usage, mut is_finished) = (Vec::new(), None, false);
    while let Some(event) = stream.next().await.map_err(outcome_of)? {
        if event == "[DONE]" {
            break;
        }
        let chunk: Chunk = serde_json::from_str(&event).map_err(|_| Outcome::Failed(Failure::Malformed))?;
        if chunk.error.is_some() {
            return Err(Outcome::Failed(Failure::ErrorEvent));
        }
        usage = chunk.usage.or(usage);
        is_finished |= chunk.choices.iter().any(|choice| choice.finish_reason.is_some());
        if chunk.choices.iter().any(|choice| choice.delta.has_output()) {
            let now = Instant::now();
            match first {
                None => first = Some(now - start),
                Some(_) => gaps.push(now - last),
            }
            last = now;
        }
    }
    if !is_finished {
        return Err(Outcome::Failed(Failure::Broken));
    }
    let outputs = gaps.len() as u64 + u64::from(first.is_some());
    let whole = start.elapsed();
    let usage = usage.unwrap_or(Usage { prompt_tokens: 0, completion_tokens: outputs });
    Ok(Answer { first: first.unwrap_or(whole), whole, gaps, usage })
}

/// What an error of the client means here.
pub(crate) fn outcome_of(error: ClientError) -> Outcome {
    match error {
        ClientError::Refused { status, retry_after, .. } if matches!(status.as_u16(), 429 | 503) => {
            Outcome::Refused {
                status: status.as_u16(),
                retry_after_seconds: retry_after.and_then(|value| value.parse().ok()),
            }
        }
        ClientError::Refused { status, .. } => Outcome::Failed(Failure::Status(status.as_u16())),
        ClientError::Connect { .. } | ClientError::Url { .. } => Outcome::Failed(Failure::Connect),
        ClientError::Http(_) => Outcome::Failed(Failure::Broken),
        ClientError::Unexpected(_) | ClientError::EventTooLong(_) => Outcome::Failed(Failure::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_per_output_token_leaves_the_first_out() {
        let mut answer = Answer {
            first: Duration::from_secs(5),
            whole: Duration::from_secs(9),
            gaps: vec![Duration::from_millis(100), Duration::from_millis(300)],
            usage: Usage { prompt_tokens: 7, completion_tokens: 5 },
        };
        assert_eq!(answer.per_output_token(), Some(Duration::from_millis(100)));
        answer.usage.completion_tokens = 1;
        assert_eq!(answer.per_output_token(), None);
        answer.usage.completion_tokens = 0;
        assert_eq!(answer.per_output_token(), None);
    }
}
