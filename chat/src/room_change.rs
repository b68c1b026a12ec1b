//! Changes of rooms, as the stores commit them and the broker delivers them. Pure.

use proto::{
    RoomName, Username,
    event::{Item, Role},
};
use serde::{Deserialize, Serialize};

/// The maximum number of items in one answer of [`crate::directory::Directory::changes_since`].
pub const ITEMS: usize = 500;

/// The number of changed parts of a room after which a client loads the room anew instead of receiving them.
pub const MAX_CHANGED: usize = 2_000;

/// A committed change of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomChange {
    /// The room.
    pub room: RoomName,
    /// The number of the change in its room. The change before it has the number `rev - 1`.
    pub rev: u64,
    /// The kind of the change.
    pub what: ChangeKind,
    /// The user that made the change. `None` for a change that a client has missed.
    pub by: Option<Username>,
    /// The parts of the room that changed, in their state after the change.
    pub items: Vec<Item>,
    /// The members of a room that was archived, at that time. Empty for other changes.
    pub members: Vec<Username>,
    /// The offset of the change in the log of one process. `None` when the log is another store, to which the change is appended
    /// afterwards.
    pub offset: Option<u64>,
}

/// The kind of a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChangeKind {
    /// The user became a member. Also the creation of a room, by its owner.
    Joined(Username),
    /// The membership of the user ended.
    Left(Username),
    /// The room ended.
    Archived,
    /// A change of other properties of the room.
    Other,
}

/// What changed in a room after a change that a client has applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangesSince {
    /// The number of the last change that `changes` covers.
    pub rev: u64,
    /// The changed parts in their present state, by the number of their last change, in ascending order.
    pub changes: Vec<(u64, Vec<Item>)>,
    /// Whether there are later changes.
    pub more: bool,
    /// Whether the client must load the room anew: its number is in the future or before the first one that is kept, or too much has
    /// changed. Then `changes` is empty.
    pub reset: bool,
}

impl ChangesSince {
    /// The answer when a client must load the room anew. `rev` is the room's last change.
    pub fn reset(rev: u64) -> Self {
        Self { rev, changes: vec![], more: false, reset: true }
    }

    /// Pages of whole changes: at most [`ITEMS`] items unless a single change has more. `items` are the changed parts with their numbers,
    /// in ascending order; `rev` is the room's last change.
    pub fn page(rev: u64, items: Vec<(u64, Item)>) -> Self {
        let mut changes: Vec<(u64, Vec<Item>)> = Vec::new();
        for (count, (at, item)) in items.into_iter().enumerate() {
            match changes.last_mut() {
                Some((last, items)) if *last == at => items.push(item),
                last => {
                    if count >= ITEMS {
                        let rev = last.map_or(rev, |(last, _)| *last);
                        return Self { rev, changes, more: true, reset: false };
                    }
                    changes.push((at, vec![item]));
                }
            }
        }
        Self { rev, changes, more: false, reset: false }
    }
}

impl RoomChange {
    /// The event for clients.
    pub fn event(&self) -> proto::event::Change {
        proto::event::Change {
            room: self.room.clone(),
            rev: self.rev,
            after: self.rev.saturating_sub(1),
            items: self.items.clone(),
        }
    }

    /// Whether a user becomes a member by the change.
    pub fn begins_membership(&self) -> bool {
        matches!(self.what, ChangeKind::Joined(_))
    }

    /// The role of `user` after the change. `None` when the user is not a member or the change does not concern them.
    pub fn role_of(&self, user: &Username) -> Option<Role> {
        self.items.iter().find_map(|item| item.member_named(user))?.role
    }

    /// The user that made the change, unless it is `user`.
    pub fn by_other_than(&self, user: &Username) -> Option<Username> {
        self.by.clone().filter(|by| by.key() != user.key())
    }
}

#[cfg(test)]
mod tests {
    use proto::event::MemberState;

    use super::*;

    /// Changed members with these numbers.
    fn items(revs: impl IntoIterator<Item = u64>) -> Vec<(u64, Item)> {
        let item = |(n, rev): (usize, u64)| {
            let username = format!("user{n}").parse().unwrap();
            (rev, Item::Member { member: MemberState { username, role: None }, by: None })
        };
        revs.into_iter().enumerate().map(item).collect()
    }

    /// The number of the answer, the number of its items and of its changes, and whether there are more.
    fn page(revs: impl IntoIterator<Item = u64>) -> (u64, usize, usize, bool) {
        let page = ChangesSince::page(9_000, items(revs));
        assert!(!page.reset);
        let count = page.changes.iter().map(|(_, items)| items.len()).sum();
        (page.rev, count, page.changes.len(), page.more)
    }

    #[test]
    fn an_answer_has_at_most_500_items_of_whole_changes() {
        assert_eq!(page([]), (9_000, 0, 0, false));
        assert_eq!(page(1..=500), (9_000, 500, 500, false));
        assert_eq!(page(1..=501), (500, 500, 500, true));
        // A change of 100 items that begins before the end of the page, or with it.
        let with_large =
            |before: u64| (1..=before).chain(std::iter::repeat_n(before + 1, 100)).chain([8_000]);
        assert_eq!(page(with_large(450)), (451, 550, 451, true));
        assert_eq!(page(with_large(500)), (500, 500, 500, true));
        assert_eq!(page(std::iter::repeat_n(7, 700)), (9_000, 700, 1, false));
    }
}
