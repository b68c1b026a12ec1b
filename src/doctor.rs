//! The tool `doctor`: reads the configuration of a role as the role does, examines its stores, and reports problems.

use std::fmt;

use crate::{error::Error, output, shutdown};

/// A problem and its remedy.
#[derive(Debug, PartialEq, Eq)]
pub struct Finding {
    severity: Severity,
    /// The flag, file or part.
    subject: String,
    /// The problem, a semicolon, and the remedy.
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Severity {
    /// The role does not start or does not work.
    Error,
    /// The role works, perhaps not as intended.
    Warning,
}

impl Finding {
    /// A problem with which the role does not start or does not work.
    pub fn error(subject: impl Into<String>, text: impl Into<String>) -> Self {
        Self { severity: Severity::Error, subject: subject.into(), text: text.into() }
    }

    /// A problem with which the role works, perhaps not as intended.
    pub fn warning(subject: impl Into<String>, text: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, subject: subject.into(), text: text.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        writeln!(f, "{severity}: {}: {}", self.subject, self.text)
    }
}

/// Prints the findings of `examination` on standard output.
///
/// # Errors
/// When a finding is an error, or when standard output cannot be written.
pub fn run(examination: impl Future<Output = Vec<Finding>>) -> Result<(), Error> {
    let findings = shutdown::run(examination);
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
    let mut text: String = findings.iter().map(ToString::to_string).collect();
    if findings.is_empty() {
        text.push_str("no findings\n");
    }
    output::show(&text).map_err(|error| Error::part("standard output cannot be written", error))?;
    if errors == 0 { Ok(()) } else { Err(Error::Findings(errors)) }
}
