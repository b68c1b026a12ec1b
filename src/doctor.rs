//! The tool `doctor`: reads the configuration of a role as the role does, connects to its stores, and reports their versions. It starts
//! nothing.

use crate::{error::Error, output, role::RoleSet, shutdown};

/// Prints a line for each part of the configuration of `roles` on standard output: its version, or what is wrong.
///
/// # Errors
/// When something is wrong, or when standard output cannot be written.
pub fn run(roles: &RoleSet) -> Result<(), Error> {
    shutdown::run(async {
        let found = roles.examine().await;
        let wrong = found.iter().filter(|(_, found)| found.is_err()).count();
        let line = |(part, found): &(&str, Result<String, String>)| match found {
            Ok(version) => format!("{part} {version}\n"),
            Err(text) => format!("error: {part}: {text}\n"),
        };
        let text: String = found.iter().map(line).collect();
        output::show(&text).map_err(|error| Error::part("standard output cannot be written", error))?;
        if wrong == 0 { Ok(()) } else { Err(Error::Findings(wrong)) }
    })
}
