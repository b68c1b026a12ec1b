//! The connections of each user on this node, and the changes that were not reported to the service yet. Written through
//! [`super::Presence`], reported by [`super::stream`].

use std::collections::{HashMap, HashSet};

use proto::{
    RoomName, Username,
    presence::{Connections, NodeReport, SetTypingRequest, Snapshot, node_report::Report},
};

/// The number of users in one part of a snapshot. One user takes at most 42 bytes of the 64 KiB that the service accepts.
const PART: usize = 1_000;
/// The maximum number of unreported typing changes. Further changes are dropped.
const MAX_TYPING: usize = 10_000;

/// The connections on this node.
#[derive(Debug, Default)]
pub(super) struct LocalConnections {
    /// Connections per user, never 0.
    users: HashMap<Username, u32>,
    /// Whether a stream is open. Without a stream no changes are collected, because the next stream begins with a snapshot.
    streaming: bool,
    /// The users whose count has changed since it was last reported.
    changed: HashSet<Username>,
    /// The unreported typing changes: the latest per user and room.
    typing: HashMap<(RoomName, Username), bool>,
}

impl LocalConnections {
    pub(super) fn connected(&mut self, user: &Username) {
        let count = self.users.entry(user.clone()).or_insert(0);
        *count = count.saturating_add(1);
        self.mark_changed(user);
    }

    pub(super) fn disconnected(&mut self, user: &Username) {
        let Some(count) = self.users.get_mut(user) else {
            debug_assert!(false, "a user disconnects that was not connected");
            return;
        };
        *count -= 1;
        if *count == 0 {
            self.users.remove(user);
        }
        self.mark_changed(user);
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

    /// Starts a stream. Returns a snapshot of all connections, in one or more parts of at most [`PART`] users.
    pub(super) fn start_stream(&mut self, node: &str) -> Vec<NodeReport> {
        self.end_stream();
        self.streaming = true;
        let users: Vec<Connections> =
            self.users.iter().map(|(user, count)| connections(user, *count)).collect();
        let mut parts: Vec<_> = users.chunks(PART).map(<[_]>::to_vec).collect();
        if parts.is_empty() {
            parts.push(Vec::new());
        }
        let last = parts.len() - 1;
        let snapshot = |(index, users)| Snapshot { node: node.to_owned(), users, more: index < last };
        parts.into_iter().enumerate().map(snapshot).map(|part| node_report(Report::Snapshot(part))).collect()
    }

    /// Ends the stream and discards its unreported changes.
    pub(super) fn end_stream(&mut self) {
        self.streaming = false;
        self.changed.clear();
        self.typing.clear();
    }

    /// Removes and returns the unreported changes, counts before typing.
    pub(super) fn take_reports(&mut self) -> Vec<NodeReport> {
        let users = &self.users;
        let count = |user: Username| connections(&user, users.get(&user).copied().unwrap_or(0));
        let changes = self.changed.drain().map(|user| node_report(Report::Change(count(user))));
        let mut reports: Vec<_> = changes.collect();
        reports.extend(self.typing.drain().map(|((room, user), is_typing)| {
            let (username, room) = (user.to_string(), room.to_string());
            node_report(Report::Typing(SetTypingRequest { username, is_typing, room }))
        }));
        reports
    }

    fn mark_changed(&mut self, user: &Username) {
        if self.streaming {
            self.changed.insert(user.clone());
        }
    }
}

/// Wraps `report` in its message.
pub(super) fn node_report(report: Report) -> NodeReport {
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
            .filter_map(|report| match report.report {
                Some(Report::Change(change)) => Some((change.username, change.count)),
                _ => None,
            })
            .collect();
        changes.sort();
        changes
    }

    #[test]
    fn changes_are_reported_once_with_the_latest_count() {
        let mut local = LocalConnections::default();
        local.start_stream("n1");
        for _ in 0..3 {
            local.connected(&user("alice"));
        }
        local.connected(&user("bob"));
        local.disconnected(&user("bob"));
        assert_eq!(changes(local.take_reports()), [("alice".to_owned(), 3), ("bob".to_owned(), 0)]);
        assert_eq!(local.take_reports(), []);
    }

    #[test]
    fn without_a_stream_no_changes_are_collected_and_the_snapshot_is_complete() {
        let mut local = LocalConnections::default();
        local.connected(&user("alice"));
        local.connected(&user("gone"));
        local.disconnected(&user("gone"));
        local.typing(&user("alice"), &RoomName::lobby(), true);
        assert_eq!(local.take_reports(), []);
        let users = vec![Connections { username: "alice".into(), count: 1 }];
        let snapshot = Snapshot { node: "n1".into(), users, more: false };
        assert_eq!(local.start_stream("n1"), [node_report(Report::Snapshot(snapshot))]);
        local.connected(&user("alice"));
        local.end_stream();
        assert_eq!(local.take_reports(), []);
    }

    #[test]
    fn a_large_snapshot_is_split_and_the_last_part_is_marked() {
        let mut local = LocalConnections::default();
        assert_eq!(local.start_stream("n1").len(), 1, "an empty snapshot has one part");
        for n in 0..2_500 {
            local.connected(&user(&format!("a-rather-long-username-{n}")));
        }
        let parts = local.start_stream("n1");
        let shape = |report: &NodeReport| match &report.report {
            Some(Report::Snapshot(part)) => (part.users.len(), part.more),
            other => panic!("{other:?}"),
        };
        assert_eq!(parts.iter().map(shape).collect::<Vec<_>>(), [(1_000, true), (1_000, true), (500, false)]);
    }

    #[test]
    fn typing_changes_are_coalesced_and_limited() {
        let mut local = LocalConnections::default();
        local.start_stream("n1");
        local.typing(&user("alice"), &RoomName::lobby(), true);
        local.typing(&user("alice"), &RoomName::lobby(), false);
        let typing = SetTypingRequest { username: "alice".into(), is_typing: false, room: "lobby".into() };
        assert_eq!(local.take_reports(), [node_report(Report::Typing(typing))]);
        for n in 0..MAX_TYPING + 5 {
            local.typing(&user(&format!("u{n}")), &RoomName::lobby(), true);
        }
        assert_eq!(local.take_reports().len(), MAX_TYPING);
    }
}
