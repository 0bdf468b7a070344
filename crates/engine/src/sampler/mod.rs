//! From one row's logits to one token.

mod candidates;
mod counts;
mod logprobs;
mod philox;

pub use counts::TokenCounts;
pub use philox::{philox4x32, uniform};

use candidates::Candidates;
use logprobs::{LogSoftmax, top_logits};

use crate::limits::{MAX_LOGIT_BIAS_ENTRIES, MAX_STOP_TOKENS};
use crate::plan::{SampleError, SampledToken};
use crate::request::SamplingParams;

/// What a row's choice depends on besides its logits: its own sequence, nothing of the others.
#[derive(Clone, Copy, Debug)]
pub struct SamplerRow<'a> {
    /// How to choose.
    pub params: &'a SamplingParams,
    /// Excluded while `completion_tokens` is below `params.min_tokens`.
    pub stop_token_ids: &'a [u32],
    /// What the sequence holds; need only be kept where [`SamplingParams::uses_penalties`].
    pub counts: &'a TokenCounts,
    /// Position in the sequence that the new token takes.
    pub position: usize,
    /// Completion tokens before it.
    pub completion_tokens: usize,
    /// `Some(n)` reports the logprob and the `n` most probable tokens.
    pub logprobs: Option<u8>,
}

/// Chooses tokens. Holds scratch only; no draw leaves a trace.
///
/// Order, as in vLLM's V1 sampler:
/// 1. logprobs, from the log-softmax of the raw logits;
/// 2. `min_tokens` excludes the stop tokens;
/// 3. `logit_bias` is added;
/// 4. `repetition_penalty` on tokens of prompt and completion, then `frequency_penalty` and `presence_penalty` on tokens
///    of the completion;
/// 5. temperature 0: the largest logit, the lowest id on ties, and done;
/// 6. temperature;
/// 7. `min_p`, against the most probable token;
/// 8. `top_k`, lower ids first on ties, so that exactly k remain (vLLM keeps all ties of the last);
/// 9. `top_p`, on the probabilities renormalised over what 7 and 8 kept;
/// 10. the draw: inverse of the cumulative distribution at [`uniform`]`(seed, position)`.
///
/// # Numerics
/// Weights are `exp((logit − max) / temperature)` in f32, sums are f64 in a fixed order. Steps 7 and 8 each keep the
/// front of the same ranking, so 8 runs before 7, on fewer tokens. No filter sorts the whole vocabulary unless a nucleus
/// is as large.
#[derive(Debug)]
pub struct Sampler {
    candidates: Candidates,
    /// Raw logits of the tokens that steps 2 to 4 changed.
    changed: Vec<(u32, f32)>,
}

impl Sampler {
    /// A sampler for rows of `vocab_size` logits.
    pub fn new(vocab_size: usize) -> Self {
        let changed = vocab_size + MAX_STOP_TOKENS + MAX_LOGIT_BIAS_ENTRIES;
        Self { candidates: Candidates::new(vocab_size), changed: Vec::with_capacity(changed) }
    }

    /// Chooses the row's token. `logits` `[vocab_size]` are left changed.
    ///
    /// # Errors
    /// [`SampleError`]: a logit is no finite number, or every token is excluded.
    pub fn sample(&mut self, logits: &mut [f32], row: &SamplerRow<'_>) -> Result<SampledToken, SampleError> {
        Self::check(logits)?;
        let log_softmax = row.logprobs.map(|_| LogSoftmax::of(logits));
        let mut top_logprobs = top_logits(logits, usize::from(row.logprobs.unwrap_or(0)));
        self.change_logits(logits, row);
        let id = self.choose(logits, row).ok_or(SampleError::NoCandidate)?;
        let logprob = log_softmax.map(|log_softmax| {
            top_logprobs.iter_mut().for_each(|(_, logit)| *logit = log_softmax.logprob(*logit));
            log_softmax.logprob(self.raw_logit(logits, id))
        });
        Ok(SampledToken { id, logprob, top_logprobs })
    }

    /// Whether all logits of a row are finite numbers.
    ///
    /// # Errors
    /// [`SampleError::NonFinite`] names the first that is not.
    pub fn check(logits: &[f32]) -> Result<(), SampleError> {
        // Without the sign, bits order like magnitudes, infinities and NaN last.
        let largest = logits.iter().fold(0, |largest, logit| logit.abs().to_bits().max(largest));
        if largest < f32::INFINITY.to_bits() {
            return Ok(());
        }
        let (token, &value) = (0_u32..)
            .zip(logits)
            .find(|(_, logit)| !logit.is_finite())
            .expect("some logit has the bits of an infinity or NaN");
        Err(SampleError::NonFinite { token, value })
    }

    /// Steps 2 to 4.
    fn change_logits(&mut self, logits: &mut [f32], row: &SamplerRow<'_>) {
        let params = row.params;
        self.changed.clear();
        // A bias is too small to carry a finite logit to an infinity; penalties are not.
        let mut change = |token: u32, new: &dyn Fn(f32) -> f32| {
            let logit = &mut logits[token as usize];
            self.changed.push((token, *logit));
            // An excluded token stays so; a finite one stays finite.
            if *logit > f32::NEG_INFINITY {
                *logit = new(*logit);
            }
        };
        if row.completion_tokens < params.min_tokens {
            row.stop_token_ids.iter().for_each(|&token| change(token, &|_| f32::NEG_INFINITY));
        }
        for &(token, bias) in &params.logit_bias {
            change(token, &|logit| logit + bias);
        }
        if params.uses_penalties() {
            for (token, count) in row.counts.iter() {
                change(token, &|logit| penalised(logit, params, count));
            }
        }
    }

    /// Steps 5 to 10.
    fn choose(&mut self, logits: &[f32], row: &SamplerRow<'_>) -> Option<u32> {
        let params = row.params;
        let (best, max_logit) = largest(logits)?;
        if params.temperature == 0.0 {
            return Some(best);
        }
        self.candidates.fill(logits);
        self.candidates.keep_top_k(params.top_k as usize);
        self.candidates.weigh(max_logit, params.temperature);
        self.candidates.keep_min_p(params.min_p);
        self.candidates.keep_top_p(params.top_p);
        self.candidates.draw(uniform(params.seed, row.position as u64))
    }

    fn raw_logit(&self, logits: &[f32], token: u32) -> f32 {
        match self.changed.iter().find(|(changed, _)| *changed == token) {
            Some(&(_, raw)) => raw,
            None => logits[token as usize],
        }
    }
}

/// The largest logit and its token, the lowest id on ties; none if all are −∞.
fn largest(logits: &[f32]) -> Option<(u32, f32)> {
    let mut best = (0, f32::NEG_INFINITY);
    for (id, &logit) in (0_u32..).zip(logits) {
        if logit > best.1 {
            best = (id, logit);
        }
    }
    (best.1 > f32::NEG_INFINITY).then_some(best)
}

fn penalised(logit: f32, params: &SamplingParams, count: counts::Count) -> f32 {
    let repetition = params.repetition_penalty;
    let mut logit = if logit > 0.0 { logit / repetition } else { logit * repetition };
    if count.output > 0 {
        logit -= params.frequency_penalty * count.output as f32;
        logit -= params.presence_penalty;
    }
    finite(logit)
}

fn finite(logit: f32) -> f32 {
    logit.clamp(f32::MIN, f32::MAX)
}
