//! Changes of who is online that clients have not been sent yet, and when they are due. Pure: time is an argument.
//!
//! Clients get one update per [`SPACING`] at most: what changed (`presence:diff`), and, while few are online, the whole
//! list (`presence`). A list costs as many names as there are user_lookup, and a change costs one; so lists are paid for from a
//! budget that changes and time fill. A small list is part of every update, a large one follows within a few seconds.

use std::{collections::BTreeSet, time::Duration};

use proto::event::PresenceDiff;
use tokio::time::Instant;

use crate::{broker::Entry, config::NAMES};

/// The least time between two updates. An update is two events, so this is less than four events in any second.
pub(super) const SPACING: Duration = Duration::from_millis(600);

/// The most names in one diff, at most 70 KiB; more wait for the next update.
const DIFF: usize = 2_000;

/// Names in lists that one changed name pays for.
const PER_CHANGE: f64 = 4.0;

/// Names in lists that one second pays for: a list of 200 follows the last change within 5 s.
const PER_SECOND: f64 = 40.0;

/// The most names that can be paid for in advance: the longest list.
const CREDIT: f64 = NAMES as f64;

/// What clients know of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum List {
    /// It is as they were sent it.
    Current,
    /// It has changed since. The next one is sent when it is paid for.
    Stale,
    /// They were told that it is unknown, or nothing. The next one is sent with the next update.
    Unknown,
}

/// The changes that wait.
#[derive(Debug)]
pub(super) struct Pending {
    online: BTreeSet<String>,
    /// The presence service does not answer.
    is_lost: bool,
    /// Clients are to be told so.
    loss: bool,
    joined: BTreeSet<String>,
    left: BTreeSet<String>,
    list: List,
    /// Names in lists that are paid for, as of `counted`.
    credit: f64,
    counted: Instant,
    /// When the last update was sent.
    sent: Option<Instant>,
}

impl Pending {
    /// Nobody is known to be online.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            online: BTreeSet::new(),
            is_lost: true,
            loss: false,
            joined: BTreeSet::new(),
            left: BTreeSet::new(),
            list: List::Unknown,
            credit: CREDIT,
            counted: now,
            sent: None,
        }
    }

    /// Who is online; none while nobody knows.
    pub(super) fn online(&self) -> Option<&BTreeSet<String>> {
        (!self.is_lost).then_some(&self.online)
    }

    /// Takes in a whole list, which the service sends when a stream begins or speaks again.
    pub(super) fn replace(&mut self, online: Vec<String>) {
        let online: BTreeSet<String> = online.into_iter().collect();
        let left = self.online.difference(&online).cloned().collect();
        let joined = online.difference(&self.online).cloned().collect();
        self.apply(PresenceDiff { joined, left, count: 0 });
        (self.is_lost, self.loss, self.list) = (false, false, List::Unknown);
    }

    /// Takes in a change. A name that leaves and joins again between two updates has not changed.
    pub(super) fn apply(&mut self, diff: PresenceDiff) {
        for name in diff.left {
            if self.online.remove(&name) && !self.joined.remove(&name) {
                self.left.insert(name);
            }
        }
        for name in diff.joined {
            if self.online.insert(name.clone()) && !self.left.remove(&name) {
                self.joined.insert(name);
            }
        }
        if self.changes() > 0 && self.list == List::Current {
            self.list = List::Stale;
        }
    }

    /// The service does not answer any more.
    pub(super) fn lose(&mut self) {
        (self.is_lost, self.loss, self.list) = (true, true, List::Unknown);
    }

    /// When [`Pending::take`] has something to send; none while there is nothing. A time that is over means now.
    pub(super) fn deadline_now(&self) -> Option<Instant> {
        let free = self.sent.map_or(self.counted, |sent| sent + SPACING);
        if self.loss || (!self.is_lost && (self.changes() > 0 || self.list == List::Unknown)) {
            return Some(free);
        }
        let owed = !self.is_lost && self.list == List::Stale && self.online.len() <= NAMES;
        let missing = (self.online.len() as f64 - self.credit).max(0.0);
        owed.then(|| free.max(self.counted + Duration::from_secs_f64(missing / PER_SECOND)))
    }

    /// The update that is due at `now`.
    pub(super) fn take(&mut self, now: Instant) -> Option<Entry> {
        if self.deadline_now().is_none_or(|deadline_now| deadline_now > now) {
            return None;
        }
        self.sent = Some(now);
        if std::mem::take(&mut self.loss) {
            return Some(Entry::OnlineUnknown);
        }
        let diff = self.take_diff();
        let changes = diff.as_ref().map_or(0, |diff| diff.joined.len() + diff.left.len());
        self.earn(changes, now);
        Some(Entry::Online { diff, list: self.take_list() })
    }

    fn changes(&self) -> usize {
        self.joined.len() + self.left.len()
    }

    fn take_diff(&mut self) -> Option<PresenceDiff> {
        if self.changes() == 0 {
            return None;
        }
        let left = take_some(&mut self.left, DIFF);
        let joined = take_some(&mut self.joined, DIFF - left.len());
        let count = u32::try_from(self.online.len()).unwrap_or(u32::MAX);
        Some(PresenceDiff { joined, left, count })
    }

    fn earn(&mut self, changes: usize, now: Instant) {
        let seconds = now.saturating_duration_since(self.counted).as_secs_f64();
        self.credit = (self.credit + seconds * PER_SECOND + changes as f64 * PER_CHANGE).min(CREDIT);
        self.counted = now;
    }

    /// The whole list, when it is short enough to be sent and paid for.
    fn take_list(&mut self) -> Option<Vec<String>> {
        let names = self.online.len();
        let is_paid = self.list == List::Unknown || (self.list == List::Stale && self.credit >= names as f64);
        if names > NAMES {
            self.list = List::Stale;
            return None;
        }
        if !is_paid {
            return None;
        }
        self.list = List::Current;
        self.credit = (self.credit - names as f64).max(0.0);
        Some(self.online.iter().cloned().collect())
    }
}

/// Removes the first `most` names.
fn take_some(names: &mut BTreeSet<String>, most: usize) -> Vec<String> {
    std::iter::from_fn(|| names.pop_first()).take(most).collect()
}

#[cfg(test)]
#[path = "pending_tests.rs"]
mod tests;
