//! Writes log lines to standard error, with a bounded queue and one thread. Adding a line never fails and never blocks,
//! in any state of standard error (closed, full, a pipe that is not read). Lines that do not fit into the queue and
//! lines that cannot be written are counted. Used by [`super`].
//!
//! The crate tracing-appender is not used: its queue has no bound in bytes, it does not count lines whose write fails,
//! and it prints to standard output when the process ends with a full queue.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Write},
    os::fd::AsFd,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use crate::output::write_all;

/// Maximum number of lines in the queue.
const MAX_LINES: usize = 8_192;

/// Maximum number of bytes in the queue.
const MAX_BYTES: usize = 2 * 1024 * 1024;

/// Minimum time between two reports of lost lines while lines are queued.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Attempts of [`Sink::try_push`] to lock the queue.
const ATTEMPTS: usize = 100;

/// The queue of the process.
pub static SINK: Sink = Sink::new();

/// A bounded queue of log lines.
pub struct Sink {
    queue: Mutex<Queue>,
    /// Notified when a line is added.
    added: Condvar,
    /// Notified when the queue is empty and its last line is written.
    idle: Condvar,
    /// Lines that did not fit into the queue.
    overflowed: AtomicU64,
    /// Lines whose write failed.
    failed: AtomicU64,
}

struct Queue {
    lines: VecDeque<Box<[u8]>>,
    bytes: usize,
    /// Whether the thread writes a line that is no longer in `lines`.
    is_writing: bool,
}

/// Lines that were not written since the start of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost {
    /// The queue was full.
    pub overflowed: u64,
    /// The write failed.
    pub failed: u64,
}

/// Starts the thread that writes the lines of [`SINK`]. Call it once, before everything else.
///
/// # Errors
/// When the system provides no descriptor or no thread. Lines are then counted as lost when the queue is full.
pub fn start() -> io::Result<()> {
    // A separate descriptor: the lock of `std::io::stderr` must not be held during a write that blocks.
    let mut out = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    let write = move || while catch_unwind(AssertUnwindSafe(|| SINK.write_to(&mut out))).is_err() {};
    thread::Builder::new().name("log".to_owned()).spawn(write).map(drop)
}

