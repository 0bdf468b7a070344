//! The date that the model is told.

use std::str::FromStr;

use sostenuto_server::{Clock, SystemClock, utc_date};

/// A date, `2026-11-23`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Date(String);

impl Date {
    /// Today's, UTC.
    pub(crate) fn today() -> Date {
        Date(utc_date(SystemClock.unix_seconds()))
    }

    /// As text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Date {
    type Err = String;

    fn from_str(text: &str) -> Result<Date, String> {
        let shape = text.len() == 10
            && text
                .bytes()
                .enumerate()
                .all(|(at, byte)| if at == 4 || at == 7 { byte == b'-' } else { byte.is_ascii_digit() });
        let part = |range| text.get(range).and_then(|digits: &str| digits.parse::<u32>().ok()).unwrap_or(0);
        if shape && (1..=12).contains(&part(5..7)) && (1..=31).contains(&part(8..10)) {
            return Ok(Date(text.to_owned()));
        }
        Err("expected a date as YYYY-MM-DD".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_have_one_form() {
        assert_eq!("2026-11-23".parse::<Date>().unwrap().as_str(), "2026-11-23");
        for wrong in
            ["2026-13-01", "2026-00-01", "2026-01-32", "2026-1-1", "26-11-2300", "2026-11-23 ", "heute", ""]
        {
            assert!(wrong.parse::<Date>().is_err(), "{wrong}");
        }
    }
}
