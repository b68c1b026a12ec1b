//! The net change of the roster between two flushes. The roster records it, the actor publishes it.

use std::collections::BTreeMap;

use proto::{RoomName, Username};

/// The net change since the previous diff.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diff {
    /// Users that came online, sorted.
    pub joined: Vec<Username>,
    /// Users that went offline, sorted.
    pub left: Vec<Username>,
    /// Number of users online.
    pub count: usize,
    /// Rooms whose typing users changed, with all their typing users, sorted; empty when the last user has stopped.
    pub typing: Vec<(RoomName, Vec<Username>)>,
}

/// Users whose state changed since the last diff, and whether they were online at that diff.
#[derive(Debug, Default)]
pub(super) struct OnlineChanges(BTreeMap<Username, bool>);

impl Diff {
    pub(super) fn is_empty(&self) -> bool {
        self.joined.is_empty() && self.left.is_empty() && self.typing.is_empty()
    }
}

impl OnlineChanges {
    /// Records a change of `user`. Only the first record after a diff counts.
    pub(super) fn record(&mut self, user: Username, was_online: bool) {
        self.0.entry(user).or_insert(was_online);
    }

    /// Returns the users that came online and those that went offline since the last diff.
    pub(super) fn take(&mut self, is_online: impl Fn(&Username) -> bool) -> (Vec<Username>, Vec<Username>) {
        let (mut joined, mut left) = (Vec::new(), Vec::new());
        for (user, was) in std::mem::take(&mut self.0) {
            match (was, is_online(&user)) {
                (false, true) => joined.push(user),
                (true, false) => left.push(user),
                _ => {}
            }
        }
        (joined, left)
    }
}
