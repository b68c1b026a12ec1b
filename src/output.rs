//! Standard output: results of tools, and the banner of `serve`. Log lines are written by [`crate::telemetry`].

use std::{
    io::{self, ErrorKind, Write},
    thread,
};

/// Writes `text`. A closed pipe is no error: the reader has read all that it needed (`| head`).
///
/// # Errors
/// When the text cannot be written.
pub fn show(text: &str) -> io::Result<()> {
    let mut out = io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

/// Writes `text` if standard output accepts it. Does not wait: a standard output that is not read can block.
pub fn show_if_possible(text: String) {
    // The text is optional: the server runs without it.
    _ = thread::Builder::new().name("output".to_owned()).spawn(move || show(&text));
}
