//! What is asked: prompts and lengths, drawn from a seed. Request `i` depends on the seed and `i` alone.

use std::str::FromStr;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, RngExt, SeedableRng};
use rand_distr::{Distribution, LogNormal};
use serde_json::{Map, Value, json};

/// Longest prompt or answer that can be asked for, in tokens.
const MAX_TOKENS: u32 = 1 << 20;
/// A log-normal length is at most this many times its median.
const MAX_TIMES_MEDIAN: f64 = 16.0;
/// Words that are one token each, with the space before them, in most vocabularies.
const WORDS: [&str; 48] = [
    "time",
    "year",
    "people",
    "way",
    "day",
    "man",
    "thing",
    "woman",
    "life",
    "child",
    "world",
    "school",
    "state",
    "family",
    "student",
    "group",
    "country",
    "problem",
    "hand",
    "part",
    "place",
    "case",
    "week",
    "company",
    "system",
    "program",
    "question",
    "work",
    "government",
    "number",
    "night",
    "point",
    "home",
    "water",
    "room",
    "mother",
    "area",
    "money",
    "story",
    "fact",
    "month",
    "lot",
    "right",
    "study",
    "book",
    "eye",
    "job",
    "word",
];

/// A distribution of lengths in tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Length {
    /// Always this.
    Fixed(u32),
    /// Each from the first to the second is as likely.
    Uniform(u32, u32),
    /// Log-normal with this median and this standard deviation of the logarithm.
    LogNormal(u32, f64),
}

impl FromStr for Length {
    type Err = String;

    /// `N`, `A-B` or `lognormal:MEDIAN:SIGMA`.
    fn from_str(text: &str) -> Result<Length, String> {
        let count = |text: &str| match text.parse() {
            Ok(count @ 1..=MAX_TOKENS) => Ok(count),
            _ => Err(format!("{text:?} is not a number from 1 to {MAX_TOKENS}")),
        };
        if let Some(rest) = text.strip_prefix("lognormal:") {
            let (median, sigma) = rest.split_once(':').ok_or("expected lognormal:MEDIAN:SIGMA")?;
            return match sigma.parse() {
                Ok(sigma) if (0.0..=4.0).contains(&sigma) => Ok(Self::LogNormal(count(median)?, sigma)),
                _ => Err(format!("{sigma:?} is not a number from 0 to 4")),
            };
        }
        match text.split_once('-') {
            None => count(text).map(Self::Fixed),
            Some((low, high)) => {
                let (low, high) = (count(low)?, count(high)?);
                if low > high {
                    Err(format!("{low} is more than {high}"))
                } else {
                    Ok(Self::Uniform(low, high))
                }
            }
        }
    }
}

impl std::fmt::Display for Length {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fixed(count) => write!(f, "{count}"),
            Self::Uniform(low, high) => write!(f, "{low}-{high}"),
            Self::LogNormal(median, sigma) => write!(f, "lognormal:{median}:{sigma}"),
        }
    }
}

impl Length {
    fn draw(self, rng: &mut impl Rng) -> u32 {
        match self {
            Self::Fixed(count) => count,
            Self::Uniform(low, high) => rng.random_range(low..=high),
            Self::LogNormal(median, sigma) => {
                let median = f64::from(median);
                let drawn = LogNormal::new(median.ln(), sigma).map_or(median, |normal| normal.sample(rng));
                drawn.clamp(1.0, (median * MAX_TIMES_MEDIAN).min(f64::from(MAX_TOKENS))).round() as u32
            }
        }
    }
}

/// What requests ask.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    /// Name of the model.
    pub(crate) model: String,
    /// Seed of everything.
    pub(crate) seed: u64,
    /// Words of the prompt after the shared ones, about as many tokens.
    pub(crate) prompt: Length,
    /// Words that all prompts begin with.
    pub(crate) shared_prefix: u32,
    /// `max_completion_tokens`.
    pub(crate) answer: Length,
    /// Sampling temperature; the server's if absent.
    pub(crate) temperature: Option<f64>,
    /// Further fields of every request.
    pub(crate) extra: Map<String, Value>,
}

