//! What a scenario found, and whether its rules hold.

use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;

use crate::bench::serve::write_json;
use crate::error::CliError;
use crate::output::Style;

/// One finding.
#[derive(Debug, Serialize)]
struct Finding {
    what: String,
    value: String,
    /// What the value must be; a finding without a rule always holds.
    rule: Option<String>,
    holds: bool,
}

/// All findings of a scenario.
#[derive(Debug, Serialize)]
pub(crate) struct Findings {
    scenario: &'static str,
    findings: Vec<Finding>,
}

impl Findings {
    /// None yet.
    pub(crate) fn new(scenario: &'static str) -> Findings {
        Findings { scenario, findings: Vec::new() }
    }

    /// Adds a value that is only shown.
    pub(crate) fn fact(&mut self, what: impl Into<String>, value: impl Display) {
        let value = value.to_string();
        self.findings.push(Finding { what: what.into(), value, rule: None, holds: true });
    }

    /// Adds a value that must keep a rule.
    pub(crate) fn rule(
        &mut self,
        what: impl Into<String>,
        value: impl Display,
        rule: impl Into<String>,
        holds: bool,
    ) {
        let (what, value) = (what.into(), value.to_string());
        self.findings.push(Finding { what, value, rule: Some(rule.into()), holds });
    }

    /// Adds a count that must be `expected`.
    pub(crate) fn exactly(&mut self, what: impl Into<String>, value: u64, expected: u64) {
        self.rule(what, value, format!("= {expected}"), value == expected);
    }

    /// Prints the findings and writes them to `json`.
    ///
    /// # Errors
    /// A rule does not hold, or something can't be written.
    pub(crate) fn report(&self, json: Option<&Path>) -> Result<(), CliError> {
        self.write_table(&mut io::stdout().lock(), Style::of_stdout())?;
        if let Some(path) = json {
            write_json(path, self)?;
        }
        match self.broken() {
            0 => Ok(()),
            1 => Err(CliError::new(format!("{}: a rule does not hold", self.scenario))),
            broken => Err(CliError::new(format!("{}: {broken} rules do not hold", self.scenario))),
        }
    }

    /// Rules that do not hold.
    pub(crate) fn broken(&self) -> usize {
        self.findings.iter().filter(|finding| !finding.holds).count()
    }

    fn write_table(&self, out: &mut impl Write, style: Style) -> io::Result<()> {
        let (bold, reset) = (style.bold(), style.reset());
        writeln!(out, "{bold}{}{reset}", self.scenario)?;
        let widest = self.findings.iter().map(|finding| finding.what.chars().count()).max().unwrap_or(0);
        for Finding { what, value, rule, holds } in &self.findings {
            let verdict = match (rule, holds) {
                (None, _) => String::new(),
                (Some(rule), true) => format!("{rule:<14} holds"),
                (Some(rule), false) => format!("{rule:<14} {bold}BROKEN{reset}"),
            };
            writeln!(out, "{}", format!("  {what:<widest$}  {value:<16} {verdict}").trim_end())?;
        }
        Ok(())
    }
}
