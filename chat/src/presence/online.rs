//! The online and typing users as the presence service has reported them, and the changes that were not sent to clients yet. Pure: time is
//! an argument.
//!
//! Clients receive at most one update per [`SPACING`]: the changes (`presence:diff`), and, while few users are online, the whole list
//! (`presence`). A list costs one name per online user, and a change costs one name. So lists are paid for from a budget that changes
//! and time fill. A small list is part of every update, a large one follows within a few seconds.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use proto::{
    RoomName, Username,
    event::{Presence, PresenceDiff, name},
    presence::{RoomTyping, RosterUpdate, roster_update::Update},
};
use socketio::Encoded;
use tokio::time::Instant;

use crate::{
    broker::{self, Signal},
    config::NAMES,
};

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

/// Whether the users are up to date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No list was received yet.
    Waiting,
    /// The users are those of the service.
    Current,
    /// No update was received for too long.
    Unknown,
}

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

/// The online and typing users.
#[derive(Debug)]
pub(super) struct Online {
    state: State,
    /// Whether the open stream has sent its full list. Updates before the list are dropped.
    has_list: bool,
    users: BTreeSet<String>,
    /// The typing users by room. No entry is empty.
    typing: BTreeMap<String, Vec<String>>,
    /// The event `presence` with all users, if it was encoded since the last change.
    packet: Option<Encoded>,
    /// Whether the next update is the state `unknown`.
    sends_unknown: bool,
    /// The changes that were not sent yet.
    joined: BTreeSet<String>,
    left: BTreeSet<String>,
    list: List,
    /// The number of names in lists that are paid for, as of `counted`.
    credit: f64,
    counted: Instant,
    /// The time of the last update.
    sent: Option<Instant>,
}

