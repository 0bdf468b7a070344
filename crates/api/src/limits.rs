//! Every bound on what a client may send, in one place.
//!
//! `docs/api.md` shows these tables; a test of the server compares them with this file. Each row is tested at
//! one below, at, and one above its value, and far beyond.

/// An upper bound on a size, count, depth or time.
#[derive(Debug, PartialEq, Eq)]
pub struct Limit {
    /// Name, unique in the table.
    pub name: &'static str,
    /// Largest allowed value.
    pub max: u64,
    /// What `max` counts.
    pub unit: &'static str,
    /// HTTP status of the answer beyond it; 0 where the connection is closed without an answer.
    pub status: u16,
    /// `code` of the error object beyond it; empty where the connection is closed without an answer.
    pub code: &'static str,
    /// What it bounds.
    pub about: &'static str,
}

macro_rules! limits {
    ($($ident:ident: $name:literal, $max:expr, $unit:literal, $status:literal, $code:literal, $about:literal;)*) => {
        $(#[doc = $about]
        pub static $ident: Limit = Limit {
            name: $name, max: $max, unit: $unit, status: $status, code: $code, about: $about,
        };)*
        /// All rows, in the order of the documentation.
        pub static LIMITS: &[&Limit] = &[$(&$ident),*];
    };
}

limits! {
    CONNECTIONS: "connections", 4_096, "connections", 0, "", "Open connections; further ones wait to be accepted.";
    HEADER_BYTES: "header_bytes", 32 * 1024, "bytes", 431, "", "Request line and header fields together.";
    HEADER_FIELDS: "header_fields", 64, "fields", 431, "", "Header fields of a request.";
    HEADER_SECONDS: "header_seconds", 10, "seconds", 0, "", "From the connection's opening, or the end of the answer before, to the end of a request's header.";
    BODY_BYTES: "body_bytes", 4 * 1024 * 1024, "bytes", 413, "request_too_large", "The request body.";
    BODY_SECONDS: "body_seconds", 30, "seconds", 408, "request_timeout", "From the end of the header to the end of the body.";
    WRITE_STALL_SECONDS: "write_stall_seconds", 30, "seconds", 0, "", "A client that reads nothing while there is something to send.";
    STREAM_BACKLOG_TOKENS: "stream_backlog_tokens", 8_192, "tokens", 0, "slow_reader", "Tokens of an answer that its reader has yet to take; beyond it the stream ends with the error `slow_reader`.";
    JSON_DEPTH: "json_depth", 64, "levels of nesting", 400, "json_too_deep", "Nesting of arrays and objects in the body.";
    MESSAGES: "messages", 4_096, "messages", 400, "array_above_max_length", "Messages of a request.";
    CONTENT_PARTS: "content_parts", 4_096, "parts", 400, "array_above_max_length", "Parts of one message's content.";
    TOOL_CALLS: "tool_calls", 128, "tool calls", 400, "array_above_max_length", "Tool calls of one assistant message.";
    TOOLS: "tools", 128, "tools", 400, "array_above_max_length", "Tools of a request.";
    TOOL_NAME_CHARS: "tool_name_chars", 256, "characters", 400, "string_above_max_length", "A function's name.";
    TOOL_SCHEMA_BYTES: "tool_schema_bytes", 256 * 1024, "bytes", 400, "schema_too_large", "A function's `parameters`, as compact JSON.";
    TOOL_SCHEMA_DEPTH: "tool_schema_depth", 32, "levels of nesting", 400, "schema_too_deep", "A function's `parameters`.";
    STOP_STRINGS: "stop_strings", 16, "stop strings", 400, "array_above_max_length", "Stop strings of a request.";
    STOP_STRING_BYTES: "stop_string_bytes", 256, "bytes", 400, "string_above_max_length", "One stop string.";
    LOGIT_BIAS: "logit_bias", 1_024, "entries", 400, "object_above_max_properties", "Entries of `logit_bias`.";
}

