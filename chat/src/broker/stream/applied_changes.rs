//! Which changes of rooms this node has applied to its sockets, by the versions of the rooms. Pure; asked by [`super::subscriptions`].

use std::collections::{HashMap, HashSet, VecDeque};

use proto::RoomName;

use crate::changes::{Change, Changed, KEPT};

/// The maximum number of rooms that are kept. The earliest goes.
const ROOMS: usize = 65_536;

/// The maximum number of rooms with a change of this node that has not been compared with the store.
const UNCHECKED: usize = 10_000;

/// Of a room that no socket here was in, changes are applied that are at most so much older than the last one, in milliseconds.
const BURST_MS: u64 = 10_000;

/// See the module.
#[derive(Debug, Default)]
pub struct AppliedChanges {
    /// The version up to which changes are applied. None: sockets are in the room, and the version is not known.
    rooms: HashMap<RoomName, Option<u64>>,
    /// The rooms in the order in which they came.
    order: VecDeque<RoomName>,
    /// Rooms that this node has changed and not compared with the store since.
    unchecked: HashSet<RoomName>,
}

/// What is to be applied.
#[derive(Debug, PartialEq, Eq)]
pub struct Due {
    /// Changes, oldest first.
    pub changes: Vec<Change>,
    /// Whether there may be changes that the room does not keep any more.
    pub has_gap: bool,
}

impl AppliedChanges {
    /// Whether changes of the room are applied from a certain version on.
    pub fn knows(&self, room: &RoomName) -> bool {
        self.rooms.contains_key(room)
    }

    /// Sockets enter a room that is at `version`.
    pub fn subscribe(&mut self, room: &RoomName, version: Option<u64>) {
        if !self.knows(room) {
            self.set(room, version);
        }
    }

    /// Whether the room has changes that are not applied.
    pub fn lacks(&self, room: &RoomName, version: u64) -> bool {
        !self.rooms.get(room).is_some_and(|known| known.is_some_and(|known| known >= version))
    }

    /// All rooms.
    pub fn rooms(&self) -> Vec<RoomName> {
        self.rooms.keys().cloned().collect()
    }

    /// This node has changed the room.
    pub fn changed_here(&mut self, room: &RoomName) {
        if self.unchecked.len() < UNCHECKED {
            self.unchecked.insert(room.clone());
        }
    }

    /// The rooms that this node has changed since the last call.
    pub fn take_unchecked(&mut self) -> HashSet<RoomName> {
        std::mem::take(&mut self.unchecked)
    }

    /// The changes up to version `to` that are not applied. They count as applied from now on.
    pub fn take(&mut self, changed: &Changed, to: u64) -> Due {
        let known = self.rooms.get(&changed.room).copied();
        let mut changes: Vec<Change> =
            changed.changes.iter().filter(|change| change.version <= to).cloned().collect();
        let first = changed.changes.first().map_or(0, |first| first.version);
        let has_gap = match known {
            Some(Some(known)) => {
                changes.retain(|change| change.version > known);
                first > known + 1 && known < to
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
        self.set(&changed.room, Some(known.flatten().unwrap_or(0).max(to)));
        Due { changes, has_gap }
    }

    /// The changes up to `version` are applied.
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
    use crate::changes::What;

    fn tea() -> RoomName {
        "tea".parse().unwrap()
    }

    /// A room at `version` that keeps the changes from `first` on, each made so many milliseconds after the one before.
    fn changed(first: u64, version: u64, apart: u64) -> Changed {
        let change = |version| {
            let at = Timestamp(1_000_000 + version * apart);
            Change { version, at, what: What::Other, is_own: false }
        };
        Changed { room: tea(), version, is_open: true, changes: (first..=version).map(change).collect() }
    }

    fn versions(deadline_now: &Due) -> Vec<u64> {
        deadline_now.changes.iter().map(|change| change.version).collect()
    }

    #[test]
    fn every_change_is_applied_once_and_in_order() {
        // What is known before, what the room keeps, up to where: the changes to apply, and whether there is a gap.
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
        for (known, changed, to, expected, has_gap) in cases {
            let mut seen = AppliedChanges::default();
            if let Some(known) = known {
                seen.subscribe(&tea(), known);
            }
            let deadline_now = seen.take(&changed, to);
            assert_eq!(
                (&versions(&deadline_now)[..], deadline_now.has_gap),
                (expected, has_gap),
                "{known:?} {changed:?} {to}"
            );
            assert!(!seen.lacks(&tea(), to), "{known:?} {to}");
            assert_eq!(versions(&seen.take(&changed, to)), [0; 0], "again");
        }
    }

    #[test]
    fn rooms_are_bounded() {
        let mut seen = AppliedChanges::default();
        for n in 0..=ROOMS {
            let room = format!("r{n}").parse().unwrap();
            seen.set(&room, Some(1));
            seen.set(&room, Some(2));
            seen.changed_here(&room);
        }
        assert_eq!((seen.rooms.len(), seen.order.len()), (ROOMS, ROOMS));
        assert_eq!(seen.take_unchecked().len(), UNCHECKED);
        assert!(seen.lacks(&"r0".parse().unwrap(), 1));
    }
}
