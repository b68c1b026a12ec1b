//! The changes of rooms that this node has applied to its sockets, by the versions of the rooms. Pure; called by
//! [`super::subscriptions`].

use std::collections::{HashMap, HashSet, VecDeque};

use proto::RoomName;

use crate::changes::{Change, Changed, KEPT};

/// The maximum number of rooms. The earliest is evicted.
const ROOMS: usize = 65_536;

/// The maximum number of rooms that this node has changed and not yet compared with the store.
const UNCHECKED: usize = 10_000;

/// The maximum age, in milliseconds, of the changes that are applied in a room that had no socket on this node. The age counts back from
/// the room's last change.
const BURST_MS: u64 = 10_000;

/// The version of each room up to which changes are applied.
#[derive(Debug, Default)]
pub struct AppliedChanges {
    /// The version up to which changes are applied. `None` when sockets are in the room and the version is unknown.
    rooms: HashMap<RoomName, Option<u64>>,
    /// The rooms in the order in which they were added.
    order: VecDeque<RoomName>,
    /// The rooms that this node has changed and has not compared with the store since.
    unchecked: HashSet<RoomName>,
}

/// The changes of a room that must be applied.
#[derive(Debug, PartialEq, Eq)]
pub struct PendingChanges {
    /// The changes, oldest first.
    pub changes: Vec<Change>,
    /// Whether changes may be missing that the room no longer keeps.
    pub has_gap: bool,
}

impl AppliedChanges {
    /// Whether the room was added.
    pub fn contains(&self, room: &RoomName) -> bool {
        self.rooms.contains_key(room)
    }

    /// Adds a room at `version`, before sockets join it. Does nothing when the room was added before.
    pub fn add(&mut self, room: &RoomName, version: Option<u64>) {
        if !self.contains(room) {
            self.set(room, version);
        }
    }

    /// Whether changes of the room up to `version` are not applied yet.
    pub fn lacks(&self, room: &RoomName, version: u64) -> bool {
        !self.rooms.get(room).is_some_and(|applied| applied.is_some_and(|applied| applied >= version))
    }

    /// All rooms.
    pub fn rooms(&self) -> Vec<RoomName> {
        self.rooms.keys().cloned().collect()
    }

    /// Marks a room that this node has changed.
    pub fn mark_unchecked(&mut self, room: &RoomName) {
        if self.unchecked.len() < UNCHECKED {
            self.unchecked.insert(room.clone());
        }
    }

    /// Takes the rooms that were marked since the last call.
    pub fn take_unchecked(&mut self) -> HashSet<RoomName> {
        std::mem::take(&mut self.unchecked)
    }

    /// Takes the changes up to version `to` that are not applied. From then on they count as applied.
    pub fn take(&mut self, changed: &Changed, to: u64) -> PendingChanges {
        let applied = self.rooms.get(&changed.room).copied();
        let mut changes: Vec<Change> =
            changed.changes.iter().filter(|change| change.version <= to).cloned().collect();
        let has_gap = match applied {
            Some(Some(applied)) => {
                changes.retain(|change| change.version > applied);
                (changes.len() as u64) < to.saturating_sub(applied)
            }
            Some(None) => {
                changes.clear();
                true
            }
            None => {
                let last = changes.last().map_or(0, |last| last.at.0);
                changes.retain(|change| change.at.0.saturating_add(BURST_MS) >= last);
                changes.len() >= KEPT
            }
        };
        self.set(&changed.room, Some(applied.flatten().unwrap_or(0).max(to)));
        PendingChanges { changes, has_gap }
    }

    /// Records that the changes up to `version` are applied.
    pub fn set(&mut self, room: &RoomName, version: Option<u64>) {
        if self.rooms.insert(room.clone(), version).is_none() {
            self.order.push_back(room.clone());
        }
        if self.order.len() > ROOMS
            && let Some(earliest) = self.order.pop_front()
        {
            self.rooms.remove(&earliest);
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::Timestamp;

    use super::*;
    use crate::directory::ChangeKind;

    fn tea() -> RoomName {
        "tea".parse().unwrap()
    }

    /// A room at `version` that keeps the changes from `first` on, each made `apart` milliseconds after the previous one.
    fn changed(first: u64, version: u64, apart: u64) -> Changed {
        let change = |version| {
            let at = Timestamp(1_000_000 + version * apart);
            Change { version, at, what: ChangeKind::Other, by: None, items: vec![], is_own: false }
        };
        Changed { room: tea(), version, is_open: true, changes: (first..=version).map(change).collect() }
    }

    fn versions(pending: &PendingChanges) -> Vec<u64> {
        pending.changes.iter().map(|change| change.version).collect()
    }

    #[test]
    fn every_change_is_applied_once_and_in_order() {
        // The version before, the changes that the room keeps, the version up to which they are taken; the expected changes, and whether
        // there is a gap.
        type Case = (Option<Option<u64>>, Changed, u64, &'static [u64], bool);
        let cases: [Case; 9] = [
            (Some(Some(2)), changed(1, 4, 1), 4, &[3, 4], false),
            (Some(Some(2)), changed(1, 4, 1), 3, &[3], false),
            (Some(Some(4)), changed(1, 4, 1), 4, &[], false),
            (Some(Some(4)), changed(1, 4, 1), 2, &[], false),
            (Some(Some(2)), changed(3, 4, 1), 4, &[3, 4], false),
            (Some(Some(1)), changed(3, 4, 1), 4, &[3, 4], true),
            (Some(None), changed(1, 4, 1), 4, &[], true),
            (None, changed(1, 4, 1), 4, &[1, 2, 3, 4], false),
            (None, changed(1, 4, BURST_MS), 4, &[3, 4], false),
        ];
        for (applied, changed, to, expected, has_gap) in cases {
            let mut applied_changes = AppliedChanges::default();
            if let Some(applied) = applied {
                applied_changes.add(&tea(), applied);
            }
            let pending = applied_changes.take(&changed, to);
            assert_eq!(
                (&versions(&pending)[..], pending.has_gap),
                (expected, has_gap),
                "{applied:?} {changed:?} {to}"
            );
            assert!(!applied_changes.lacks(&tea(), to), "{applied:?} {to}");
            assert_eq!(versions(&applied_changes.take(&changed, to)), [0; 0], "again");
        }
    }

    #[test]
    fn rooms_are_bounded() {
        let mut applied_changes = AppliedChanges::default();
        for n in 0..=ROOMS {
            let room = format!("r{n}").parse().unwrap();
            applied_changes.set(&room, Some(1));
            applied_changes.set(&room, Some(2));
            applied_changes.mark_unchecked(&room);
        }
        assert_eq!((applied_changes.rooms.len(), applied_changes.order.len()), (ROOMS, ROOMS));
        assert_eq!(applied_changes.take_unchecked().len(), UNCHECKED);
        assert!(applied_changes.lacks(&"r0".parse().unwrap(), 1));
    }
}
