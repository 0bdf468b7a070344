//! Stop strings in a stream of text.

/// Finds the first of several strings in text that arrives in pieces, and holds back what may be its beginning.
#[derive(Debug, Clone)]
pub(crate) struct StopMatcher {
    stops: Vec<String>,
    /// Text not yet released: a suffix of the text so far that is a proper prefix of a stop string.
    held: String,
}

/// What a piece of text leads to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// No stop string so far; this much more text is safe to release.
    No(String),
    /// A stop string was found; this is the last text, the stop string and what follows left out.
    Yes(String),
}

impl StopMatcher {
    /// A matcher of `stops`, none of which is empty.
    pub(crate) fn new(stops: &[String]) -> StopMatcher {
        assert!(stops.iter().all(|stop| !stop.is_empty()), "validation refuses empty stop strings");
        StopMatcher { stops: stops.to_vec(), held: String::new() }
    }

    /// Takes the next piece of text. The earliest match counts.
    pub(crate) fn push(&mut self, text: &str) -> Stopped {
        self.held.push_str(text);
        if let Some(at) = self.stops.iter().filter_map(|stop| self.held.find(&**stop)).min() {
            self.held.truncate(at);
            return Stopped::Yes(std::mem::take(&mut self.held));
        }
        let kept = self.stops.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0);
        let released = self.held.len() - kept;
        let kept = self.held.split_off(released);
        Stopped::No(std::mem::replace(&mut self.held, kept))
    }

    /// Ends a text: what was held back can't become a stop string any more.
    pub(crate) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// Length in bytes of the longest suffix of `text` that is a proper prefix of `stop`.
fn overlap(text: &str, stop: &str) -> usize {
    let longest = text.len().min(stop.len() - 1);
    (1..=longest).rev().find(|&n| text.as_bytes().ends_with(&stop.as_bytes()[..n])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Text up to the first stop string, found without streaming.
    fn oracle<'a>(text: &'a str, stops: &[String]) -> &'a str {
        let end = stops.iter().filter_map(|stop| text.find(&**stop)).min().unwrap_or(text.len());
        &text[..end]
    }

    fn stream(pieces: impl Iterator<Item = String>, stops: &[String]) -> String {
        let mut matcher = StopMatcher::new(stops);
        let mut out = String::new();
        for piece in pieces {
            match matcher.push(&piece) {
                Stopped::No(text) => out += &text,
                Stopped::Yes(text) => return out + &text,
            }
        }
        out + &matcher.finish()
    }

    #[test]
    fn result_does_not_depend_on_how_the_text_is_cut() {
        let text = "aabaaab яблоко ab\n\nUser: aaab 🦀🦀";
        let sets: &[&[&str]] = &[
            &["aaab"],
            &["ab", "aab"],
            &["\n\nUser:"],
            &["блок", "око"],
            &["🦀🦀"],
            &["🦀", "zz"],
            &["zzz"],
            &["a"],
            &[],
            &["aabaaab яблоко ab\n\nUser: aaab 🦀🦀!"],
        ];
        for stops in sets {
            let stops: Vec<String> = stops.iter().map(|stop| stop.to_string()).collect();
            let chars: Vec<char> = text.chars().collect();
            for size in 1..=chars.len() {
                let pieces = chars.chunks(size).map(|chunk| chunk.iter().collect());
                assert_eq!(stream(pieces, &stops), oracle(text, &stops), "{stops:?} in pieces of {size}");
            }
        }
    }

    #[test]
    fn only_what_may_begin_a_stop_string_is_held_back() {
        let mut matcher = StopMatcher::new(&["END".into(), "яя".into()]);
        assert_eq!(matcher.push("the E"), Stopped::No("the ".into()));
        assert_eq!(matcher.push("X я"), Stopped::No("EX ".into()));
        assert_eq!(matcher.push("б EN"), Stopped::No("яб ".into()));
        assert_eq!(matcher.push("DING"), Stopped::Yes(String::new()));
    }
}
