//! Words that are forbidden in some places: words of the application in a library, shortcuts that hide failures, log lines that do not
//! have the form of log lines.

use super::{Source, none, sources};

/// Offending lines of the code (no comments, no tests) of the files for which `applies` is true.
fn lines(applies: impl Fn(&str) -> bool, offends: impl Fn(&str) -> bool) -> Vec<String> {
    let sources = sources();
    let files = sources.iter().filter(|source| !source.is_test() && applies(&source.path));
    files.flat_map(|source| offending(source, &offends)).collect()
}

fn offending(source: &Source, offends: impl Fn(&str) -> bool) -> Vec<String> {
    let found = source.code().filter(|(_, line)| offends(line));
    found.map(|(number, line)| format!("{}:{number}: {}", source.path, line.trim())).collect()
}

#[test]
fn nothing_is_unwrapped_outside_tests() {
    none(
        "use expect, with the reason why it cannot fail",
        lines(|_| true, |line| line.contains(".unwrap()")),
    );
}

#[test]
fn the_environment_is_read_through_clap_only() {
    let reads = |line: &str| line.contains("env::var") || line.contains("env::set_var");
    // The main function passes the whole environment to the parser of the command line.
    // The testkit starts the programs that scripts/test names in variables; it is part of no product.
    let elsewhere = |path: &str| path != "src/main.rs" && !path.starts_with("crates/testkit/");
    none("configuration is a clap Args with env", lines(elsewhere, reads));
}

#[test]
fn only_transport_ws_uses_actix_web_actors() {
    let elsewhere = |path: &str| path != "crates/socketio/src/transport/ws.rs";
    none(
        "only transport/ws.rs uses actix-web-actors",
        lines(elsewhere, |line| line.contains("actix_web_actors")),
    );
}

#[test]
fn socketio_uses_no_application_words() {
    let words = ["chat", "user", "username", "lobby", "guest", "presence", "typing", "godzilla"];
    let has_word = |line: &str| {
        // TCP and HTTP also use these words.
        let line = line
            .to_lowercase()
            .replace("user_timeout", "")
            .replace("user timeout", "")
            .replace("user-agent", "");
        line.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| words.contains(&word))
    };
    let metric = |line: &str| line.contains("\"godzilla_");
    none(
        "a word of the application in socketio",
        lines(|path| path.starts_with("crates/socketio/"), |line| has_word(line) && !metric(line)),
    );
}

#[test]
fn proto_and_pure_code_use_no_clock_socket_or_runtime() {
    let pure = |path: &str| {
        let folders = ["crates/socketio/src/engine/", "crates/socketio/src/packet/", "presence/src/roster"];
        path.starts_with("proto/src") || folders.iter().any(|folder| path.starts_with(folder))
    };
    let impure = |line: &str| ["tokio::", "actix", "Instant::now"].iter().any(|word| line.contains(word));
    none("pure code calls no runtime", lines(pure, impure));
}

/// A log line begins in lower case and has no full stop at its end. The message is the last string literal of the call.
#[test]
fn log_lines_start_in_lower_case_and_end_without_a_dot() {
    let sources = sources();
    let files = sources.iter().filter(|source| !source.is_test());
    let bad = files.flat_map(|source| {
        let messages = log_messages(source.without_tests());
        let bad = messages.into_iter().filter(|message| {
            message.starts_with(|c: char| c.is_ascii_uppercase()) || message.ends_with('.')
        });
        bad.map(|message| format!("{}: {message:?}", source.path)).collect::<Vec<_>>()
    });
    none("a log line is lower case without a full stop", bad);
}

/// The messages of all tracing calls.
fn log_messages(code: &str) -> Vec<&str> {
    let macros = ["trace!(", "debug!(", "info!(", "warn!(", "error!("];
    let mut messages = Vec::new();
    for start in macros.iter().flat_map(|name| code.match_indices(name).map(|(at, _)| at + name.len())) {
        let call = &code[start..start + call_length(&code[start..])];
        let pieces: Vec<&str> = call.split('"').collect();
        // Text between an odd and the next quote; calls with escaped quotes are rare and read from their last piece.
        if pieces.len() >= 3 {
            messages.push(pieces[pieces.len() - 2]);
        }
    }
    messages
}

/// The length of the call up to its closing parenthesis.
fn call_length(rest: &str) -> usize {
    let mut depth = 1;
    for (at, c) in rest.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

#[test]
fn the_message_of_a_log_call_is_found() {
    let code = "tracing::info!(user = %name, \"logged in\"); warn!(\n    why = f(\"x\"),\n    \"Gave up.\"\n); error!(%error);";
    assert_eq!(log_messages(code), ["logged in", "Gave up."]);
}
