//! How numbers and text are shown.

use std::env;
use std::io::{self, IsTerminal, Write};

use indicatif::{ProgressBar, ProgressStyle};
use sostenuto_model::MemoryPlan;

/// Bytes in decimal units, three figures: `13.8 GB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    if count < 1000 {
        return format!("{count} B");
    }
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let decimals = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.decimals$} {}", UNITS[unit])
}

/// A count with thin groups of three: `201,088`.
pub(crate) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A parameter count as people say it: `20.9B`, `4.1M`.
pub(crate) fn parameters(count: u64) -> String {
    match count {
        1_000_000_000.. => format!("{:.1}B", count as f64 / 1e9),
        1_000_000.. => format!("{:.1}M", count as f64 / 1e6),
        _ => grouped(count),
    }
}

/// Escape sequences of the terminal, or nothing where they are not wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Style {
    enabled: bool,
}

impl Style {
    /// No escape sequences.
    pub(crate) const PLAIN: Style = Style { enabled: false };
    /// Escape sequences.
    #[cfg(test)]
    pub(crate) const COLOUR: Style = Style { enabled: true };

    /// Styled where standard output is a terminal and `NO_COLOR` is unset or empty.
    pub(crate) fn of_stdout() -> Style {
        Style { enabled: io::stdout().is_terminal() && colour_wanted() }
    }

    /// Styled where standard error is a terminal and `NO_COLOR` is unset or empty.
    pub(crate) fn of_stderr() -> Style {
        Style { enabled: io::stderr().is_terminal() && colour_wanted() }
    }

    /// Whether escape sequences are written.
    pub(crate) fn is_enabled(self) -> bool {
        self.enabled
    }

    /// Starts faint text.
    pub(crate) fn dim(self) -> &'static str {
        if self.enabled { "\x1b[2m" } else { "" }
    }

    /// Starts bold text.
    pub(crate) fn bold(self) -> &'static str {
        if self.enabled { "\x1b[1m" } else { "" }
    }

    /// Back to plain text.
    pub(crate) fn reset(self) -> &'static str {
        if self.enabled { "\x1b[0m" } else { "" }
    }
}

fn colour_wanted() -> bool {
    env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && env::var_os("TERM").is_none_or(|value| value != "dumb")
}

/// A bar of bytes on standard error where that is a terminal.
pub(crate) fn byte_progress_bar(length: u64) -> ProgressBar {
    progress_bar(length, "{bar:40} {percent:>3} %  {bytes} of {total_bytes}  {bytes_per_sec}  {eta}")
}

/// A bar in the form of `template` on standard error where that is a terminal.
pub(crate) fn progress_bar(length: u64, template: &str) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length).with_style(style)
}

/// A plan's rows, without empty ones, and their sum.
pub(crate) fn write_memory_plan(out: &mut impl Write, plan: &MemoryPlan) -> io::Result<()> {
    for row in plan.rows.iter().filter(|row| row.bytes > 0) {
        writeln!(out, "  {:<20} {:>8}  {}", row.purpose, bytes(row.bytes as u64), row.detail)?;
    }
    writeln!(out, "  {:<20} {:>8}", "total", bytes(plan.total_bytes() as u64))
}

/// `text` without the control characters that could move a terminal's cursor, change its title or worse. Newline and
/// tab stay. A model's output is strangers' text.
pub(crate) fn printable(text: &str) -> String {
    text.chars().filter(|&c| matches!(c, '\n' | '\t') || !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_three_figures() {
        let shown: Vec<String> =
            [0, 999, 1000, 1536, 9_994, 9_996, 999_499, 999_500, 13_761_264_768, u64::MAX].map(bytes).into();
        let expected =
            ["0 B", "999 B", "1.00 kB", "1.54 kB", "9.99 kB", "10.0 kB", "999 kB", "1.00 MB", "13.8 GB"];
        assert_eq!(&shown[..expected.len()], expected);
        assert_eq!(shown[9], "18446744 TB");
    }

    #[test]
    fn counts_are_grouped_by_three() {
        assert_eq!(
            [0, 12, 123, 1234, 201_088, 1_000_000].map(grouped).join(" "),
            "0 12 123 1,234 201,088 1,000,000"
        );
    }

    #[test]
    fn escape_sequences_of_a_model_are_not_printed() {
        assert_eq!(printable("a\x1b[2Jb\tc\n\u{9b}31md\r\x07é"), "a[2Jb\tc\n31mdé");
    }
}
