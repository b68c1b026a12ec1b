//! Typing users: one entry per room and user, which expires.

use std::collections::{BTreeMap, BTreeSet};

use proto::{RoomName, Username};

use super::Millis;
use crate::Error;

/// All typing entries.
#[derive(Debug)]
pub(super) struct Typing {
    /// Lifetime of an entry.
    lifetime: Millis,
    /// Maximum number of entries.
    limit: usize,
    /// Number of entries.
    count: usize,
    /// Room -> user -> time of expiry. Rooms without entries are absent.
    rooms: BTreeMap<RoomName, BTreeMap<Username, Millis>>,
    /// Rooms changed since the last diff.
    changed: BTreeSet<RoomName>,
}

impl Typing {
    pub(super) fn new(lifetime: Millis, limit: usize) -> Self {
        Self { lifetime, limit, count: 0, rooms: BTreeMap::new(), changed: BTreeSet::new() }
    }

    /// Adds or renews the entry of `user` in `room`.
    pub(super) fn set(&mut self, user: Username, room: RoomName, now: Millis) -> Result<(), Error> {
        let expires = now.saturating_add(self.lifetime);
        if let Some(expiry) = self.rooms.get_mut(&room).and_then(|users| users.get_mut(&user)) {
            *expiry = expires.max(*expiry);
            return Ok(());
        }
        if self.count >= self.limit {
            return Err(Error::Full);
        }
        self.changed.insert(room.clone());
        self.rooms.entry(room).or_default().insert(user, expires);
        self.count += 1;
        Ok(())
    }

    /// Removes the entry of `user` in `room`.
    pub(super) fn clear(&mut self, user: &Username, room: &RoomName) {
        let Some(users) = self.rooms.get_mut(room) else { return };
        if users.remove(user).is_some() {
            self.count -= 1;
            self.changed.insert(room.clone());
        }
        if users.is_empty() {
            self.rooms.remove(room);
        }
    }

    /// Removes all entries of `user`.
    pub(super) fn clear_user(&mut self, user: &Username) {
        self.remove(|of, _| of == user);
    }

    /// Removes expired entries.
    pub(super) fn expire(&mut self, now: Millis) {
        self.remove(|_, expires| expires <= now);
    }

    /// Typing users by room.
    pub(super) fn rooms(&self) -> impl Iterator<Item = (&RoomName, Vec<&Username>)> {
        self.rooms.iter().map(|(room, users)| (room, users.keys().collect()))
    }

    /// Rooms with a change since the last call, with their typing users.
    pub(super) fn take_changes(&mut self) -> Vec<(RoomName, Vec<Username>)> {
        let changed = std::mem::take(&mut self.changed).into_iter();
        let users = |room: &RoomName| self.rooms.get(room).into_iter().flat_map(BTreeMap::keys).cloned();
        changed.map(|room| (room.clone(), users(&room).collect())).collect()
    }

    /// Removes entries that `is_removed` selects.
    fn remove(&mut self, is_removed: impl Fn(&Username, Millis) -> bool) {
        for (room, users) in &mut self.rooms {
            let before = users.len();
            users.retain(|user, expires| !is_removed(user, *expires));
            if users.len() < before {
                self.count -= before - users.len();
                self.changed.insert(room.clone());
            }
        }
        self.rooms.retain(|_, users| !users.is_empty());
    }
}
