//! What users ask for: fresh prompts, shared system prompts, conversations that go on, branch and repeat.

use std::collections::VecDeque;
use std::time::Duration;

use sostenuto_engine::{BLOCK_SLOTS, GenerateRequest, SamplingParams};

use crate::model::VOCAB_SIZE;
use crate::rng::Rng;
use crate::scenario::Users;

/// Conversations that are remembered.
const REMEMBERED: usize = 12;

/// The token with which most requests end.
const STOP_TOKEN: u32 = 7;

/// A conversation that ended its turn.
#[derive(Clone, Debug)]
struct Conversation {
    key: u64,
    tokens: Vec<u32>,
}

/// Makes requests.
#[derive(Debug)]
pub(crate) struct Traffic {
    users: Users,
    /// Most tokens of a sequence.
    capacity: usize,
    /// Prompts that many requests begin with, whatever their key.
    shared: Vec<Vec<u32>>,
    past: VecDeque<Conversation>,
    rng: Rng,
}

impl Traffic {
    pub(crate) fn new(users: Users, capacity: usize, mut rng: Rng) -> Self {
        let mut shared = Vec::new();
        for _ in 0..3 {
            let count = rng.between(1, users.prompt_tokens);
            shared.push(random_tokens(&mut rng, count));
        }
        Self { users, capacity, shared, past: VecDeque::new(), rng }
    }

    /// How many requests arrive before a step, with so many open.
    pub(crate) fn arrivals(&mut self, open: usize) -> usize {
        if self.rng.one_in(60) {
            return self.users.burst;
        }
        let wanted = self.users.open_requests;
        usize::from(open < wanted && self.rng.one_in(2))
    }

    /// Remembers a conversation at the end of its turn.
    pub(crate) fn remember(&mut self, key: u64, tokens: &[u32]) {
        if self.past.len() == REMEMBERED {
            self.past.pop_front();
        }
        self.past.push_back(Conversation { key, tokens: tokens.to_vec() });
    }

    /// The next request.
    pub(crate) fn next_request(&mut self) -> GenerateRequest {
        let (key, mut prompt) = self.key_and_prompt();
        prompt.truncate(self.capacity - 1);
        let rng = &mut self.rng;
        let max_tokens = rng.between(1, self.users.max_tokens);
        let spread = self.users.priority_spread;
        GenerateRequest {
            stop_token_ids: if rng.one_in(3) { Vec::new() } else { vec![STOP_TOKEN] },
            sampling: sampling(rng, max_tokens),
            key,
            priority: rng.below(2 * spread as usize + 1) as i32 - spread,
            timeout: timeout(rng, self.users.deadlines),
            ..GenerateRequest::greedy(prompt, max_tokens)
        }
    }

    fn key_and_prompt(&mut self) -> (u64, Vec<u32>) {
        let rng = &mut self.rng;
        let random_key = rng.below(self.users.keys) as u64;
        let more = rng.between(1, self.users.prompt_tokens);
        let kind = rng.below(8);
        if kind < 2 || self.past.is_empty() {
            return (random_key, random_tokens(rng, more));
        }
        if kind < 4 {
            let mut prompt = self.shared[rng.below(self.shared.len())].clone();
            prompt.extend(random_tokens(rng, more / 2));
            return (random_key, prompt);
        }
        let place = rng.below(self.past.len());
        let Conversation { key, mut tokens } = self.past[place].clone();
        match kind {
            // The same again, perhaps from another key.
            4 => (if rng.one_in(2) { random_key } else { key }, tokens),
            // The same beginning, another end.
            5 => {
                tokens.truncate(rng.between(1, tokens.len()));
                if rng.one_in(2) {
                    // At the end of a block.
                    tokens.truncate((tokens.len() / BLOCK_SLOTS).max(1) * BLOCK_SLOTS);
                }
                tokens.extend(random_tokens(rng, more / 2));
                (key, tokens)
            }
            // The next turn.
            _ => {
                tokens.extend(random_tokens(rng, 1 + more / 8));
                (key, tokens)
            }
        }
    }
}

fn random_tokens(rng: &mut Rng, count: usize) -> Vec<u32> {
    (0..count).map(|_| rng.below(VOCAB_SIZE) as u32).collect()
}

fn sampling(rng: &mut Rng, max_tokens: usize) -> SamplingParams {
    let plain = SamplingParams::greedy();
    match rng.below(16) {
        0 => SamplingParams { temperature: 1.0, seed: rng.next(), ..plain },
        1 => SamplingParams { frequency_penalty: 1.5, repetition_penalty: 1.2, ..plain },
        2 => SamplingParams { min_tokens: rng.between(1, max_tokens), ..plain },
        _ => plain,
    }
}

fn timeout(rng: &mut Rng, deadlines: usize) -> Option<Duration> {
    (deadlines > 0 && rng.one_in(deadlines)).then(|| Duration::from_millis(rng.below(80) as u64))
}