impl Online {
    /// No users, and a presence service that does not answer yet.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            state: State::Waiting,
            has_list: false,
            users: BTreeSet::new(),
            typing: BTreeMap::new(),
            packet: None,
            sends_unknown: false,
            joined: BTreeSet::new(),
            left: BTreeSet::new(),
            list: List::Unknown,
            credit: CREDIT,
            counted: now,
            sent: None,
        }
    }

    /// Applies an update of the service. Returns the changes of typing users, which are sent at once. Changes of online users are sent when
    /// they are due.
    pub(super) fn update(&mut self, update: RosterUpdate) -> Vec<Signal> {
        match update.update {
            Some(Update::Online(online)) => return self.replace(online.usernames),
            _ if !self.has_list => return Vec::new(),
            _ => self.resume(),
        }
        match update.update {
            Some(Update::Diff(diff)) => self.apply(diff.joined, diff.left),
            Some(Update::Typing(typing)) => return self.set_typing(typing).into_iter().collect(),
            _ => {}
        }
        Vec::new()
    }

    /// The stream has ended. The users stay valid until [`Online::expire`].
    pub(super) fn end_stream(&mut self) {
        self.has_list = false;
    }

    /// No update was received for too long: the users are unknown. Returns whether they were not unknown before.
    pub(super) fn expire(&mut self) -> bool {
        if self.is_unknown() {
            return false;
        }
        (self.state, self.sends_unknown, self.list) = (State::Unknown, true, List::Unknown);
        true
    }

    /// Whether no update was received for too long. `false` at first, until [`Online::expire`].
    pub(super) fn is_unknown(&self) -> bool {
        self.state == State::Unknown
    }

    /// The online users, sorted. `None` while they are not available.
    pub(super) fn users(&self) -> Option<&BTreeSet<String>> {
        (self.state == State::Current).then_some(&self.users)
    }

    /// The typing users, for each of `rooms` in which a user types.
    pub(super) fn typing_by_room<'a>(
        &self,
        rooms: impl Iterator<Item = &'a RoomName>,
    ) -> Option<Vec<(RoomName, Vec<String>)>> {
        let typing = |room: &RoomName| Some((room.clone(), self.typing.get(room.as_str())?.clone()));
        self.users().map(|_| rooms.filter_map(typing).collect())
    }

    /// The event `presence` for a user that connects. The user is in the list, even if the presence service has not reported
    /// the user yet. `None` when the list has more than [`NAMES`] names.
    pub(super) fn list_for(&mut self, user: &Username) -> Option<Encoded> {
        let is_listed = match self.users() {
            None => return broker::encode(name::PRESENCE, &broker::presence_unknown(), None),
            Some(users) => users.contains(user.as_str()),
        };
        if self.users.len() + usize::from(!is_listed) > NAMES {
            return None;
        }
        if !is_listed {
            let all: BTreeSet<String> = self.users.iter().cloned().chain([user.to_string()]).collect();
            return encode_list(all);
        }
        if self.packet.is_none() {
            self.packet = encode_list(self.users.clone());
        }
        self.packet.clone()
    }

    /// The time of the next update, which [`Online::take`] returns. `None` when no update waits. A time in the past means now.
    pub(super) fn next_update(&self) -> Option<Instant> {
        let free = self.sent.map_or(self.counted, |sent| sent + SPACING);
        let is_current = self.state == State::Current;
        if self.sends_unknown || (is_current && (self.changes() > 0 || self.list == List::Unknown)) {
            return Some(free);
        }
        let is_owed = is_current && self.list == List::Stale && self.users.len() <= NAMES;
        let missing = (self.users.len() as f64 - self.credit).max(0.0);
        is_owed.then(|| free.max(self.counted + Duration::from_secs_f64(missing / PER_SECOND)))
    }

    /// Takes the update that is due at `now`. `None` when no update is due.
    pub(super) fn take(&mut self, now: Instant) -> Option<Signal> {
        if self.next_update().is_none_or(|due| due > now) {
            return None;
        }
        self.sent = Some(now);
        if std::mem::take(&mut self.sends_unknown) {
            return Some(Signal::OnlineUnknown);
        }
        let diff = self.take_diff();
        let changes = diff.as_ref().map_or(0, |diff| diff.joined.len() + diff.left.len());
        self.earn(changes, now);
        Some(Signal::Online { diff, list: self.take_list() })
    }

    /// Replaces all users by the full list of a new stream. The service sends the typing users after the list, so until then the
    /// list of typing users is empty.
    fn replace(&mut self, usernames: Vec<String>) -> Vec<Signal> {
        self.has_list = true;
        let users: BTreeSet<String> = usernames.into_iter().collect();
        let left = self.users.difference(&users).cloned().collect();
        self.apply(users.into_iter().collect(), left);
        (self.state, self.sends_unknown, self.list) = (State::Current, false, List::Unknown);
        let stopped = std::mem::take(&mut self.typing).into_keys();
        stopped.filter_map(|room| typing_signal(&room, Vec::new())).collect()
    }

    /// The open stream sends updates again after a silence. Its earlier updates are still valid, so the users are known again.
    fn resume(&mut self) {
        if self.state != State::Current {
            (self.state, self.sends_unknown, self.list) = (State::Current, false, List::Unknown);
        }
    }

    /// Applies a change. A name that leaves and joins again between two updates has not changed.
    fn apply(&mut self, joined: Vec<String>, left: Vec<String>) {
        self.packet = None;
        for name in left {
            if self.users.remove(&name) && !self.joined.remove(&name) {
                self.left.insert(name);
            }
        }
        for name in joined {
            if self.users.insert(name.clone()) && !self.left.remove(&name) {
                self.joined.insert(name);
            }
        }
        if self.changes() > 0 && self.list == List::Current {
            self.list = List::Stale;
        }
    }

    fn set_typing(&mut self, RoomTyping { room, usernames }: RoomTyping) -> Option<Signal> {
        if usernames.is_empty() {
            self.typing.remove(&room);
        } else {
            self.typing.insert(room.clone(), usernames.clone());
        }
        typing_signal(&room, usernames)
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
        let count = u32::try_from(self.users.len()).unwrap_or(u32::MAX);
        Some(PresenceDiff { joined, left, count })
    }

    fn earn(&mut self, changes: usize, now: Instant) {
        let seconds = now.saturating_duration_since(self.counted).as_secs_f64();
        self.credit = (self.credit + seconds * PER_SECOND + changes as f64 * PER_CHANGE).min(CREDIT);
        self.counted = now;
    }

    /// The whole list. `None` when it is too long, not due, or not paid for.
    fn take_list(&mut self) -> Option<Vec<String>> {
        let names = self.users.len();
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
        Some(self.users.iter().cloned().collect())
    }
}

/// The signal of the typing users of a room. `None` when the room's name is invalid.
fn typing_signal(room: &str, mut users: Vec<String>) -> Option<Signal> {
    users.truncate(NAMES);
    Some(Signal::Typing { room: room.parse().ok()?, users })
}

fn encode_list(users: BTreeSet<String>) -> Option<Encoded> {
    broker::encode(name::PRESENCE, &Presence { online: users.into_iter().collect() }, None)
}

/// Removes and returns the first `max` names.
fn take_first(names: &mut BTreeSet<String>, max: usize) -> Vec<String> {
    std::iter::from_fn(|| names.pop_first()).take(max).collect()
}

#[cfg(test)]
#[path = "online_tests.rs"]
mod tests;
