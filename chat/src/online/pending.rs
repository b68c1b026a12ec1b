//! Changes of the online users that were not sent to clients yet, and the time at which they are due. Pure: time is an argument.
//!
//! Clients receive at most one update per [`SPACING`]: the changes (`presence:diff`), and, while few users are online, the whole list
//! (`presence`). A list costs one name per online user, and a change costs one name. So lists are paid for from a budget that changes
//! and time fill. A small list is part of every update, a large one follows within a few seconds.

use std::{collections::BTreeSet, time::Duration};

use proto::event::PresenceDiff;
use tokio::time::Instant;

use crate::{broker::Signal, config::NAMES};

/// The minimum time between two updates. An update is two events, so this is less than four events in any second.
pub(super) const SPACING: Duration = Duration::from_millis(600);

/// The maximum number of names in one diff, at most 70 KiB. Further names wait for the next update.
const DIFF: usize = 2_000;

/// The number of names in lists that one changed name pays for.
const PER_CHANGE: f64 = 4.0;

/// The number of names in lists that one second pays for. A list of 200 names follows the last change within 5 s.
const PER_SECOND: f64 = 40.0;

/// The maximum number of names that are paid for in advance: the longest list.
const CREDIT: f64 = NAMES as f64;

/// The list that clients have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum List {
    /// The current list.
    Current,
    /// An earlier list. The next one is sent when it is paid for.
    Stale,
    /// No list, or the state `unknown`. A list is sent with the next update.
    Unknown,
}

/// The changes that wait for the next update.
#[derive(Debug)]
pub(super) struct Pending {
    online: BTreeSet<String>,
    /// Whether the presence service does not answer.
    is_unavailable: bool,
    /// Whether the next update is the state `unknown`.
    sends_unavailable: bool,
    joined: BTreeSet<String>,
    left: BTreeSet<String>,
    list: List,
    /// The number of names in lists that are paid for, as of `counted`.
    credit: f64,
    counted: Instant,
    /// The time of the last update.
    sent: Option<Instant>,
}

impl Pending {
    /// No users, and a presence service that does not answer yet.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            online: BTreeSet::new(),
            is_unavailable: true,
            sends_unavailable: false,
            joined: BTreeSet::new(),
            left: BTreeSet::new(),
            list: List::Unknown,
            credit: CREDIT,
            counted: now,
            sent: None,
        }
    }

    /// The online users. `None` while the presence service does not answer.
    pub(super) fn online(&self) -> Option<&BTreeSet<String>> {
        (!self.is_unavailable).then_some(&self.online)
    }

    /// Applies a whole list, which the presence service sends when a stream begins or resumes.
    pub(super) fn replace(&mut self, online: Vec<String>) {
        let online: BTreeSet<String> = online.into_iter().collect();
        let left = self.online.difference(&online).cloned().collect();
        let joined = online.difference(&self.online).cloned().collect();
        self.apply(PresenceDiff { joined, left, count: 0 });
        (self.is_unavailable, self.sends_unavailable, self.list) = (false, false, List::Unknown);
    }

    /// Applies a change. A name that leaves and joins again between two updates has not changed.
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

    /// The presence service has stopped answering.
    pub(super) fn set_unavailable(&mut self) {
        (self.is_unavailable, self.sends_unavailable, self.list) = (true, true, List::Unknown);
    }

    /// The time of the next update, which [`Pending::take`] returns. `None` when no update waits. A time in the past means now.
    pub(super) fn next_update(&self) -> Option<Instant> {
        let free = self.sent.map_or(self.counted, |sent| sent + SPACING);
        if self.sends_unavailable
            || (!self.is_unavailable && (self.changes() > 0 || self.list == List::Unknown))
        {
            return Some(free);
        }
        let is_owed = !self.is_unavailable && self.list == List::Stale && self.online.len() <= NAMES;
        let missing = (self.online.len() as f64 - self.credit).max(0.0);
        is_owed.then(|| free.max(self.counted + Duration::from_secs_f64(missing / PER_SECOND)))
    }

    /// Takes the update that is due at `now`. `None` when no update is due.
    pub(super) fn take(&mut self, now: Instant) -> Option<Signal> {
        if self.next_update().is_none_or(|due| due > now) {
            return None;
        }
        self.sent = Some(now);
        if std::mem::take(&mut self.sends_unavailable) {
            return Some(Signal::OnlineUnknown);
        }
        let diff = self.take_diff();
        let changes = diff.as_ref().map_or(0, |diff| diff.joined.len() + diff.left.len());
        self.earn(changes, now);
        Some(Signal::Online { diff, list: self.take_list() })
    }

    fn changes(&self) -> usize {
        self.joined.len() + self.left.len()
    }

    fn take_diff(&mut self) -> Option<PresenceDiff> {
        if self.changes() == 0 {
            return None;
        }
        let left = take_first(&mut self.left, DIFF);
        let joined = take_first(&mut self.joined, DIFF - left.len());
        let count = u32::try_from(self.online.len()).unwrap_or(u32::MAX);
        Some(PresenceDiff { joined, left, count })
    }

    fn earn(&mut self, changes: usize, now: Instant) {
        let seconds = now.saturating_duration_since(self.counted).as_secs_f64();
        self.credit = (self.credit + seconds * PER_SECOND + changes as f64 * PER_CHANGE).min(CREDIT);
        self.counted = now;
    }

    /// The whole list. `None` when it is too long, not due, or not paid for.
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

/// Removes and returns the first `max` names.
fn take_first(names: &mut BTreeSet<String>, max: usize) -> Vec<String> {
    std::iter::from_fn(|| names.pop_first()).take(max).collect()
}

#[cfg(test)]
#[path = "pending_tests.rs"]
mod tests;
