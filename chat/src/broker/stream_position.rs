//! The position up to which entries were delivered to the sockets, and the format of offsets.
//!
//! The text of an offset is the id of the epoch, the id of the history, a hyphen and a decimal number. Each id has [`EPOCH_LENGTH`]
//! hex digits. The history is empty in the log of one process. Clients treat the text as opaque.

use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::Notify;

use crate::redis::EPOCH_LENGTH;

/// The epoch in the offset of a message that has no number. It matches no epoch, so recovery from it fails.
const NO_EPOCH: &str = "nowhere";

/// An offset that a client sent back, parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParsedOffset {
    /// A number in the current epoch.
    Current(u64),
    /// A number in another epoch of the current history, or no number. No client recovers from it.
    OtherEpoch,
    /// A number in a history that was replaced. Messages that the client has may not exist.
    ReplacedHistory,
    /// Not an offset. Stock clients store any string that is the last argument of any event as the offset.
    Invalid,
}

/// The position up to which entries were delivered to the sockets, with the ids of its epoch and history.
#[derive(Debug)]
pub struct StreamPosition {
    ids: RwLock<Ids>,
    offset: AtomicU64,
    /// The number of changes of memberships so far.
    pub(super) memberships: AtomicU64,
    /// Notified when the position changes, and when the stream becomes unavailable.
    pub(super) moved: Notify,
}

/// The ids in every offset.
#[derive(Debug, Clone)]
struct Ids {
    /// The id of the history. Empty in the log of one process, where each epoch is a history.
    history: Arc<str>,
    epoch: Arc<str>,
}

impl StreamPosition {
    /// A position in a log in which each epoch is a history of its own.
    pub(super) fn new(epoch: &str, offset: u64) -> Self {
        Self::of_history("", epoch, offset)
    }

    /// A position in a log whose epochs belong to the history `history`.
    pub(super) fn of_history(history: &str, epoch: &str, offset: u64) -> Self {
        Self {
            ids: RwLock::new(Ids { history: history.into(), epoch: epoch.into() }),
            offset: offset.into(),
            memberships: 0.into(),
            moved: Notify::new(),
        }
    }

    /// Begins another epoch of the same history.
    pub(super) fn begin_epoch(&self, epoch: &str) {
        self.ids.write().unwrap_or_else(PoisonError::into_inner).epoch = epoch.into();
    }

    pub(super) fn reached(&self) -> u64 {
        self.offset.load(Ordering::Acquire)
    }

    /// Counts a change of memberships.
    pub(super) fn count_membership_change(&self) {
        self.memberships.fetch_add(1, Ordering::AcqRel);
    }

    /// The current epoch.
    pub(super) fn epoch(&self) -> Arc<str> {
        self.ids().epoch
    }

    /// The id of the stores: of the history, or of the epoch in the log of one process.
    pub(super) fn store_epoch(&self) -> Arc<str> {
        let Ids { history, epoch } = self.ids();
        if history.is_empty() { epoch } else { history }
    }

    fn ids(&self) -> Ids {
        self.ids.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The text of an offset. Without a number it is an offset from which no client recovers.
    pub(super) fn format(&self, offset: Option<u64>) -> String {
        let Ids { history, epoch } = self.ids();
        match offset {
            Some(offset) => format!("{epoch}{history}-{offset}"),
            None => format!("{NO_EPOCH}{history}-0"),
        }
    }

    /// Records that all entries up to `offset` were delivered. The position never decreases.
    pub(super) fn reach(&self, offset: u64) {
        self.offset.fetch_max(offset, Ordering::AcqRel);
        self.moved.notify_waiters();
    }

    /// Parses an offset that a client sent back.
    pub(super) fn parse(&self, text: &str) -> ParsedOffset {
        let Some((ids, offset)) =
            text.rsplit_once('-').and_then(|(ids, number)| Some((ids, number.parse().ok()?)))
        else {
            return ParsedOffset::Invalid;
        };
        let current = self.ids();
        let (epoch, history) = match (ids.strip_prefix(NO_EPOCH), ids.strip_prefix(&*current.epoch)) {
            (Some(history), _) => (None, history),
            (None, Some(history)) => (Some(&*current.epoch), history),
            (None, None) if ids.is_char_boundary(EPOCH_LENGTH) => {
                let (epoch, history) = ids.split_at(EPOCH_LENGTH);
                (Some(epoch), history)
            }
            (None, None) => return ParsedOffset::Invalid,
        };
        let is_id = |text: &str| text.len() == EPOCH_LENGTH && is_lower_hex(text);
        let is_current = epoch == Some(&*current.epoch);
        match history {
            _ if !(is_current || epoch.is_none_or(is_id)) => ParsedOffset::Invalid,
            history if *history == *current.history && is_current => ParsedOffset::Current(offset),
            history if *history == *current.history && is_id(history) => ParsedOffset::OtherEpoch,
            history if history.is_empty() || is_id(history) => ParsedOffset::ReplacedHistory,
            _ => ParsedOffset::Invalid,
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
    fn offsets_of_other_epochs_and_histories_are_recognized() {
        let cluster = StreamPosition::of_history(HISTORY, EPOCH, 0);
        let one_process = StreamPosition::new(EPOCH, 0);
        assert_eq!(cluster.format(Some(7)), format!("{EPOCH}{HISTORY}-7"));
        let cases = [
            (format!("{EPOCH}{HISTORY}-7"), ParsedOffset::Current(7), ParsedOffset::ReplacedHistory),
            (format!("{OTHER}{HISTORY}-7"), ParsedOffset::OtherEpoch, ParsedOffset::ReplacedHistory),
            (format!("{EPOCH}{RESTORED}-7"), ParsedOffset::ReplacedHistory, ParsedOffset::ReplacedHistory),
            (format!("{OTHER}{RESTORED}-7"), ParsedOffset::ReplacedHistory, ParsedOffset::ReplacedHistory),
            (format!("nowhere{HISTORY}-0"), ParsedOffset::OtherEpoch, ParsedOffset::ReplacedHistory),
            (format!("nowhere{RESTORED}-0"), ParsedOffset::ReplacedHistory, ParsedOffset::ReplacedHistory),
            // Of a log of one process.
            (format!("{EPOCH}-7"), ParsedOffset::ReplacedHistory, ParsedOffset::Current(7)),
            (format!("{OTHER}-7"), ParsedOffset::ReplacedHistory, ParsedOffset::ReplacedHistory),
            ("nowhere-0".to_owned(), ParsedOffset::ReplacedHistory, ParsedOffset::ReplacedHistory),
        ];
        for (text, in_cluster, in_one_process) in cases {
            assert_eq!(
                (cluster.parse(&text), one_process.parse(&text)),
                (in_cluster, in_one_process),
                "{text}"
            );
        }
        let invalid = ["", "7", "-7", "hello-7", "nowhere", "nowherex-0", "éééééééé-7", "0123456789abcdeé-7"];
        for text in
            invalid.map(str::to_owned).into_iter().chain([format!("{EPOCH}-x"), format!("{EPOCH}x-7")])
        {
            assert_eq!(
                (cluster.parse(&text), one_process.parse(&text)),
                (ParsedOffset::Invalid, ParsedOffset::Invalid),
                "{text}"
            );
        }
        cluster.begin_epoch(OTHER);
        assert_eq!(cluster.parse(&format!("{EPOCH}{HISTORY}-7")), ParsedOffset::OtherEpoch);
    }
}
