//! What changed between two looks at the roster. Written by the roster, told to every stream by the actor.

use std::collections::BTreeMap;

use proto::{RoomName, Username};

/// The net change since the last one was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diff {
    /// Who came online, sorted.
    pub joined: Vec<Username>,
    /// Who went offline, sorted.
    pub left: Vec<Username>,
    /// How many are online now.
    pub count: usize,
    /// Rooms where the typists changed, and everybody typing there now, sorted; empty when the last one stopped.
    pub typing: Vec<(RoomName, Vec<Username>)>,
}

/// Who went on or off since the last diff, and what they were then.
#[derive(Debug, Default)]
pub(super) struct Flips(BTreeMap<Username, bool>);

impl Diff {
    pub(super) fn is_empty(&self) -> bool {
        self.joined.is_empty() && self.left.is_empty() && self.typing.is_empty()
    }
}

impl Flips {
    /// `user` was online before this change, or was not. Only the first note of an interval counts.
    pub(super) fn note(&mut self, user: Username, was_online: bool) {
        self.0.entry(user).or_insert(was_online);
    }

    /// Who is online now and was not at the last diff, and the other way round.
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
