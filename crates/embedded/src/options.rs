//! The options of a store. Created by the backends, read by [`Database::open`](crate::Database::open).

use std::time::Duration;

/// The options of a store, such as `Options { readers: 4, ..Options::new(MIGRATIONS) }`.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// The schema, as a list of SQL scripts. Scripts are only appended, and a script must not delete data of users.
    pub migrations: &'static [&'static str],
    /// The number of reader threads; at least 1.
    pub readers: usize,
    /// The capacity of the queue of the writer, and of the queue of the readers. A job beyond it gets
    /// [`Error::Busy`](crate::Error::Busy).
    pub queue: usize,
    /// The maximum time that a caller waits. Then it gets [`Error::Timeout`](crate::Error::Timeout).
    pub deadline: Duration,
    /// Opens a store that has lost committed data with the data that is left, instead of returning [`Error::Lost`](crate::Error::Lost).
    pub accept_loss: bool,
    /// SQL that starts a new history in a store that has lost its latest transactions. It also runs for a copy, when a loss is accepted,
    /// and with `renew`.
    pub renewal: &'static [&'static str],
    /// Runs `renewal`. For a copy, whose history differs from that of the original.
    pub renew: bool,
    /// A query whose value is whether the newest rows are missing because another program has deleted them. `renewal` runs then. Empty:
    /// not checked.
    pub renew_if: &'static str,
    /// SQL that replaces damaged rows. It runs only when a loss is accepted.
    pub repair: &'static [&'static str],
}

impl Options {
    /// The defaults: two readers, queues of 1,024 jobs, a deadline of 5 s.
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
            renew_if: "",
            repair: &[],
        }
    }
}
