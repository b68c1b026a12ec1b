//! Standard output, for what a tool answers and what `serve` shows at its start. Nothing here panics, and nothing waits for a reader
//! without a bound. The log goes another way: [`crate::telemetry`].

use std::{
    fs::File,
    io::{self, ErrorKind, Write},
    os::fd::AsFd,
    sync::mpsc,
    thread,
    time::Duration,
};

/// How long a tool waits for a standard output that accepts nothing.
const DEADLINE: Duration = Duration::from_secs(5);

/// Pause before the next write to a non-blocking output that accepts nothing.
const RETRY: Duration = Duration::from_millis(10);

/// Writes `text`. A reader that has gone is no error: it has read what it wanted (`| head`).
///
/// # Errors
/// When the text cannot be written, or not within 5 s.
pub fn show(text: String) -> io::Result<()> {
    let written = match begin(text.clone()) {
        Ok(written) => written.recv_timeout(DEADLINE).unwrap_or_else(|_| Err(ErrorKind::TimedOut.into())),
        // The system has no thread or no descriptor for it.
        Err(_) => write_all(&mut io::stdout(), text.as_bytes()).map_err(|(_, error)| error),
    };
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

/// Writes `text` if standard output accepts it, and waits for nothing.
pub fn show_if_possible(text: String) {
    // The text is a courtesy: the server runs without it.
    _ = begin(text);
}

/// Starts to write `text` on a thread of its own, which a standard output that is not read can block.
fn begin(text: String) -> io::Result<mpsc::Receiver<io::Result<()>>> {
    // A descriptor of its own: the lock of `std::io::stdout` must not be held during a write that blocks.
    let mut out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let (done, result) = mpsc::sync_channel(1);
    let write = move || _ = done.send(write_all(&mut out, text.as_bytes()).map_err(|(_, error)| error));
    thread::Builder::new().name("output".to_owned()).spawn(write)?;
    Ok(result)
}

/// Writes `bytes`, waiting while a non-blocking `out` accepts nothing. The error says how many bytes were written before.
pub fn write_all(out: &mut impl Write, bytes: &[u8]) -> Result<(), (usize, io::Error)> {
    let mut written = 0;
    while written < bytes.len() {
        match out.write(&bytes[written..]) {
            Ok(0) => return Err((written, ErrorKind::WriteZero.into())),
            Ok(more) => written += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(RETRY),
            Err(error) => return Err((written, error)),
        }
    }
    Ok(())
}
