//! What the presence service last said, kept up to date by its diffs. Fed by the stream, asked through
//! [`super::Presence`].

use std::collections::{BTreeMap, BTreeSet};

use proto::{
    RoomName,
    event::{self, PresenceDiff},
    presence::{OnlineDiff, RosterUpdate, roster_update::Update},
};

use super::PresenceUpdate;

/// Who is here, as far as this node has heard.
#[derive(Debug, Default)]
pub(super) struct Mirror {
    state: State,
    /// Whether the open stream has told everybody: what comes before that adds to nothing.
    begun: bool,
    /// Everybody online when last heard.
    online: BTreeSet<String>,
    /// Who types, room by room, when last heard. No room is empty.
    typing: BTreeMap<String, Vec<String>>,
}

/// How much the mirror is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    /// Nothing was heard yet, and nobody was told so.
    #[default]
    Waiting,
    /// It is what the service says.
    Known,
    /// It is what the service said once, and everybody was told so.
    Unknown,
}

impl Mirror {
    /// Takes an update in and answers with what it means, in order.
    pub(super) fn hear(&mut self, update: RosterUpdate) -> Vec<PresenceUpdate> {
        match update.update {
            Some(Update::Online(online)) => self.begin(online.usernames),
            _ if !self.begun => Vec::new(),
            Some(Update::Diff(diff)) => self.revived_then(|mirror| mirror.apply(diff)),
            Some(Update::Typing(typing)) => {
                let users = typing.usernames;
                self.revived_then(|mirror| mirror.set_typing(typing.room, users))
            }
            Some(Update::Heartbeat(_)) | None => self.revive().into_iter().collect(),
        }
    }

    /// The stream has ended. What was heard stays what was heard last, for a while.
    pub(super) fn end(&mut self) {
        self.begun = false;
    }

    /// Nothing was heard for too long. Answers with the news if that is news.
    pub(super) fn lose(&mut self) -> Option<PresenceUpdate> {
        let was = std::mem::replace(&mut self.state, State::Unknown);
        (was != State::Unknown).then_some(PresenceUpdate::Unknown)
    }

    pub(super) fn is_known(&self) -> bool {
        self.state == State::Known
    }

    pub(super) fn online(&self) -> Option<Vec<String>> {
        self.is_known().then(|| self.online.iter().cloned().collect())
    }

