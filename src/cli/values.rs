//! Trims values as charts, files and shells write them: white space around a value or around an element of a list, and
//! empty elements of a list, are removed. White space also separates the elements of a list. A ConfigMap that is made from a file ends in a newline. Called by
//! [`super::read`] before clap parses.
//!
//! clap reads variables itself. The variables with values to trim are therefore hidden from it, and their values are
//! passed as arguments.

use std::ffi::{OsStr, OsString};

use clap::{Arg, Command};

/// The arguments with trimmed values. Variables with values to trim are added as arguments, and their names are
/// returned. `args` starts with the program's name and a command.
pub(super) fn trimmed(
    root: &Command,
    args: Vec<OsString>,
    set: &[(OsString, OsString)],
) -> (Vec<OsString>, Vec<OsString>) {
    let Some((at, command)) = chosen(root, &args) else { return (args, Vec::new()) };
    let mut trimmed = args[..=at].to_vec();
    let mut given = args[at + 1..].to_vec();
    let mut hidden = Vec::new();
    for arg in command.get_arguments() {
        let Some(long) = arg.get_long().map(|long| format!("--{long}")) else { continue };
        let is_given = trim_flag(arg, &long, &mut given);
        let variable = arg.get_env().and_then(|name| set.iter().find(|(other, _)| other == name));
        let Some((name, Some(value))) = variable.map(|(name, value)| (name, value.to_str())) else {
            continue;
        };
        let new = trimmed_value(arg, value);
        if new == value {
            continue;
        }
        let switch = if arg.get_action().takes_values() { None } else { Some(switch_value(&new)) };
        match (switch, new.as_str()) {
            (_, "") | (Some(Some(false)), _) => {}
            (None, _) if !is_given => trimmed.push(format!("{long}={new}").into()),
            (Some(Some(true)), _) if !is_given => trimmed.push(long.into()),
            (None | Some(Some(true)), _) => {}
            // No value of a switch: clap refuses it.
            (Some(None), _) => continue,
        }
        hidden.push(name.clone());
    }
    trimmed.append(&mut given);
    (trimmed, hidden)
}

/// The values of a switch in a variable, without regard to case, for refusals.
pub(super) const SWITCH: &str =
    "expected true or false; 1, yes and on also mean true, 0, no and off mean false";

/// The value of a switch in a variable. The parser of clap accepts the same values. `None` for another value.
fn switch_value(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "1" | "y" | "yes" | "t" | "true" | "on" => Some(true),
        "0" | "n" | "no" | "f" | "false" | "off" => Some(false),
        _ => None,
    }
}

/// Whether a variable contains only white space, so that it counts as absent.
pub(super) fn is_empty(value: &OsStr) -> bool {
    value.to_str().map_or(value.is_empty(), |value| value.trim().is_empty())
}

/// The command that `args` name, and the index of its name.
pub(super) fn chosen<'a>(root: &'a Command, args: &[OsString]) -> Option<(usize, &'a Command)> {
    let command = root.find_subcommand(args.get(1)?)?;
    match command.has_subcommands() {
        true => Some((2, command.find_subcommand(args.get(2)?)?)),
        false => Some((1, command)),
    }
}

/// Trims the values of this flag. Returns whether the flag is in `given`.
fn trim_flag(arg: &Arg, long: &str, given: &mut [OsString]) -> bool {
    let mut is_given = false;
    let mut is_value = false;
    for word in given {
        let Some(text) = word.to_str() else {
            is_value = false;
            continue;
        };
        let trimmed = if is_value {
            Some(trimmed_value(arg, text))
        } else {
            let value = text.strip_prefix(long).and_then(|rest| rest.strip_prefix('='));
            value.map(|value| format!("{long}={}", trimmed_value(arg, value)))
        };
        is_given |= text == long || (trimmed.is_some() && !is_value);
        is_value = !is_value && text == long && arg.get_action().takes_values();
        if let Some(trimmed) = trimmed {
            *word = trimmed.into();
        }
    }
    is_given
}

fn trimmed_value(arg: &Arg, value: &str) -> String {
    match arg.get_value_delimiter() {
        None => value.trim().to_owned(),
        Some(delimiter) => {
            let is_separator = |character: char| character == delimiter || character.is_whitespace();
            let elements = value.split(is_separator).filter(|element| !element.is_empty());
            elements.collect::<Vec<_>>().join(&delimiter.to_string())
        }
    }
}
