//! A local copy of the presence service's state, updated by its diffs. Written by the stream, read through [`super::Presence`].

use std::collections::{BTreeMap, BTreeSet};

use proto::{
    RoomName,
    event::{self, PresenceDiff},
    presence::{OnlineDiff, RosterUpdate, roster_update::Update},
};

use super::PresenceUpdate;

/// The online and typing users as last received.
#[derive(Debug, Default)]
pub(super) struct Mirror {
    state: State,
    /// Whether the open stream has sent its full list. Updates before the list are dropped.
    has_list: bool,
    /// The last received online users.
    online: BTreeSet<String>,
    /// The last received typing users by room. No entry is empty.
    typing: BTreeMap<String, Vec<String>>,
}

/// Whether the mirror is up to date.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    /// No list was received yet, and [`PresenceUpdate::Unknown`] was not sent.
    #[default]
    Waiting,
    /// The mirror matches the service.
    Current,
    /// The mirror may be stale, and [`PresenceUpdate::Unknown`] was sent.
    Unknown,
}

impl Mirror {
    /// Applies an update of the service. Returns the updates that follow from it, in order.
    pub(super) fn update(&mut self, update: RosterUpdate) -> Vec<PresenceUpdate> {
        match update.update {
            Some(Update::Online(online)) => self.replace(online.usernames),
            _ if !self.has_list => Vec::new(),
            Some(Update::Diff(diff)) => self.resume_and(|mirror| mirror.apply(diff)),
            Some(Update::Typing(typing)) => {
                let users = typing.usernames;
                self.resume_and(|mirror| mirror.set_typing(typing.room, users))
            }
            Some(Update::Heartbeat(_)) | None => self.resume().into_iter().collect(),
        }
    }

    /// The stream has ended. The state stays valid until [`Mirror::expire`].
    pub(super) fn end_stream(&mut self) {
        self.has_list = false;
    }

    /// No update was received for too long: the state is unknown. Returns [`PresenceUpdate::Unknown`] if it was not unknown before.
    pub(super) fn expire(&mut self) -> Option<PresenceUpdate> {
        let previous = std::mem::replace(&mut self.state, State::Unknown);
        (previous != State::Unknown).then_some(PresenceUpdate::Unknown)
    }

    pub(super) fn is_available(&self) -> bool {
        self.state == State::Current
    }

    /// Whether no update was received for too long. `false` at first, until [`Mirror::expire`].
    pub(super) fn is_unknown(&self) -> bool {
        self.state == State::Unknown
    }

    pub(super) fn online(&self) -> Option<Vec<String>> {
        self.is_available().then(|| self.online.iter().cloned().collect())
    }

    /// The typing users, for each of `rooms` in which a user types.
    pub(super) fn typing_by_room<'a>(
        &self,
        rooms: impl Iterator<Item = &'a RoomName>,
    ) -> Option<Vec<(RoomName, Vec<String>)>> {
        let typing = |room: &RoomName| Some((room.clone(), self.typing.get(room.as_str())?.clone()));
        self.is_available().then(|| rooms.filter_map(typing).collect())
    }

    #[cfg(test)]
    pub(super) fn typing_users(&self) -> Option<Vec<String>> {
        let users: BTreeSet<&String> = self.typing.values().flatten().collect();
        self.is_available().then(|| users.into_iter().cloned().collect())
    }

    /// Replaces the online users by the full list of a new stream. The service sends the typing users after the list, so until then the
    /// list of typing users is empty.
    fn replace(&mut self, usernames: Vec<String>) -> Vec<PresenceUpdate> {
        (self.state, self.has_list) = (State::Current, true);
        self.online = usernames.into_iter().collect();
        let stopped = std::mem::take(&mut self.typing).into_keys();
        let mut updates = vec![self.online_update()];
        updates.extend(stopped.map(|room| PresenceUpdate::Typing(event::Typing { users: Vec::new(), room })));
        updates
    }

    fn resume_and(&mut self, change: impl FnOnce(&mut Self) -> PresenceUpdate) -> Vec<PresenceUpdate> {
        let resumed = self.resume();
        resumed.into_iter().chain([change(self)]).collect()
    }

    /// The open stream sends updates again after a silence. Its earlier updates are still valid, so the state is current again.
    fn resume(&mut self) -> Option<PresenceUpdate> {
        if !self.has_list || self.is_available() {
            return None;
        }
        self.state = State::Current;
        Some(self.online_update())
    }

    fn apply(&mut self, OnlineDiff { joined, left, count }: OnlineDiff) -> PresenceUpdate {
        for name in &left {
            self.online.remove(name);
        }
        self.online.extend(joined.iter().cloned());
        PresenceUpdate::Diff(PresenceDiff { joined, left, count })
    }

    fn set_typing(&mut self, room: String, users: Vec<String>) -> PresenceUpdate {
        if users.is_empty() {
            self.typing.remove(&room);
        } else {
            self.typing.insert(room.clone(), users.clone());
        }
        PresenceUpdate::Typing(event::Typing { users, room })
    }

    fn online_update(&self) -> PresenceUpdate {
        PresenceUpdate::Online(event::Presence { online: self.online.iter().cloned().collect() })
    }
}

