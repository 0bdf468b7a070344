//! Logprobs of raw logits.

/// The normalisation of one row: `logprob = logit − max − ln Σ exp(logit − max)`.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogSoftmax {
    max: f32,
    /// `ln Σ exp(logit − max)`, summed in f64 in order of id.
    log_sum: f64,
}

impl LogSoftmax {
    pub(super) fn of(logits: &[f32]) -> Self {
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = logits.iter().map(|&logit| f64::from((logit - max).exp())).sum();
        Self { max, log_sum: sum.ln() }
    }

    pub(super) fn logprob(self, logit: f32) -> f32 {
        (f64::from(logit) - f64::from(self.max) - self.log_sum) as f32
    }
}

/// The `n` largest logits with their tokens, largest first, lower id first on ties. For small `n`: each token is compared
/// with the last one kept, and few are inserted.
pub(super) fn top_logits(logits: &[f32], n: usize) -> Vec<(u32, f32)> {
    let mut top: Vec<(u32, f32)> = Vec::with_capacity(n);
    if n == 0 {
        return top;
    }
    for (id, &logit) in (0_u32..).zip(logits) {
        if top.len() == n && logit <= top[n - 1].1 {
            continue;
        }
        let place = top.partition_point(|&(_, kept)| kept >= logit);
        top.truncate(n - 1);
        top.insert(place, (id, logit));
    }
    top
}
