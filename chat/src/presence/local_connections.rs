//! This node's own truth: how many connections each user has here, and what of it the service was not told yet. Changed
//! by clients through [`super::Presence`], told by the stream.

use std::collections::{HashMap, HashSet};

use proto::{
    RoomName, Username,
    presence::{Connections, NodeReport, SetTypingRequest, Snapshot, node_report::Report},
};

/// How many users go into one part of a snapshot: each takes at most 42 bytes of the 64 KiB that the service takes.
const PART: usize = 1_000;
/// How many typing changes may wait to be told; more are lost.
const MAX_TYPING: usize = 10_000;

/// Who is connected here.
#[derive(Debug, Default)]
pub(super) struct LocalConnections {
    /// Connections per user, never 0.
    users: HashMap<Username, u32>,
    /// Whether a stream is open: without one there is nothing to tell but the next snapshot.
    streaming: bool,
    /// Users whose count the open stream has not told; each once, however often it changed.
    unpublished: HashSet<Username>,
    /// Typing that the open stream has not told; the latest of each user and room.
    typing: HashMap<(RoomName, Username), bool>,
}

impl LocalConnections {
    pub(super) fn connected(&mut self, user: &Username) {
        let count = self.users.entry(user.clone()).or_insert(0);
        *count = count.saturating_add(1);
        self.note(user);
    }

    pub(super) fn disconnected(&mut self, user: &Username) {
        let Some(count) = self.users.get_mut(user) else {
            debug_assert!(false, "who disconnects was connected");
            return;
        };
        *count -= 1;
        if *count == 0 {
            self.users.remove(user);
        }
        self.note(user);
    }

    pub(super) fn typing(&mut self, user: &Username, room: &RoomName, is_typing: bool) {
        if !self.streaming {
            return;
        }
        let key = (room.clone(), user.clone());
        if self.typing.len() < MAX_TYPING || self.typing.contains_key(&key) {
            self.typing.insert(key, is_typing);
        }
    }

    /// Begins a stream: everything there is to tell, in as many parts as it takes, at least one.
    pub(super) fn begin(&mut self, node: &str) -> Vec<NodeReport> {
        self.end();
        self.streaming = true;
        let users: Vec<Connections> =
            self.users.iter().map(|(user, count)| connections(user, *count)).collect();
        let mut parts: Vec<_> = users.chunks(PART).map(<[_]>::to_vec).collect();
        if parts.is_empty() {
            parts.push(Vec::new());
        }
        let last = parts.len() - 1;
        let snapshot = |(index, users)| Snapshot { node: node.to_owned(), users, more: index < last };
        parts.into_iter().enumerate().map(snapshot).map(|part| said(Report::Snapshot(part))).collect()
    }

    /// The stream has ended; nothing is kept for it.
    pub(super) fn end(&mut self) {
        self.streaming = false;
        self.unpublished.clear();
        self.typing.clear();
    }

    /// What the open stream has not told yet, counts before typing.
    pub(super) fn take(&mut self) -> Vec<NodeReport> {
        let users = &self.users;
        let count = |user: Username| connections(&user, users.get(&user).copied().unwrap_or(0));
        let mut reports: Vec<_> =
            self.unpublished.drain().map(|user| said(Report::Change(count(user)))).collect();
        reports.extend(self.typing.drain().map(|((room, user), is_typing)| {
            let (username, room) = (user.to_string(), room.to_string());
            said(Report::Typing(SetTypingRequest { username, is_typing, room }))
        }));
        reports
    }

    fn note(&mut self, user: &Username) {
        if self.streaming {
            self.unpublished.insert(user.clone());
        }
    }
}

/// A report of one thing.
pub(super) fn said(report: Report) -> NodeReport {
    NodeReport { report: Some(report) }
}

fn connections(user: &Username, count: u32) -> Connections {
    Connections { username: user.to_string(), count }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> Username {
        name.parse().unwrap()
    }

    fn changes(reports: Vec<NodeReport>) -> Vec<(String, u32)> {
        let mut changes: Vec<_> = reports
            .into_iter()
            .filter_map(|said| match said.report {
                Some(Report::Change(change)) => Some((change.username, change.count)),
                _ => None,
            })
            .collect();
        changes.sort();
        changes
    }

    #[test]
    fn changes_are_told_once_with_the_latest_count() {
        let mut own = LocalConnections::default();
        own.begin("n1");
        for _ in 0..3 {
            own.connected(&user("alice"));
        }
        own.connected(&user("bob"));
        own.disconnected(&user("bob"));
        assert_eq!(changes(own.take()), [("alice".to_owned(), 3), ("bob".to_owned(), 0)]);
        assert_eq!(own.take(), []);
    }

    #[test]
    fn without_a_stream_nothing_piles_up_and_the_snapshot_tells_all() {
        let mut own = LocalConnections::default();
        own.connected(&user("alice"));
        own.connected(&user("gone"));
        own.disconnected(&user("gone"));
        own.typing(&user("alice"), &RoomName::lobby(), true);
        assert_eq!(own.take(), []);
        let users = vec![Connections { username: "alice".into(), count: 1 }];
        let snapshot = Snapshot { node: "n1".into(), users, more: false };
        assert_eq!(own.begin("n1"), [said(Report::Snapshot(snapshot))]);
        own.connected(&user("alice"));
        own.end();
        assert_eq!(own.take(), []);
    }

    #[test]
    fn a_large_snapshot_comes_in_parts_and_the_last_one_says_so() {
        let mut own = LocalConnections::default();
        assert_eq!(own.begin("n1").len(), 1, "an empty node says so too");
        for n in 0..2_500 {
            own.connected(&user(&format!("a-rather-long-username-{n}")));
        }
        let parts = own.begin("n1");
        let shape = |said: &NodeReport| match &said.report {
            Some(Report::Snapshot(part)) => (part.users.len(), part.more),
            other => panic!("{other:?}"),
        };
        assert_eq!(parts.iter().map(shape).collect::<Vec<_>>(), [(1_000, true), (1_000, true), (500, false)]);
    }

    #[test]
    fn typing_keeps_only_the_latest_and_not_without_bound() {
        let mut own = LocalConnections::default();
        own.begin("n1");
        own.typing(&user("alice"), &RoomName::lobby(), true);
        own.typing(&user("alice"), &RoomName::lobby(), false);
        let typing = SetTypingRequest { username: "alice".into(), is_typing: false, room: "lobby".into() };
        assert_eq!(own.take(), [said(Report::Typing(typing))]);
        for n in 0..MAX_TYPING + 5 {
            own.typing(&user(&format!("u{n}")), &RoomName::lobby(), true);
        }
        assert_eq!(own.take().len(), MAX_TYPING);
    }
}