#[cfg(test)]
mod tests {
    use proto::presence::{Heartbeat, OnlineUsersResponse, RoomTyping};

    use super::*;

    fn strings(of: &[&str]) -> Vec<String> {
        of.iter().map(ToString::to_string).collect()
    }

    fn online(of: &[&str]) -> RosterUpdate {
        RosterUpdate { update: Some(Update::Online(OnlineUsersResponse { usernames: strings(of) })) }
    }

    fn diff(joined: &[&str], left: &[&str]) -> RosterUpdate {
        let diff = OnlineDiff { joined: strings(joined), left: strings(left), count: 7 };
        RosterUpdate { update: Some(Update::Diff(diff)) }
    }

    fn typing(room: &str, of: &[&str]) -> RosterUpdate {
        let typing = RoomTyping { room: room.into(), usernames: strings(of) };
        RosterUpdate { update: Some(Update::Typing(typing)) }
    }

    fn all_online(of: &[&str]) -> PresenceUpdate {
        PresenceUpdate::Online(event::Presence { online: strings(of) })
    }

    fn no_typing(room: &str) -> PresenceUpdate {
        PresenceUpdate::Typing(event::Typing { users: vec![], room: room.into() })
    }

    #[test]
    fn diffs_update_the_list() {
        let mut mirror = Mirror::default();
        assert_eq!((mirror.online(), mirror.typing_users()), (None, None));
        assert_eq!(mirror.update(diff(&["x"], &[])), [], "a diff before the list is dropped");
        assert_eq!(mirror.update(online(&["a", "b"])), [all_online(&["a", "b"])]);
        let change = PresenceDiff { joined: strings(&["c"]), left: strings(&["a"]), count: 7 };
        assert_eq!(mirror.update(diff(&["c"], &["a"])), [PresenceUpdate::Diff(change)]);
        assert_eq!(mirror.online(), Some(strings(&["b", "c"])));
    }

    #[test]
    fn typing_is_stored_per_room_and_listed_once_per_user() {
        let mut mirror = Mirror::default();
        mirror.update(online(&[]));
        mirror.update(typing("r", &["a", "b"]));
        mirror.update(typing("s", &["b"]));
        assert_eq!(mirror.typing_users(), Some(strings(&["a", "b"])));
        assert_eq!(mirror.update(typing("r", &[])), [no_typing("r")]);
        assert_eq!(mirror.typing_users(), Some(strings(&["b"])));
    }

    #[test]
    fn a_new_stream_replaces_the_list_and_ends_the_typing_of_the_old_one() {
        let mut mirror = Mirror::default();
        mirror.update(online(&["a", "b"]));
        mirror.update(typing("r", &["a"]));
        mirror.end_stream();
        assert_eq!(mirror.online(), Some(strings(&["a", "b"])), "the list stays valid during a short gap");
        assert_eq!(mirror.update(online(&["b", "c"])), [all_online(&["b", "c"]), no_typing("r")]);
    }

    #[test]
    fn a_silence_makes_the_state_unknown_once_until_the_next_update() {
        let mut mirror = Mirror::default();
        assert_eq!((mirror.expire(), mirror.expire()), (Some(PresenceUpdate::Unknown), None));
        mirror.update(online(&["a"]));
        assert_eq!((mirror.expire(), mirror.expire()), (Some(PresenceUpdate::Unknown), None));
        assert_eq!((mirror.online(), mirror.typing_users()), (None, None));
        let beat = RosterUpdate { update: Some(Update::Heartbeat(Heartbeat {})) };
        assert_eq!(mirror.update(beat.clone()), [all_online(&["a"])]);
        assert_eq!(mirror.update(beat.clone()), []);
        mirror.expire();
        mirror.end_stream();
        assert_eq!(mirror.update(beat), [], "a heartbeat before the list is dropped");
        assert_eq!(mirror.online(), None);
    }
}
