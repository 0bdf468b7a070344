//! Why a command ends without having done its work.

use std::any::Any;
use std::error::Error;
use std::io;

/// What a command gives back when it fails. Exit code 1, except for [`CliError::BrokenPipe`], which is success: the
/// reader had enough.
#[derive(Debug)]
pub(crate) enum CliError {
    /// One line for standard error: what is wrong, with values, and what to do.
    Message(String),
    /// The lines that say so have been written already.
    AlreadyReported,
    /// The reader of standard output went away.
    BrokenPipe,
}

impl CliError {
    /// A message made here.
    pub(crate) fn new(message: impl Into<String>) -> CliError {
        CliError::Message(message.into())
    }

    /// Puts `context` and a colon in front of the message.
    pub(crate) fn context(self, context: impl AsRef<str>) -> CliError {
        match self {
            CliError::Message(message) => CliError::Message(format!("{}: {message}", context.as_ref())),
            other => other,
        }
    }
}

impl<E: Error + 'static> From<E> for CliError {
    fn from(error: E) -> CliError {
        if let Some(io_error) = (&error as &dyn Any).downcast_ref::<io::Error>()
            && io_error.kind() == io::ErrorKind::BrokenPipe
        {
            return CliError::BrokenPipe;
        }
        CliError::Message(one_line(&error))
    }
}

/// An error and its sources on one line; a source whose text the error above it repeats is left out.
pub(crate) fn one_line(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text.lines().map(str::trim_end).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("shard 2 of 3 is short")]
    struct Inner;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot open\nmodel")]
    struct Outer(#[source] Inner);

    #[test]
    fn message_is_one_line_with_all_sources() {
        let CliError::Message(text) = CliError::from(Outer(Inner)) else { panic!("expected a message") };
        assert_eq!(text, "cannot open model: shard 2 of 3 is short");
    }

    #[test]
    fn broken_pipe_is_told_apart() {
        let error = CliError::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(matches!(error, CliError::BrokenPipe));
    }
}