impl Workload {
    /// Body of the request with this number, for a streamed answer.
    pub(crate) fn request(&self, index: u64) -> Value {
        let mut rng = generator(self.seed, index.wrapping_add(1));
        let mut prompt = words(&mut generator(self.seed, 0), self.shared_prefix);
        let own_words = self.prompt.draw(&mut rng);
        prompt.push_str(&words(&mut rng, own_words));
        let mut request = json!({
            "model": self.model,
            "messages": [{"role": "user", "content": prompt.trim_start()}],
            "max_completion_tokens": self.answer.draw(&mut rng),
            "seed": rng.random::<u32>(),
            "stream": true,
            "stream_options": {"include_usage": true},
        });
        if let Some(temperature) = self.temperature {
            request["temperature"] = json!(temperature);
        }
        for (key, value) in &self.extra {
            request[key] = value.clone();
        }
        request
    }
}

/// A generator for the part `part` of what follows from `seed`.
pub(crate) fn generator(seed: u64, part: u64) -> Xoshiro256PlusPlus {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(&part.to_le_bytes());
    // The seed of this generator must not be all zeros, and should not be nearly so.
    bytes[16..].copy_from_slice(b"sostenuto bench ");
    let mut rng = Xoshiro256PlusPlus::from_seed(bytes);
    for _ in 0..16 {
        rng.next_u64();
    }
    rng
}

fn words(rng: &mut impl Rng, count: u32) -> String {
    let mut text = String::new();
    for _ in 0..count {
        text.push(' ');
        text.push_str(WORDS[rng.random_range(0..WORDS.len())]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(seed: u64) -> Workload {
        Workload {
            model: "m".into(),
            seed,
            prompt: Length::Uniform(4, 9),
            shared_prefix: 5,
            answer: Length::LogNormal(20, 0.5),
            temperature: None,
            extra: Map::new(),
        }
    }

    #[test]
    fn request_follows_from_seed_and_number() {
        assert_eq!(workload(1).request(7), workload(1).request(7));
        assert_ne!(workload(1).request(7), workload(1).request(8));
        assert_ne!(workload(1).request(7), workload(2).request(7));
    }

    #[test]
    fn prompts_share_their_first_words_and_have_the_asked_lengths() {
        let prompt = |index| {
            let request = workload(3).request(index);
            request["messages"][0]["content"]
                .as_str()
                .unwrap()
                .split(' ')
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let mut lengths: Vec<usize> = (0..200).map(|index| prompt(index).len()).collect();
        assert!((0..200).all(|index| prompt(index)[..5] == prompt(0)[..5]));
        lengths.sort_unstable();
        lengths.dedup();
        assert_eq!(lengths, (9..=14).collect::<Vec<_>>());
    }

    #[test]
    fn log_normal_lengths_have_their_median_and_bounds() {
        let mut rng = generator(1, 1);
        let mut drawn: Vec<u32> = (0..4001).map(|_| Length::LogNormal(100, 1.0).draw(&mut rng)).collect();
        drawn.sort_unstable();
        assert!((85..=115).contains(&drawn[2000]), "median {}", drawn[2000]);
        assert!(drawn[0] >= 1 && drawn[4000] <= 1600);
    }

    #[test]
    fn lengths_are_read_and_wrong_ones_refused() {
        for text in ["1", "4-9", "lognormal:256:0.8"] {
            assert_eq!(text.parse::<Length>().unwrap().to_string(), text);
        }
        for text in ["", "0", "-1", "9-4", "x", "1-", "lognormal:8", "lognormal:8:9", "99999999"] {
            assert!(text.parse::<Length>().is_err(), "{text}");
        }
    }
}
