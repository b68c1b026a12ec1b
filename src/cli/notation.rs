//! Refuses values in the notation of a file or a shell: quotes around a value, and in paths the home directory and variables. `docker run
//! --env-file`, unit files and manifests do not replace them, and a path with them names another directory, which can be lost with a
//! container. Called by [`super::read`].

use std::{
    any::TypeId,
    ffi::{OsStr, OsString},
    path::PathBuf,
};

use clap::{Arg, Command};

use super::values::chosen;
use crate::error::Error;

/// The remedy for a value in quotes.
const QUOTED: &str = "it is in quotes, which count as a part of it; remove them (docker run --env-file does not), and move a directory that \
                      has them in its name";

/// The remedy for a path that a shell would change.
const UNEXPANDED: &str = "it contains ~ or a variable, which only a shell replaces; write the whole path";

/// Refuses such a value of a flag, an argument or a variable that the chosen command reads.
///
/// # Errors
/// With the name of the flag or the variable, and without the value.
pub(super) fn refuse(root: &Command, args: &[OsString], set: &[(OsString, OsString)]) -> Result<(), Error> {
    let Some((at, command)) = chosen(root, args) else { return Ok(()) };
    let is_path = |arg: &Arg| arg.get_value_parser().type_id() == TypeId::of::<PathBuf>();
    let given = args[at..].windows(2).filter_map(|words| {
        let (before, word) = (words[0].to_str().unwrap_or_default(), &words[1]);
        let (flag, value) = match word.to_str().and_then(|word| word.strip_prefix("--")) {
            Some(long) => {
                long.split_once('=').map(|(long, value)| (long.to_owned(), OsString::from(value)))?
            }
            None => (before.strip_prefix("--").unwrap_or_default().to_owned(), word.clone()),
        };
        let arg = command.get_arguments().find(|arg| arg.get_long() == Some(flag.as_str()));
        let key = if arg.is_some() { format!("--{flag}") } else { "an argument".to_owned() };
        // The only positional argument is a path.
        Some((key, value, arg.is_none_or(is_path)))
    });
    let variables = command.get_arguments().filter_map(|arg| {
        let name = arg.get_env()?;
        let (_, value) = set.iter().find(|(other, _)| other == name)?;
        Some((name.to_string_lossy().into_owned(), value.clone(), is_path(arg)))
    });
    for (key, value, is_path) in given.chain(variables) {
        if let Some(remedy) = fault(&value, is_path) {
            return Err(Error::Config(format!("the value of {key} is refused: {remedy}")));
        }
    }
    Ok(())
}

/// The remedy for a value; `None` for a valid one.
fn fault(value: &OsStr, is_path: bool) -> Option<&'static str> {
    let value = value.as_encoded_bytes().trim_ascii();
    if let [first @ (b'"' | b'\''), .., last] = value
        && first == last
    {
        return Some(QUOTED);
    }
    let path = value.strip_prefix(b"sqlite:").unwrap_or(value);
    let starts = path == b"~" || path.starts_with(b"~/") || path.starts_with(b"$");
    let contains = path.windows(2).any(|two| matches!(two, b"${" | b"$("));
    (is_path && (starts || contains)).then_some(UNEXPANDED)
}
