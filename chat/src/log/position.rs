//! How far the log has been handed to the sockets, and how clients are shown a place in it.

use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::Notify;

use super::Entry;
use crate::redis::EPOCH_LENGTH;

/// The offset that is shown of what has none: it is of no epoch.
const NOWHERE: &str = "nowhere";

/// What an offset says that a client gave back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// A place in this log.
    Here(u64),
    /// A place in a log that is gone, or in none: nobody goes on from there.
    Elsewhere,
    /// Nothing: it is no offset. Stock clients take any string at the end of any event for one.
    Nothing,
}

/// How far the log has been handed to the sockets.
#[derive(Debug)]
pub struct Position {
    epoch: RwLock<Arc<str>>,
    offset: AtomicU64,
    /// How many memberships have changed.
    pub(super) memberships: AtomicU64,
    /// It has changed.
    pub(super) moved: Notify,
}

impl Position {
    pub(super) fn new(epoch: &str, offset: u64) -> Self {
        Self {
            epoch: RwLock::new(epoch.into()),
            offset: offset.into(),
            memberships: 0.into(),
            moved: Notify::new(),
        }
    }

    /// Offsets are of another epoch from now on.
    pub(super) fn begin(&self, epoch: &str) {
        *self.epoch.write().unwrap_or_else(PoisonError::into_inner) = epoch.into();
    }

    pub(super) fn reached(&self) -> u64 {
        self.offset.load(Ordering::Acquire)
    }

    /// Counts a change of memberships.
    pub(super) fn note(&self, entry: &Entry) {
        let changes = matches!(
            entry,
            Entry::Joined { .. } | Entry::Left { .. } | Entry::Archived { .. } | Entry::Only { .. }
        );
        if changes {
            self.memberships.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// The epoch of all offsets that are shown now.
    pub(super) fn epoch(&self) -> Arc<str> {
        self.epoch.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// An offset as clients see it; they only ever give it back. Without one it is an offset from which nobody goes on.
    pub(super) fn show(&self, offset: Option<u64>) -> String {
        match offset {
            Some(offset) => format!("{}-{offset}", self.epoch()),
            None => format!("{NOWHERE}-0"),
        }
    }

    pub(super) fn reach(&self, offset: u64) {
        self.offset.fetch_max(offset, Ordering::AcqRel);
        self.moved.notify_waiters();
    }

    /// What an offset says that a client gave back.
    pub(super) fn read(&self, shown: &str) -> Shown {
        let parts = shown.rsplit_once('-').and_then(|(epoch, offset)| Some((epoch, offset.parse().ok()?)));
        match parts {
            Some((epoch, offset)) if epoch == &*self.epoch() => Shown::Here(offset),
            Some((epoch, _)) if epoch.len() == EPOCH_LENGTH && is_lower_hex(epoch) => Shown::Elsewhere,
            Some((NOWHERE, _)) => Shown::Elsewhere,
            _ => Shown::Nothing,
        }
    }
}

fn is_lower_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
