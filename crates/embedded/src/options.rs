//! How a store is opened. Made by the backends, read by [`Database::open`](crate::Database::open).

use std::time::Duration;

/// How a store is opened. `Options { readers: 4, ..Options::new(MIGRATIONS) }`.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// The schema, as SQL scripts that are only ever appended to. None of them may delete what users stored.
    pub migrations: &'static [&'static str],
    /// Threads that read; at least 1.
    pub readers: usize,
    /// Jobs that may wait, for the writer and again for the readers; one more is [`Error::Busy`](crate::Error::Busy).
    pub queue: usize,
    /// How long a caller waits; then it gets [`Error::Timeout`](crate::Error::Timeout).
    pub deadline: Duration,
    /// Opens a store that has lost committed data with what is left of it, instead of [`Error::Lost`](crate::Error::Lost).
    pub accept_loss: bool,
    /// SQL for a store that has lost its end: it makes what follows a history of its own. Also run where a loss is accepted, and by
    /// `renew`.
    pub renewal: &'static [&'static str],
    /// Runs `renewal`: for a copy, whose history is not that of the original.
    pub renew: bool,
    /// SQL that replaces damaged rows; run only where a loss is accepted.
    pub repair: &'static [&'static str],
}

impl Options {
    /// Two readers, queues of 1,024, 5 s.
    pub const fn new(migrations: &'static [&'static str]) -> Self {
        let deadline = Duration::from_secs(5);
        Self {
            migrations,
            readers: 2,
            queue: 1_024,
            deadline,
            accept_loss: false,
            renewal: &[],
            renew: false,
            repair: &[],
        }
    }
}
