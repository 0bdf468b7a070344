//! The tokens that may be drawn, and the filters that thin them out.

use std::cmp::Ordering;

/// A token that may be drawn.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    logit: f32,
    /// `exp((logit - max) / temperature)`: the probability, but for a factor that all share.
    weight: f32,
    id: u32,
}

/// More probable first, lower id first on ties: a total order, since logits are finite.
fn by_rank(a: &Candidate, b: &Candidate) -> Ordering {
    b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id))
}

/// First guess of how many tokens a nucleus holds; grown fourfold where it holds more.
const NUCLEUS_CHUNK: usize = 256;

/// Scratch for one row; holds the capacity for a whole vocabulary.
#[derive(Debug)]
pub(super) struct Candidates {
    entries: Vec<Candidate>,
}

impl Candidates {
    pub(super) fn new(vocab_size: usize) -> Self {
        Self { entries: Vec::with_capacity(vocab_size) }
    }

    /// Takes the tokens whose logits are not −∞, in order of id.
    pub(super) fn fill(&mut self, logits: &[f32]) {
        self.entries.clear();
        let tokens = (0_u32..).zip(logits).filter(|(_, logit)| **logit > f32::NEG_INFINITY);
        // Adding 0 turns −0 into 0, so that both rank the same.
        self.entries.extend(tokens.map(|(id, &logit)| Candidate { logit: logit + 0.0, weight: 0.0, id }));
    }

    /// Keeps the `k` most probable tokens, in order of rank; 0 keeps all.
    pub(super) fn keep_top_k(&mut self, k: usize) {
        if k == 0 || k >= self.entries.len() {
            return;
        }
        self.entries.select_nth_unstable_by(k - 1, by_rank);
        self.entries.truncate(k);
        self.entries.sort_unstable_by(by_rank);
    }

    /// Computes the weights; the most probable token weighs 1.
    pub(super) fn weigh(&mut self, max_logit: f32, temperature: f32) {
        for candidate in &mut self.entries {
            candidate.weight = ((candidate.logit - max_logit) / temperature).exp();
        }
    }

    /// Keeps tokens at least `min_p` as probable as the most probable one.
    pub(super) fn keep_min_p(&mut self, min_p: f32) {
        if min_p > 0.0 {
            self.entries.retain(|candidate| candidate.weight >= min_p);
        }
    }

    /// Keeps the fewest most probable tokens that together weigh at least `top_p` of all, in order of rank; at
    /// least one. 1 keeps all.
    pub(super) fn keep_top_p(&mut self, top_p: f32) {
        if top_p >= 1.0 {
            return;
        }
        let target = f64::from(top_p) * self.total_weight();
        let (mut sorted, mut sum, mut chunk) = (0, 0.0, NUCLEUS_CHUNK);
        while sorted < self.entries.len() {
            let end = self.entries.len().min(sorted + chunk);
            if end < self.entries.len() {
                self.entries[sorted..].select_nth_unstable_by(end - sorted - 1, by_rank);
            }
            self.entries[sorted..end].sort_unstable_by(by_rank);
            for place in sorted..end {
                sum += f64::from(self.entries[place].weight);
                if sum >= target {
                    return self.entries.truncate(place + 1);
                }
            }
            (sorted, chunk) = (end, chunk * 4);
        }
    }

    /// The token where the running sum of weights passes `uniform` of the total; none of no candidates.
    pub(super) fn draw(&self, uniform: f64) -> Option<u32> {
        let target = uniform * self.total_weight();
        let mut sum = 0.0;
        for candidate in &self.entries {
            sum += f64::from(candidate.weight);
            if sum > target {
                return Some(candidate.id);
            }
        }
        // Rounding may leave the sum just at the target: the last token with any weight.
        self.entries.iter().rfind(|candidate| candidate.weight > 0.0).map(|candidate| candidate.id)
    }

    fn total_weight(&self) -> f64 {
        self.entries.iter().map(|candidate| f64::from(candidate.weight)).sum()
    }
}
