//! JSON lines: one request and one answer a line, in order.

use std::io::{self, BufRead, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::error::CliError;

/// Bytes of a line that are read at most.
const MAX_LINE_BYTES: u64 = 64 << 20;

/// Answers every line of standard input on standard output. A line that cannot be answered gets
/// `{"error":{"message":…,"line":…}}` and the next is read; at the end that is an error.
pub(crate) fn answer_stdin<Request: DeserializeOwned, Answer: Serialize>(
    answer: impl FnMut(Request) -> Result<Answer, CliError>,
) -> Result<(), CliError> {
    let (lines, failed) = answer_lines(io::stdin().lock(), io::stdout().lock(), MAX_LINE_BYTES, answer)?;
    if failed > 0 {
        return Err(CliError::new(format!("{failed} of {lines} lines could not be answered")));
    }
    Ok(())
}

/// Gives the number of lines and how many of them failed. Empty lines are skipped.
fn answer_lines<Request: DeserializeOwned, Answer: Serialize>(
    mut input: impl BufRead,
    mut output: impl Write,
    max_line_bytes: u64,
    mut answer: impl FnMut(Request) -> Result<Answer, CliError>,
) -> Result<(usize, usize), CliError> {
    let (mut number, mut answered, mut failed) = (0, 0, 0);
    let mut line = Vec::new();
    loop {
        line.clear();
        if input.by_ref().take(max_line_bytes + 1).read_until(b'\n', &mut line)? == 0 {
            return Ok((answered, failed));
        }
        number += 1;
        let too_long = line.len() as u64 > max_line_bytes && line.last() != Some(&b'\n');
        if too_long {
            skip_line(&mut input)?;
        } else if line.trim_ascii().is_empty() {
            continue;
        }
        answered += 1;
        let result = if too_long {
            Err(CliError::new(format!("the line is longer than {max_line_bytes} bytes")))
        } else {
            serde_json::from_slice(&line).map_err(CliError::from).and_then(&mut answer)
        };
        match result {
            Ok(value) => serde_json::to_writer(&mut output, &value).map_err(io::Error::from)?,
            Err(CliError::Message(message)) => {
                failed += 1;
                let error = json!({"error": {"message": message, "line": number}});
                serde_json::to_writer(&mut output, &error).map_err(io::Error::from)?;
            }
            Err(other) => return Err(other),
        }
        output.write_all(b"\n")?;
        output.flush()?;
    }
}

fn skip_line(input: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = input.fill_buf()?;
        if buffer.is_empty() {
            return Ok(());
        }
        let newline = buffer.iter().position(|&byte| byte == b'\n');
        let used = newline.map_or(buffer.len(), |at| at + 1);
        input.consume(used);
        if newline.is_some() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(input: &str, max_line_bytes: u64) -> (String, usize, usize) {
        let mut output = Vec::new();
        let double = |n: u32| n.checked_mul(2).ok_or_else(|| CliError::new("too large to double"));
        let (lines, failed) = answer_lines(input.as_bytes(), &mut output, max_line_bytes, double).unwrap();
        (String::from_utf8(output).unwrap(), lines, failed)
    }

    #[test]
    fn bad_line_is_answered_with_an_error_and_the_next_is_read() {
        let (output, lines, failed) = run("1\n\n\"x\"\n4294967295\n3", 100);
        let lines_out: Vec<&str> = output.lines().collect();
        assert_eq!(lines_out[0], "2");
        assert!(lines_out[1].contains(r#""line":3"#) && lines_out[1].contains("expected u32"), "{output}");
        let error: serde_json::Value = serde_json::from_str(lines_out[2]).unwrap();
        assert_eq!(error, json!({"error": {"message": "too large to double", "line": 4}}));
        assert_eq!(lines_out[3], "6");
        assert_eq!((lines_out.len(), lines, failed), (4, 4, 2));
    }

    #[test]
    fn line_at_the_limit_is_read_and_one_byte_more_is_refused() {
        assert_eq!(run("1234\n5\n", 4).0, "2468\n10\n");
        assert_eq!(run("1234", 4).0, "2468\n");
        let (output, lines, failed) = run("12345\n5\n", 4);
        assert!(output.contains("longer than 4 bytes") && output.ends_with("\n10\n"), "{output}");
        assert_eq!((lines, failed), (2, 1));
        let (output, _, failed) = run(&format!("{}\n5\n", "1".repeat(100_000)), 4);
        assert!(output.ends_with("\n10\n"), "{output}");
        assert_eq!(failed, 1);
    }
}
