//! Goals for an answer's times. Goodput counts the answers that meet all of them.

use std::str::FromStr;
use std::time::Duration;

use super::exchange::Answer;

/// One goal, as `KIND:MILLISECONDS`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Goal {
    kind: Kind,
    at_most: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    FirstToken,
    PerOutputToken,
    Whole,
}

impl FromStr for Goal {
    type Err = String;

    fn from_str(text: &str) -> Result<Goal, String> {
        let (kind, ms) = text.split_once(':').ok_or("expected ttft:MS, tpot:MS or e2el:MS")?;
        let kind = match kind {
            "ttft" => Kind::FirstToken,
            "tpot" => Kind::PerOutputToken,
            "e2el" => Kind::Whole,
            _ => return Err(format!("{kind:?} is none of ttft, tpot, e2el")),
        };
        let seconds = ms.parse::<f64>().map_err(|_| format!("{ms:?} is not a number"))? / 1e3;
        let at_most = Duration::try_from_secs_f64(seconds).map_err(|_| format!("{ms:?} is not a time"))?;
        Ok(Goal { kind, at_most })
    }
}

/// All goals; none is met by every answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Goals(pub(crate) Vec<Goal>);

impl Goals {
    /// Whether an answer meets all. An answer of one token has no time per output token and meets any for it.
    pub(crate) fn are_met_by(&self, answer: &Answer) -> bool {
        self.0.iter().all(|goal| {
            let time = match goal.kind {
                Kind::FirstToken => answer.first,
                Kind::PerOutputToken => answer.per_output_token().unwrap_or_default(),
                Kind::Whole => answer.whole,
            };
            time <= goal.at_most
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::serve::chunk::Usage;

    #[test]
    fn answer_is_good_when_it_meets_every_goal() {
        let answer = Answer {
            first: Duration::from_millis(200),
            whole: Duration::from_millis(600),
            gaps: vec![Duration::from_millis(40); 10],
            usage: Usage { prompt_tokens: 1, completion_tokens: 11 },
        };
        let good = |goals: &[&str]| {
            Goals(goals.iter().map(|goal| goal.parse().unwrap()).collect()).are_met_by(&answer)
        };
        assert!(good(&[]) && good(&["ttft:200", "tpot:40", "e2el:600"]));
        assert!(!good(&["ttft:199"]) && !good(&["tpot:39.9"]) && !good(&["e2el:599", "ttft:1e9"]));
    }

    #[test]
    fn wrong_goals_are_refused() {
        for text in ["", "ttft", "ttft:", "ttft:x", "ttft:-1", "p99:5", "ttft:nan"] {
            assert!(text.parse::<Goal>().is_err(), "{text}");
        }
    }
}
