//! Typing users: one entry per room and user, which expires.

use std::collections::BTreeMap;

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
    /// Rooms changed since the last diff, and their typing users at that diff.
    before: BTreeMap<RoomName, Vec<Username>>,
}

impl Typing {
    pub(super) fn new(lifetime: Millis, limit: usize) -> Self {
        Self { lifetime, limit, count: 0, rooms: BTreeMap::new(), before: BTreeMap::new() }
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
        self.record_before(&room);
        self.rooms.entry(room).or_default().insert(user, expires);
        self.count += 1;
        Ok(())
    }

    /// Removes the entry of `user` in `room`.
    pub(super) fn clear(&mut self, user: &Username, room: &RoomName) {
        self.remove(room, |of, _| of == user);
    }

    /// Removes all entries of `user`.
    pub(super) fn clear_user(&mut self, user: &Username) {
        self.remove_everywhere(|of, _| of == user);
    }

    /// Removes expired entries.
    pub(super) fn expire(&mut self, now: Millis) {
        self.remove_everywhere(|_, expires| expires <= now);
    }

    /// Typing users by room.
    pub(super) fn rooms(&self) -> impl Iterator<Item = (&RoomName, Vec<&Username>)> {
        self.rooms.iter().map(|(room, users)| (room, users.keys().collect()))
    }

    /// Rooms whose typing users differ from the last call, with their typing users.
    pub(super) fn take_changes(&mut self) -> Vec<(RoomName, Vec<Username>)> {
        let before = std::mem::take(&mut self.before);
        let changes = before.into_iter().map(|(room, was)| {
            let is = self.users_in(&room);
            (is != was).then_some((room, is))
        });
        changes.flatten().collect()
    }

    fn remove_everywhere(&mut self, is_removed: impl Fn(&Username, Millis) -> bool) {
        let hit = |users: &BTreeMap<Username, Millis>| {
            users.iter().any(|(user, expires)| is_removed(user, *expires))
        };
        let rooms: Vec<RoomName> =
            self.rooms.iter().filter(|(_, users)| hit(users)).map(|(room, _)| room.clone()).collect();
        for room in rooms {
            self.remove(&room, &is_removed);
        }
    }

    fn remove(&mut self, room: &RoomName, is_removed: impl Fn(&Username, Millis) -> bool) {
        if !self.rooms.contains_key(room) {
            return;
        }
        self.record_before(room);
        let Some(users) = self.rooms.get_mut(room) else { return };
        let had = users.len();
        users.retain(|user, expires| !is_removed(user, *expires));
        self.count -= had - users.len();
        if users.is_empty() {
            self.rooms.remove(room);
        }
    }

    /// Records the typing users of `room` at the last diff.
    fn record_before(&mut self, room: &RoomName) {
        if !self.before.contains_key(room) {
            self.before.insert(room.clone(), self.users_in(room));
        }
    }

    fn users_in(&self, room: &RoomName) -> Vec<Username> {
        self.rooms.get(room).map(|users| users.keys().cloned().collect()).unwrap_or_default()
    }
}