    /// Who types in each of `rooms` in which anybody does.
    pub(super) fn typists<'a>(
        &self,
        rooms: impl Iterator<Item = &'a RoomName>,
    ) -> Option<Vec<(RoomName, Vec<String>)>> {
        let typists = |room: &RoomName| Some((room.clone(), self.typing.get(room.as_str())?.clone()));
        self.is_known().then(|| rooms.filter_map(typists).collect())
    }

    #[cfg(test)]
    pub(super) fn typing_users(&self) -> Option<Vec<String>> {
        let users: BTreeSet<&String> = self.typing.values().flatten().collect();
        self.is_known().then(|| users.into_iter().cloned().collect())
    }

    /// A new stream tells everybody. Who typed is told anew after it, so until then nobody does.
    fn begin(&mut self, usernames: Vec<String>) -> Vec<PresenceUpdate> {
        (self.state, self.begun) = (State::Known, true);
        let before = std::mem::replace(&mut self.online, usernames.into_iter().collect());
        let joined = self.online.difference(&before).cloned().collect();
        let left = before.difference(&self.online).cloned().collect();
        let stopped = std::mem::take(&mut self.typing).into_keys();
        let mut heard = vec![self.everybody(joined, left)];
        heard.extend(stopped.map(|room| PresenceUpdate::Typing(event::Typing { users: Vec::new(), room })));
        heard
    }

    fn revived_then(&mut self, change: impl FnOnce(&mut Self) -> PresenceUpdate) -> Vec<PresenceUpdate> {
        let revived = self.revive();
        revived.into_iter().chain([change(self)]).collect()
    }

    /// The open stream speaks again after a silence: all that it said still holds.
    fn revive(&mut self) -> Option<PresenceUpdate> {
        if !self.begun || self.is_known() {
            return None;
        }
        self.state = State::Known;
        Some(self.everybody(Vec::new(), Vec::new()))
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

    fn everybody(&self, joined: Vec<String>, left: Vec<String>) -> PresenceUpdate {
        let online: Vec<String> = self.online.iter().cloned().collect();
        let count = u32::try_from(online.len()).unwrap_or(u32::MAX);
        PresenceUpdate::Online {
            presence: event::Presence { online },
            diff: PresenceDiff { joined, left, count },
        }
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

    fn everybody(of: &[&str], joined: &[&str], left: &[&str]) -> PresenceUpdate {
        let count = of.len() as u32;
        let diff = PresenceDiff { joined: strings(joined), left: strings(left), count };
        PresenceUpdate::Online { presence: event::Presence { online: strings(of) }, diff }
    }

    fn silent(room: &str) -> PresenceUpdate {
        PresenceUpdate::Typing(event::Typing { users: vec![], room: room.into() })
    }

    #[test]
    fn diffs_keep_the_list_right() {
        let mut mirror = Mirror::default();
        assert_eq!((mirror.online(), mirror.typing_users()), (None, None));
        assert_eq!(mirror.hear(diff(&["x"], &[])), [], "a diff of nothing");
        assert_eq!(mirror.hear(online(&["a", "b"])), [everybody(&["a", "b"], &["a", "b"], &[])]);
        let change = PresenceDiff { joined: strings(&["c"]), left: strings(&["a"]), count: 7 };
        assert_eq!(mirror.hear(diff(&["c"], &["a"])), [PresenceUpdate::Diff(change)]);
        assert_eq!(mirror.online(), Some(strings(&["b", "c"])));
    }

    #[test]
    fn typing_is_kept_per_room_and_answered_once_per_user() {
        let mut mirror = Mirror::default();
        mirror.hear(online(&[]));
        mirror.hear(typing("r", &["a", "b"]));
        mirror.hear(typing("s", &["b"]));
        assert_eq!(mirror.typing_users(), Some(strings(&["a", "b"])));
        assert_eq!(mirror.hear(typing("r", &[])), [silent("r")]);
        assert_eq!(mirror.typing_users(), Some(strings(&["b"])));
    }

    #[test]
    fn a_new_stream_tells_the_difference_to_the_old_one_and_ends_its_typing() {
        let mut mirror = Mirror::default();
        mirror.hear(online(&["a", "b"]));
        mirror.hear(typing("r", &["a"]));
        mirror.end();
        assert_eq!(mirror.online(), Some(strings(&["a", "b"])), "a short gap is no news");
        assert_eq!(mirror.hear(online(&["b", "c"])), [everybody(&["b", "c"], &["c"], &["a"]), silent("r")]);
    }

    #[test]
    fn a_silence_makes_it_unknown_once_until_something_is_heard() {
        let mut mirror = Mirror::default();
        assert_eq!((mirror.lose(), mirror.lose()), (Some(PresenceUpdate::Unknown), None));
        mirror.hear(online(&["a"]));
        assert_eq!((mirror.lose(), mirror.lose()), (Some(PresenceUpdate::Unknown), None));
        assert_eq!((mirror.online(), mirror.typing_users()), (None, None));
        let beat = RosterUpdate { update: Some(Update::Heartbeat(Heartbeat {})) };
        assert_eq!(mirror.hear(beat.clone()), [everybody(&["a"], &[], &[])]);
        assert_eq!(mirror.hear(beat.clone()), []);
        mirror.lose();
        mirror.end();
        assert_eq!(mirror.hear(beat), [], "a stream that has not begun says nothing");
        assert_eq!(mirror.online(), None);
    }
}