impl Sink {
    const fn new() -> Self {
        Self {
            queue: Mutex::new(Queue { lines: VecDeque::new(), bytes: 0, is_writing: false }),
            added: Condvar::new(),
            idle: Condvar::new(),
            overflowed: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    /// Adds a line, including its line feed, or counts it as lost.
    pub fn push(&self, line: &[u8]) {
        self.add(self.lock(), line);
    }

    /// Like [`Sink::push`], for a panic hook, which can run while this thread holds the lock. The line is lost when the
    /// lock stays taken.
    pub fn try_push(&self, line: &[u8]) {
        for _ in 0..ATTEMPTS {
            match self.queue.try_lock() {
                Ok(queue) => return self.add(queue, line),
                Err(TryLockError::Poisoned(poisoned)) => return self.add(poisoned.into_inner(), line),
                Err(TryLockError::WouldBlock) => thread::yield_now(),
            }
        }
        self.overflowed.fetch_add(1, Relaxed);
    }

    fn add(&self, mut queue: MutexGuard<'_, Queue>, line: &[u8]) {
        if queue.lines.len() >= MAX_LINES || queue.bytes + line.len() > MAX_BYTES {
            self.overflowed.fetch_add(1, Relaxed);
            return;
        }
        queue.bytes += line.len();
        queue.lines.push_back(line.into());
        drop(queue);
        self.added.notify_one();
    }

    /// Waits until all lines are written or lost, at most for `deadline`.
    pub fn flush(&self, deadline: Duration) {
        let is_busy = |queue: &mut Queue| queue.is_writing || !queue.lines.is_empty();
        // Lines that are not written by then are lost: the process ends.
        _ = self.idle.wait_timeout_while(self.lock(), deadline, is_busy);
    }

    /// The number of lines lost so far.
    pub fn lost(&self) -> Lost {
        Lost { overflowed: self.overflowed.load(Relaxed), failed: self.failed.load(Relaxed) }
    }

    /// Writes queued lines to `out` in an endless loop.
    fn write_to(&self, out: &mut impl Write) {
        let (mut reported, mut last_report) = (0, None::<Instant>);
        let mut is_torn = false;
        loop {
            let line = self.next();
            let written = write_line(out, &line, &mut is_torn);
            if written.is_err() {
                self.failed.fetch_add(1, Relaxed);
            }
            let is_empty = self.finish();
            if written.is_err() {
                continue;
            }
            let lost = self.lost().total() - reported;
            if lost > 0 && (is_empty || last_report.is_none_or(|last| last.elapsed() >= REPORT_INTERVAL)) {
                (reported, last_report) = (reported + lost, Some(Instant::now()));
                tracing::warn!(lines = lost, "log lines were lost: the log was full or could not be written");
            }
        }
    }

    /// Removes the first line. Waits while the queue is empty.
    fn next(&self) -> Box<[u8]> {
        let mut queue = self.lock();
        loop {
            if let Some(line) = queue.lines.pop_front() {
                queue.bytes -= line.len();
                queue.is_writing = true;
                return line;
            }
            queue = self.added.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Completes the write of the line from [`Sink::next`]. Returns whether the queue is empty.
    fn finish(&self) -> bool {
        let mut queue = self.lock();
        queue.is_writing = false;
        let is_empty = queue.lines.is_empty();
        if is_empty {
            self.idle.notify_all();
        }
        is_empty
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lost {
    fn total(self) -> u64 {
        self.overflowed + self.failed
    }
}

/// Writes a whole line. `is_torn` is set while only the beginning of the previous line was written; a line feed then
/// precedes the line.
fn write_line(out: &mut impl Write, line: &[u8], is_torn: &mut bool) -> io::Result<()> {
    if *is_torn {
        write_all(out, b"\n").map_err(|(_, error)| error)?;
        *is_torn = false;
    }
    write_all(out, line).map_err(|(written, error)| {
        *is_torn = written > 0;
        error
    })
}

#[cfg(test)]
mod tests {
    use std::{
        io::ErrorKind,
        sync::{Arc, mpsc},
    };

    use super::*;

    /// An output that returns the scripted results, and then accepts all bytes.
    struct Scripted {
        orders: VecDeque<io::Result<usize>>,
        written: mpsc::Sender<Vec<u8>>,
    }

    impl Write for Scripted {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let length = self.orders.pop_front().unwrap_or(Ok(usize::MAX))?.min(bytes.len());
            self.written.send(bytes[..length].to_vec()).expect("the test waits");
            Ok(length)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn fails(kind: ErrorKind) -> io::Result<usize> {
        Err(kind.into())
    }

    /// The bytes of `lines` that an output with these results receives, and the lost lines.
    fn outcome(orders: Vec<io::Result<usize>>, lines: &[&str]) -> (String, Lost) {
        let (written, pieces) = mpsc::channel();
        let sink = Arc::new(Sink::new());
        lines.iter().for_each(|line| sink.push(line.as_bytes()));
        let (writer, mut out) = (sink.clone(), Scripted { orders: orders.into(), written });
        thread::spawn(move || writer.write_to(&mut out));
        sink.flush(Duration::from_secs(20));
        (String::from_utf8(pieces.try_iter().flatten().collect()).unwrap(), sink.lost())
    }

    #[test]
    fn a_line_is_written_completely_or_counted() {
        let lost = |failed| Lost { overflowed: 0, failed };
        let lines = &["one\n", "two\n"][..];
        let table = [
            ("works", vec![], "one\ntwo\n", 0),
            ("full", vec![fails(ErrorKind::StorageFull)], "two\n", 1),
            ("no reader", vec![fails(ErrorKind::BrokenPipe), fails(ErrorKind::BrokenPipe)], "", 2),
            ("interrupted", vec![fails(ErrorKind::Interrupted)], "one\ntwo\n", 0),
            ("non-blocking", vec![fails(ErrorKind::WouldBlock), Ok(2)], "one\ntwo\n", 0),
            ("accepts nothing", vec![Ok(0)], "two\n", 1),
            ("full in the middle", vec![Ok(2), fails(ErrorKind::StorageFull)], "on\ntwo\n", 1),
        ];
        for (name, orders, expected, failed) in table {
            assert_eq!(outcome(orders, lines), (expected.to_owned(), lost(failed)), "{name}");
        }
    }

    #[test]
    fn the_queue_is_bounded_in_lines_and_bytes() {
        let sink = Sink::new();
        (0..MAX_LINES + 3).for_each(|_| sink.push(b"\n"));
        assert_eq!(sink.lost(), Lost { overflowed: 3, failed: 0 });
        let sink = Sink::new();
        (0..3).for_each(|_| sink.push(&[b'x'; MAX_BYTES / 2]));
        assert_eq!(sink.lost(), Lost { overflowed: 1, failed: 0 });
    }

    #[test]
    fn a_panic_hook_does_not_wait_for_the_lock() {
        let sink = Sink::new();
        let held = sink.lock();
        sink.try_push(b"line\n");
        drop(held);
        assert_eq!(sink.lost(), Lost { overflowed: 1, failed: 0 });
        sink.try_push(b"line\n");
        assert_eq!(sink.lock().lines.len(), 1);
    }

    #[test]
    fn a_flush_ends_at_its_deadline_when_no_line_can_be_written() {
        let sink = Sink::new();
        sink.push(b"line\n");
        sink.flush(Duration::from_millis(1));
        assert_eq!(sink.lock().lines.len(), 1);
    }
}
