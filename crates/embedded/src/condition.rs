//! The faults of an open store, shared by its threads and read by `/readyz`. Set by the writer and the readers of
//! [`Database`](crate::Database).

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use crate::refusals::Refusals;

/// Why the system refused to let a file grow. Each cause ends when an operator makes room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Shortage {
    /// No space is left on the device.
    Space = 1,
    /// The disk quota of the user or the project is used up.
    Quota = 2,
    /// The limit of the size of one file is reached (`ulimit -f`).
    FileSize = 3,
}

/// Why a store rejects every write until the process restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Stop {
    /// A write or an fsync failed in a way after which the kernel may report lost data as written.
    Broken = 1,
    /// A file of the store is no longer at its path, or another file is at the path.
    Gone = 2,
}

/// The faults of one store.
#[derive(Debug, Default)]
pub struct Condition {
    /// 0, or a [`Stop`]. The first one stays.
    stop: AtomicU8,
    /// 0, or a [`Shortage`]. Cleared when a large trial write succeeds.
    shortage: AtomicU8,
    /// Less free space than the reserve is left.
    low: AtomicBool,
    /// A job found damaged content. Never cleared.
    damaged: AtomicBool,
    /// The refusals of transactions for other causes.
    refusals: Refusals,
}

impl Condition {
    /// Rejects all writes from now on. Only the first reason is kept.
    pub fn stop(&self, stop: Stop) {
        let _ = self.stop.compare_exchange(0, stop as u8, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Why all writes are rejected. `None` while writes are accepted.
    pub fn stopped(&self) -> Option<Stop> {
        match self.stop.load(Ordering::Relaxed) {
            0 => None,
            stop if stop == Stop::Gone as u8 => Some(Stop::Gone),
            _ => Some(Stop::Broken),
        }
    }

    /// Records the shortage that failed a transaction, or `None` after a trial write that succeeded.
    pub fn set_shortage(&self, shortage: Option<Shortage>) {
        self.shortage.store(shortage.map_or(0, |shortage| shortage as u8), Ordering::Relaxed);
    }

    /// The shortage that failed the last transaction.
    pub fn shortage(&self) -> Option<Shortage> {
        let kinds = [Shortage::Space, Shortage::Quota, Shortage::FileSize];
        let found = self.shortage.load(Ordering::Relaxed);
        kinds.into_iter().find(|kind| *kind as u8 == found)
    }

    /// Records whether less free space than the reserve is left.
    pub fn set_low(&self, low: bool) {
        self.low.store(low, Ordering::Relaxed);
    }

    /// Records that a job found damaged content.
    pub fn set_damaged(&self) {
        self.damaged.store(true, Ordering::Relaxed);
    }

    /// The transactions that are refused for a cause that can end, except for a shortage.
    pub fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// The most severe fault, as a phrase that follows the name of the store. `None` when there is no fault.
    pub fn not_ready_reason(&self) -> Option<String> {
        let fixed = match (self.stopped(), self.shortage()) {
            (Some(Stop::Gone), _) => Some(
                "has lost its files: they were removed, replaced or cut while the server ran; restore the directory and restart",
            ),
            (Some(Stop::Broken), _) => Some("stopped writing after an I/O error; check the disk and restart"),
            (None, Some(Shortage::Space)) => Some("has no space left on its disk"),
            (None, Some(Shortage::Quota)) => Some("has used up its disk quota"),
            (None, Some(Shortage::FileSize)) => {
                Some("has reached the file size limit of the process (ulimit -f)")
            }
            (None, None) => None,
        };
        let lasting = || match self.damaged.load(Ordering::Relaxed) {
            _ if self.low.load(Ordering::Relaxed) => Some("has less than 16 MiB left on its disk"),
            true => Some("has damaged content; run `godzilla check` and restore a backup"),
            false => None,
        };
        fixed.map(str::to_owned).or_else(|| self.refusals.reason()).or_else(|| lasting().map(str::to_owned))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_stop_is_kept_and_a_shortage_is_cleared() {
        let condition = Condition::default();
        assert_eq!(condition.not_ready_reason(), None);
        for shortage in [Shortage::Space, Shortage::Quota, Shortage::FileSize] {
            condition.set_shortage(Some(shortage));
            assert_eq!(condition.shortage(), Some(shortage));
        }
        condition.set_shortage(None);
        assert_eq!(condition.not_ready_reason(), None);
        condition.stop(Stop::Gone);
        condition.stop(Stop::Broken);
        assert_eq!(condition.stopped(), Some(Stop::Gone));
    }
}
