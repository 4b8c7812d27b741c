//! What a person reads when a command fails: what, on what, why, and what to do next, in at most four lines.

use super::{Exit, output};
use crate::client::ClientError;
use fieldpost_shared::error_chain::Chain;
use std::fmt;

/// Longest line that is printed; foreign text (a server's answer, an operator's name) is cut there.
const MAX_LINE: usize = 600;

/// A failed command.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    what: String,
    cause: Option<String>,
    hint: Option<String>,
}

impl Failure {
    /// A failure with exit code 1; `what` says what failed and on what, such as ``cannot pack `models/digits` ``.
    #[must_use]
    pub fn new(what: impl Into<String>) -> Self {
        Self { exit: Exit::Failed, what: what.into(), cause: None, hint: None }
    }

    /// A command line or configuration that cannot be used: exit code 2.
    #[must_use]
    pub fn usage(what: impl Into<String>) -> Self {
        Self::new(what).exit_with(Exit::Usage)
    }

    /// Says why: the error and its causes, on one line.
    #[must_use]
    pub fn because(self, error: &(dyn std::error::Error + 'static)) -> Self {
        self.because_text(Chain(error).to_string())
    }

    /// Says why, in words.
    #[must_use]
    pub fn because_text(mut self, cause: impl Into<String>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// Says what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Ends with another exit code.
    #[must_use]
    pub fn exit_with(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// What and why, for where there is one line alone.
    #[must_use]
    pub fn one_line(&self) -> String {
        let why = self.cause.as_ref().map(|cause| format!(": {cause}")).unwrap_or_default();
        one_line(&format!("{}{why}", self.what))
    }

    /// The exit code it ends with.
    #[must_use]
    pub fn exit(&self) -> Exit {
        self.exit
    }
}

/// One line of at most [`MAX_LINE`] characters, without control characters.
fn one_line(text: &str) -> String {
    let plain: String = text.chars().map(|c| if output::steers(c) { ' ' } else { c }).collect();
    let mut words = plain.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((cut, _)) = words.char_indices().nth(MAX_LINE) {
        words.truncate(cut);
        words.push('…');
    }
    words
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", one_line(&self.what))?;
        for (name, text) in [("cause", &self.cause), ("hint", &self.hint)] {
            if let Some(text) = text {
                write!(f, "\n{name:>5}: {}", one_line(text))?;
            }
        }
        Ok(())
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let mut failure = Self::new(error.to_string()).exit_with(error.exit());
        failure = match (&error, std::error::Error::source(&error)) {
            // The layers of an HTTP client repeat each other; the last one says what happened.
            (ClientError::Unreachable { .. }, Some(source)) => failure.because_text(innermost(source).to_string()),
            (_, Some(source)) => failure.because(source),
            (_, None) => failure,
        };
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

fn innermost<'e>(error: &'e (dyn std::error::Error + 'static)) -> &'e (dyn std::error::Error + 'static) {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last
}

impl From<anyhow::Error> for Failure {
    /// The outermost context is what failed; the rest is why.
    fn from(error: anyhow::Error) -> Self {
        let failure = Self::new(error.to_string());
        let causes: Vec<String> = error.chain().skip(1).map(ToString::to_string).collect();
        if causes.is_empty() { failure } else { failure.because_text(causes.join(": ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_never_takes_more_than_four_lines() {
        let text = "first\nsecond\nthird\r\nfourth\nfifth";
        let failure = Failure::new(text).because_text(text).hint(text);
        assert_eq!(failure.to_string().lines().count(), 3);
    }

    #[test]
    fn foreign_text_is_cut_and_cannot_steer_the_terminal() {
        let failure = Failure::new(format!("\u{1b}[2J{}", "x".repeat(5_000))).to_string();
        assert!(!failure.contains('\u{1b}'));
        assert!(failure.chars().count() < 700, "{}", failure.len());
    }

    #[test]
    fn an_error_with_context_shows_what_then_why() {
        let error = anyhow::anyhow!("permission denied").context("cannot open `a`");
        assert_eq!(Failure::from(error).to_string(), "error: cannot open `a`\ncause: permission denied");
    }
}
