//! Detects that the store of rooms was replaced by an older one, by changes that were committed and that the store lacks. Called by
//! [`super::append`], which does the same for messages.
//!
//! The version of a room only grows, and a change is applied and recorded after a majority has it. So a room with a lower version, without a
//! document, or with another change under the same number, is of another history.

use std::collections::{HashMap, VecDeque};

use proto::{RoomName, Timestamp};
use remote::redis::{AsyncCommands, streams::StreamRangeReply};

use super::{MAX_SUSPECTS, Stream, append::NEWEST, record::StreamRecord};
use crate::{Error, changes::Changed, redis};

/// The number of rooms whose last applied change is compared with the store.
const ROOMS: usize = 256;

/// A change of a room that was committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    version: u64,
    /// The time of the change, which distinguishes it from another change with the same number. `None` when it is unknown.
    at: Option<Timestamp>,
}

/// The last changes that this node has applied, and the rooms that must be compared with the store. Pure.
#[derive(Debug, Default)]
pub struct LastChanges {
    /// The last change of each of the rooms that have changed last, earliest first.
    last: VecDeque<(RoomName, Version)>,
    suspects: HashMap<RoomName, Version>,
}

impl Version {
    fn is_missing_in(self, found: &Changed) -> bool {
        let same = found.changes.iter().find(|change| change.version == self.version);
        let is_other = same.zip(self.at).is_some_and(|(change, at)| change.at != at);
        found.version < self.version || is_other
    }
}

impl LastChanges {
    /// Records that the changes up to version `to` of a room are applied.
    pub fn note(&mut self, changed: &Changed, to: u64) {
        let room = &changed.room;
        let index = self.last.iter().position(|(other, _)| other == room);
        let previous = index.and_then(|index| self.last.remove(index)).map(|(_, version)| version);
        if let Some(version) = previous.filter(|version| version.is_missing_in(changed)) {
            self.add_suspect(room, version);
        }
        let change = changed.changes.iter().find(|change| change.version == to);
        let version = Version { version: to, at: change.map(|change| change.at) };
        let latest = previous.filter(|previous| previous.version >= to).unwrap_or(version);
        self.last.push_back((room.clone(), latest));
        if self.last.len() > ROOMS {
            self.last.pop_front();
        }
    }

    /// Makes the next check compare a room with the store, which may lack its change `version`.
    pub fn suspect(&mut self, room: &RoomName, version: u64) {
        let last = self.last.iter().find(|(other, last)| other == room && last.version == version);
        self.add_suspect(room, last.map_or(Version { version, at: None }, |(_, last)| *last));
    }

    /// Whether rooms must be compared with the store.
    pub fn has_suspects(&self) -> bool {
        !self.suspects.is_empty()
    }

    fn add_suspect(&mut self, room: &RoomName, version: Version) {
        if self.suspects.len() < MAX_SUSPECTS {
            self.suspects.entry(room.clone()).or_insert(version);
        }
    }
}

impl Stream {
    /// Whether the store lacks a change that was committed: of the suspects, of the rooms that this node has changed last, or of the newest
    /// record of a change in the stream after offset `since`. Clears the suspects whose changes the store has.
    pub(super) async fn lacks_changes(&self, since: u64) -> Result<bool, Error> {
        let (suspects, last) = {
            let applied = self.applied();
            (applied.last_changes.suspects.clone(), applied.last_changes.last.clone())
        };
        for (room, version) in suspects {
            if self.is_missing(&room, version).await? {
                return Ok(true);
            }
            self.applied().last_changes.suspects.remove(&room);
        }
        // Other changes may have been made since, up to the same number.
        if let Some((room, version)) = last.back()
            && self.is_missing(room, *version).await?
        {
            return Ok(true);
        }
        let mut expected: HashMap<RoomName, u64> =
            last.into_iter().map(|(room, version)| (room, version.version)).collect();
        if let Some((room, rev)) = self.newest_recorded_change(since).await? {
            let version = expected.entry(room).or_default();
            *version = rev.max(*version);
        }
        let rooms: Vec<RoomName> = expected.keys().cloned().collect();
        let found: HashMap<RoomName, u64> = match rooms.is_empty() {
            true => HashMap::new(),
            false => self.rooms.versions(&rooms).await?.into_iter().collect(),
        };
        for (room, version) in expected {
            let is_lower = found.get(&room).is_none_or(|found| *found < version);
            if is_lower && self.is_missing(&room, Version { version, at: None }).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether the store lacks a change of a room. A document that cannot be read does not lack it.
    async fn is_missing(&self, room: &RoomName, version: Version) -> Result<bool, Error> {
        match self.rooms.of(std::slice::from_ref(room)).await?.pop() {
            Some(found) => Ok(version.is_missing_in(&found)),
            None => Ok(self.rooms.members(room).await.is_ok_and(|members| members.is_empty())),
        }
    }

    /// The room and number of the newest change that has a record in the stream after offset `since`.
    async fn newest_recorded_change(&self, since: u64) -> Result<Option<(RoomName, u64)>, Error> {
        let (key, base) = (self.redis.key(redis::STREAM), format!("({since}-0"));
        let entries: StreamRangeReply =
            self.redis.ask(async |mut redis| redis.xrevrange_count(key, "+", base, NEWEST).await).await?;
        let records =
            entries.ids.iter().filter_map(|entry| StreamRecord::decode(&entry.get::<Vec<u8>>("entry")?));
        Ok(records.into_iter().find_map(|record| record.room().cloned().zip(record.rev())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{changes::Change, directory::ChangeKind};

    fn room(name: &str) -> RoomName {
        name.parse().unwrap()
    }

    /// A room at `version` whose changes were made at the time `at`.
    fn changed(name: &str, version: u64, at: u64) -> Changed {
        let change = |version| Change {
            version,
            at: Timestamp(at),
            what: ChangeKind::Other,
            by: None,
            items: None,
            is_own: false,
        };
        Changed { room: room(name), version, is_open: true, changes: (1..=version).map(change).collect() }
    }

    #[test]
    fn a_lower_version_and_another_change_of_the_same_number_are_suspect() {
        // The second state of the room, and whether the first one, version 5 at time 1, is missing in it.
        let cases = [
            (changed("tea", 5, 1), false),
            (changed("tea", 7, 1), false),
            (changed("tea", 4, 1), true),
            (changed("tea", 5, 2), true),
            (changed("tea", 7, 2), true),
            (Changed { changes: vec![], ..changed("tea", 7, 2) }, false),
        ];
        for (second, is_missing) in cases {
            let mut last_changes = LastChanges::default();
            last_changes.note(&changed("tea", 5, 1), 5);
            last_changes.note(&second, second.version);
            let suspects: Vec<_> = last_changes.suspects.into_iter().collect();
            let first = Version { version: 5, at: Some(Timestamp(1)) };
            let expected = if is_missing { vec![(room("tea"), first)] } else { vec![] };
            assert_eq!(suspects, expected, "{second:?}");
        }
    }

    #[test]
    fn last_changes_and_suspects_are_bounded() {
        let mut last_changes = LastChanges::default();
        for n in 0..=ROOMS {
            last_changes.note(&changed(&format!("r{n}"), 1, 1), 1);
            last_changes.suspect(&room(&format!("r{n}")), 2);
        }
        assert_eq!((last_changes.last.len(), last_changes.suspects.len()), (ROOMS, MAX_SUSPECTS));
        assert_eq!(last_changes.last[0].0, room("r1"), "the earliest is evicted");
    }
}
