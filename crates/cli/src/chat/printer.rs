//! Shows an answer while it is being written.

use std::borrow::Cow;
use std::io::{self, Write};

use crate::output::{Style, printable};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Nothing,
    Reasoning,
    Answer,
}

/// Prints reasoning (faint, if wanted) and then the answer; both may come in pieces.
pub(crate) struct AnswerPrinter<W> {
    out: W,
    style: Style,
    show_reasoning: bool,
    /// Leave control characters out: the reader is a terminal.
    only_printable: bool,
    phase: Phase,
    at_line_start: bool,
}

impl<W: Write> AnswerPrinter<W> {
    /// For a person at a terminal.
    pub(crate) fn for_terminal(out: W, style: Style, show_reasoning: bool) -> Self {
        Self { out, style, show_reasoning, only_printable: true, phase: Phase::Nothing, at_line_start: true }
    }

    /// For a program: the answer alone, each character of it.
    pub(crate) fn for_program(out: W) -> Self {
        let (style, phase) = (Style::PLAIN, Phase::Nothing);
        Self { out, style, show_reasoning: false, only_printable: false, phase, at_line_start: true }
    }

    /// The next piece of reasoning.
    ///
    /// # Errors
    /// What the output says.
    pub(crate) fn reasoning(&mut self, text: &str) -> io::Result<()> {
        if !self.show_reasoning || text.is_empty() {
            return Ok(());
        }
        self.enter(Phase::Reasoning)?;
        self.text(text)
    }

    /// The next piece of the answer.
    ///
    /// # Errors
    /// What the output says.
    pub(crate) fn answer(&mut self, text: &str) -> io::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        self.enter(Phase::Answer)?;
        self.text(text)
    }

    /// Ends the answer, finished or stopped: plain style, at the start of a line.
    ///
    /// # Errors
    /// What the output says.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        self.leave()?;
        self.out.flush()
    }

    fn enter(&mut self, phase: Phase) -> io::Result<()> {
        if self.phase == phase {
            return Ok(());
        }
        let first = self.phase == Phase::Nothing;
        self.leave()?;
        if !first {
            writeln!(self.out)?;
        }
        if phase == Phase::Reasoning {
            let label = if self.style.is_enabled() { "" } else { "(thinking) " };
            write!(self.out, "{}{label}", self.style.dim())?;
        }
        self.phase = phase;
        Ok(())
    }

    fn leave(&mut self) -> io::Result<()> {
        if self.phase == Phase::Reasoning {
            write!(self.out, "{}", self.style.reset())?;
        }
        if !self.at_line_start {
            writeln!(self.out)?;
            self.at_line_start = true;
        }
        Ok(())
    }

    fn text(&mut self, text: &str) -> io::Result<()> {
        let text = if self.only_printable { Cow::Owned(printable(text)) } else { Cow::Borrowed(text) };
        self.out.write_all(text.as_bytes())?;
        if let Some(last) = text.chars().next_back() {
            self.at_line_start = last == '\n';
        }
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Piece = (Phase, &'static str);

    fn print(printer: impl FnOnce(&mut Vec<u8>) -> AnswerPrinter<&mut Vec<u8>>, pieces: &[Piece]) -> String {
        let mut out = Vec::new();
        let mut printer = printer(&mut out);
        for (phase, text) in pieces {
            match phase {
                Phase::Reasoning => printer.reasoning(text).unwrap(),
                _ => printer.answer(text).unwrap(),
            }
        }
        printer.finish().unwrap();
        String::from_utf8(out).unwrap()
    }

    fn print_in_colour(pieces: &[Piece]) -> String {
        print(|out| AnswerPrinter::for_terminal(out, Style::COLOUR, true), pieces)
    }

    const PIECES: [Piece; 4] = [
        (Phase::Reasoning, "The user "),
        (Phase::Reasoning, "asks."),
        (Phase::Answer, "Hel"),
        (Phase::Answer, "lo."),
    ];

    #[test]
    fn reasoning_is_faint_and_apart() {
        assert_eq!(print_in_colour(&PIECES), "\x1b[2mThe user asks.\x1b[0m\n\nHello.\n");
    }

    #[test]
    fn reasoning_without_colour_is_labelled() {
        assert_eq!(
            print(|out| AnswerPrinter::for_terminal(out, Style::PLAIN, true), &PIECES),
            "(thinking) The user asks.\n\nHello.\n"
        );
    }

    #[test]
    fn terminal_gets_no_control_characters_and_a_program_gets_all() {
        let pieces = [(Phase::Answer, "a\x1b[2Jb\n")];
        assert_eq!(print_in_colour(&pieces), "a[2Jb\n");
        assert_eq!(print(|out| AnswerPrinter::for_program(out), &pieces), "a\x1b[2Jb\n");
    }

    #[test]
    fn plain_output_is_the_answer_alone() {
        assert_eq!(print(|out| AnswerPrinter::for_program(out), &PIECES), "Hello.\n");
    }

    #[test]
    fn stopped_reasoning_leaves_plain_style() {
        assert_eq!(print_in_colour(&PIECES[..1]), "\x1b[2mThe user \x1b[0m\n");
        assert_eq!(print_in_colour(&[]), "");
    }
}
