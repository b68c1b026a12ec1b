//! Standard output: results of tools, and the banner of `serve`. Nothing here panics, and no write waits for a reader
//! without a bound. Log lines are written by [`crate::telemetry`].

use std::{
    fs::File,
    io::{self, ErrorKind, Write},
    os::fd::AsFd,
    sync::mpsc,
    thread,
    time::Duration,
};

/// How long a tool waits for a standard output that accepts no bytes.
const DEADLINE: Duration = Duration::from_secs(5);

/// Pause before the next write to a non-blocking output that accepts no bytes.
const RETRY: Duration = Duration::from_millis(10);

/// Writes `text`. A closed pipe is no error: the reader has read all that it needed (`| head`).
///
/// # Errors
/// When the text cannot be written within 5 s.
pub fn show(text: String) -> io::Result<()> {
    let written = match begin(text.clone()) {
        Ok(written) => written.recv_timeout(DEADLINE).unwrap_or_else(|_| Err(ErrorKind::TimedOut.into())),
        // The system provides no thread or no descriptor.
        Err(_) => write_all(&mut io::stdout(), text.as_bytes()).map_err(|(_, error)| error),
    };
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

/// Writes `text` if standard output accepts it. Does not wait.
pub fn show_if_possible(text: String) {
    // The text is optional: the server runs without it.
    _ = begin(text);
}

/// Starts to write `text` on a separate thread, because a standard output that is not read can block it.
fn begin(text: String) -> io::Result<mpsc::Receiver<io::Result<()>>> {
    // A separate descriptor: the lock of `std::io::stdout` must not be held during a write that blocks.
    let mut out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let (done, result) = mpsc::sync_channel(1);
    let write = move || _ = done.send(write_all(&mut out, text.as_bytes()).map_err(|(_, error)| error));
    thread::Builder::new().name("output".to_owned()).spawn(write)?;
    Ok(result)
}

/// Writes `bytes`, and waits while a non-blocking `out` accepts no bytes. The error contains the number of bytes written
/// before it.
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
