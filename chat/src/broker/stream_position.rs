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
pub enum ParsedOffset {
    /// A place in this log.
    Here(u64),
    /// A place in a log that is gone, or in none: nobody goes on from there.
    Elsewhere,
    /// A place in a history that another one has replaced: messages that the client has may not exist.
    Replaced,
    /// Nothing: it is no offset. Stock clients take any string at the end of any event for one.
    Nothing,
}

/// How far the log has been handed to the sockets.
#[derive(Debug)]
pub struct StreamPosition {
    names: RwLock<Names>,
    offset: AtomicU64,
    /// How many memberships have changed.
    pub(super) memberships: AtomicU64,
    /// It has changed.
    pub(super) moved: Notify,
}

/// What every offset names beside the number.
#[derive(Debug, Clone)]
struct Names {
    /// The id of the history. Empty where an epoch is a history: in the log of one process.
    history: Arc<str>,
    epoch: Arc<str>,
}

impl StreamPosition {
    /// A place in a log each epoch of which is a history of its own.
    pub(super) fn new(epoch: &str, offset: u64) -> Self {
        Self::of_history("", epoch, offset)
    }

    /// A place in a log whose epochs belong to the history of this id.
    pub(super) fn of_history(history: &str, epoch: &str, offset: u64) -> Self {
        Self {
            names: RwLock::new(Names { history: history.into(), epoch: epoch.into() }),
            offset: offset.into(),
            memberships: 0.into(),
            moved: Notify::new(),
        }
    }

    /// Offsets are of another epoch of the same history from now on.
    pub(super) fn begin(&self, epoch: &str) {
        self.names.write().unwrap_or_else(PoisonError::into_inner).epoch = epoch.into();
    }

    /// Offsets are of another history from now on.
    pub(super) fn begin_history(&self, history: &str, epoch: &str) {
        let names = Names { history: history.into(), epoch: epoch.into() };
        *self.names.write().unwrap_or_else(PoisonError::into_inner) = names;
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
        self.names().epoch
    }

    /// The id of the history of all offsets that are shown now.
    pub(super) fn history(&self) -> Arc<str> {
        self.names().history
    }

    fn names(&self) -> Names {
        self.names.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// An offset as clients see it; they only ever give it back. Without one it is an offset from which nobody goes on.
    pub(super) fn show(&self, offset: Option<u64>) -> String {
        let Names { history, epoch } = self.names();
        match offset {
            Some(offset) => format!("{epoch}{history}-{offset}"),
            None => format!("{NOWHERE}{history}-0"),
        }
    }

    pub(super) fn reach(&self, offset: u64) {
        self.offset.fetch_max(offset, Ordering::AcqRel);
        self.moved.notify_waiters();
    }

    /// What an offset says that a client gave back. Offsets of earlier releases name no history.
    pub(super) fn read(&self, shown: &str) -> ParsedOffset {
        let Some((name, offset)) =
            shown.rsplit_once('-').and_then(|(name, at)| Some((name, at.parse().ok()?)))
        else {
            return ParsedOffset::Nothing;
        };
        let now = self.names();
        let (epoch, history) = match (name.strip_prefix(NOWHERE), name.strip_prefix(&*now.epoch)) {
            (Some(history), _) => (None, history),
            (None, Some(history)) => (Some(&*now.epoch), history),
            (None, None) if name.is_char_boundary(EPOCH_LENGTH) => {
                let (epoch, history) = name.split_at(EPOCH_LENGTH);
                (Some(epoch), history)
            }
            (None, None) => return ParsedOffset::Nothing,
        };
        let is_id = |text: &str| text.len() == EPOCH_LENGTH && is_lower_hex(text);
        let is_here = epoch == Some(&*now.epoch);
        match history {
            _ if !(is_here || epoch.is_none_or(is_id)) => ParsedOffset::Nothing,
            "" if is_here => ParsedOffset::Here(offset),
            "" if now.history.is_empty() && epoch.is_some() => ParsedOffset::Replaced,
            "" => ParsedOffset::Elsewhere,
            history if *history == *now.history && is_here => ParsedOffset::Here(offset),
            history if *history == *now.history => ParsedOffset::Elsewhere,
            history if is_id(history) => ParsedOffset::Replaced,
            _ => ParsedOffset::Nothing,
        }
    }
}

fn is_lower_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH: &str = "0123456789abcdef";
    const OTHER: &str = "fedcba9876543210";
    const HISTORY: &str = "00000000000000aa";
    const RESTORED: &str = "00000000000000bb";

    #[test]
    fn an_offset_says_which_log_and_which_history_it_is_of() {
        let cluster = StreamPosition::of_history(HISTORY, EPOCH, 0);
        let alone = StreamPosition::new(EPOCH, 0);
        assert_eq!(cluster.show(Some(7)), format!("{EPOCH}{HISTORY}-7"));
        let cases = [
            (format!("{EPOCH}{HISTORY}-7"), ParsedOffset::Here(7), ParsedOffset::Replaced),
            (format!("{OTHER}{HISTORY}-7"), ParsedOffset::Elsewhere, ParsedOffset::Replaced),
            (format!("{EPOCH}{RESTORED}-7"), ParsedOffset::Replaced, ParsedOffset::Replaced),
            (format!("{OTHER}{RESTORED}-7"), ParsedOffset::Replaced, ParsedOffset::Replaced),
            (format!("nowhere{HISTORY}-0"), ParsedOffset::Elsewhere, ParsedOffset::Replaced),
            (format!("nowhere{RESTORED}-0"), ParsedOffset::Replaced, ParsedOffset::Replaced),
            // Of earlier releases, and of a log of one process.
            (format!("{EPOCH}-7"), ParsedOffset::Here(7), ParsedOffset::Here(7)),
            (format!("{OTHER}-7"), ParsedOffset::Elsewhere, ParsedOffset::Replaced),
            ("nowhere-0".to_owned(), ParsedOffset::Elsewhere, ParsedOffset::Elsewhere),
        ];
        for (shown, in_cluster, in_one_process) in cases {
            assert_eq!((cluster.read(&shown), alone.read(&shown)), (in_cluster, in_one_process), "{shown}");
        }
        let nothing = ["", "7", "-7", "hello-7", "nowhere", "nowherex-0", "éééééééé-7", "0123456789abcdeé-7"];
        for shown in
            nothing.map(str::to_owned).into_iter().chain([format!("{EPOCH}-x"), format!("{EPOCH}x-7")])
        {
            assert_eq!(
                (cluster.read(&shown), alone.read(&shown)),
                (ParsedOffset::Nothing, ParsedOffset::Nothing),
                "{shown}"
            );
        }
        cluster.begin(OTHER);
        assert_eq!(cluster.read(&format!("{EPOCH}{HISTORY}-7")), ParsedOffset::Elsewhere);
        cluster.begin_history(RESTORED, EPOCH);
        assert_eq!(cluster.read(&format!("{EPOCH}{HISTORY}-7")), ParsedOffset::Replaced);
    }
}