/// An interval that a number of the request must lie in.
#[derive(Debug, PartialEq)]
pub struct Range {
    /// Name of the field.
    pub name: &'static str,
    /// Smallest value.
    pub min: f64,
    /// Whether `min` itself is excluded.
    pub min_excluded: bool,
    /// Largest value, included.
    pub max: f64,
    /// Whether only whole numbers are allowed.
    pub whole: bool,
    /// What holds when the field is absent.
    pub default: &'static str,
}

macro_rules! ranges {
    ($($ident:ident: $name:literal, $open:ident $min:expr, $max:expr, $whole:ident, $default:literal;)*) => {
        $(#[doc = concat!("Interval of `", $name, "`.")]
        pub static $ident: Range = Range {
            name: $name, min: $min, min_excluded: excluded!($open), max: $max, whole: whole!($whole), default: $default,
        };)*
        /// All intervals, in the order of the documentation.
        pub static RANGES: &[&Range] = &[$(&$ident),*];
    };
}

macro_rules! excluded {
    (above) => {
        true
    };
    (from) => {
        false
    };
}

macro_rules! whole {
    (whole) => {
        true
    };
    (real) => {
        false
    };
}

ranges! {
    N: "n", from 1.0, 8.0, whole, "1";
    MAX_TOKENS: "max_completion_tokens", from 1.0, 4_294_967_295.0, whole, "the rest of the context";
    TEMPERATURE: "temperature", from 0.0, 2.0, real, "1";
    TOP_P: "top_p", above 0.0, 1.0, real, "1";
    TOP_K: "top_k", from -1.0, 4_294_967_295.0, whole, "0 (off, as is -1)";
    MIN_P: "min_p", from 0.0, 1.0, real, "0 (off)";
    PRESENCE_PENALTY: "presence_penalty", from -2.0, 2.0, real, "0";
    FREQUENCY_PENALTY: "frequency_penalty", from -2.0, 2.0, real, "0";
    REPETITION_PENALTY: "repetition_penalty", above 0.0, 2.0, real, "1";
    LOGIT_BIAS_VALUE: "logit_bias value", from -100.0, 100.0, real, "0";
    TOP_LOGPROBS: "top_logprobs", from 0.0, 20.0, whole, "0";
    PRIORITY: "priority", from -1000.0, 1000.0, whole, "0";
    TIMEOUT: "timeout", above 0.0, 86400.0, real, "none";
}

impl Range {
    /// Whether `value` lies in the interval.
    pub fn contains(&self, value: f64) -> bool {
        let above = if self.min_excluded { value > self.min } else { value >= self.min };
        above && value <= self.max && (!self.whole || value.fract() == 0.0)
    }

    /// The rule in words, completing "must be …".
    pub fn rule(&self) -> String {
        let kind = if self.whole { "a whole number" } else { "a number" };
        let from = if self.min_excluded { "greater than" } else { "from" };
        let to = if self.min_excluded { "and at most" } else { "to" };
        format!("{kind} {from} {} {to} {}", self.min, self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = LIMITS.iter().map(|l| l.name).chain(RANGES.iter().map(|r| r.name)).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        // `logit_bias` counts entries in one table and is "logit_bias value" in the other.
        assert_eq!(names.len(), count);
    }

    #[test]
    fn interval_ends_are_inside_unless_excluded() {
        for range in RANGES {
            assert_eq!(range.contains(range.min), !range.min_excluded, "{}", range.name);
            assert!(range.contains(range.max), "{}", range.name);
            assert!(!range.contains(range.max + 1.0) && !range.contains(range.min - 1.0), "{}", range.name);
            assert!(!range.contains(f64::NAN) && !range.contains(f64::INFINITY), "{}", range.name);
            assert_eq!(range.contains(range.min + 0.5), !range.whole, "{}", range.name);
        }
    }
}
