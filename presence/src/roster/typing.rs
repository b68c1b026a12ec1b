//! Who types where: a stamp per room and user that expires. Owned by the roster.

use std::collections::BTreeMap;

use proto::{RoomName, Username};

use super::Millis;
use crate::Error;

/// All typing stamps.
#[derive(Debug)]
pub(super) struct Stamps {
    /// How long a stamp holds.
    lasting: Millis,
    /// How many stamps there may be.
    most: usize,
    /// How many there are.
    count: usize,
    /// Room -> user -> when the stamp expires. No room is empty.
    rooms: BTreeMap<RoomName, BTreeMap<Username, Millis>>,
    /// Rooms touched since the last diff, and who typed there then.
    before: BTreeMap<RoomName, Vec<Username>>,
}

impl Stamps {
    pub(super) fn new(lasting: Millis, most: usize) -> Self {
        Self { lasting, most, count: 0, rooms: BTreeMap::new(), before: BTreeMap::new() }
    }

    /// Stamps `user` in `room`, or renews the stamp.
    pub(super) fn set(&mut self, user: Username, room: RoomName, now: Millis) -> Result<(), Error> {
        let expires = now.saturating_add(self.lasting);
        if let Some(stamp) = self.rooms.get_mut(&room).and_then(|users| users.get_mut(&user)) {
            *stamp = expires.max(*stamp);
            return Ok(());
        }
        if self.count >= self.most {
            return Err(Error::Full);
        }
        self.touch(&room);
        self.rooms.entry(room).or_default().insert(user, expires);
        self.count += 1;
        Ok(())
    }

    /// Takes the stamp of `user` in `room` away, if there is one.
    pub(super) fn clear(&mut self, user: &Username, room: &RoomName) {
        self.remove(room, |of, _| of == user);
    }

    /// Takes every stamp of `user` away.
    pub(super) fn forget(&mut self, user: &Username) {
        self.remove_everywhere(|of, _| of == user);
    }

    /// Takes away what has expired.
    pub(super) fn expire(&mut self, now: Millis) {
        self.remove_everywhere(|_, expires| expires <= now);
    }

    /// Everybody typing, room by room.
    pub(super) fn rooms(&self) -> impl Iterator<Item = (&RoomName, Vec<&Username>)> {
        self.rooms.iter().map(|(room, users)| (room, users.keys().collect()))
    }

    /// The rooms whose typists are not who they were at the last call, with who types there now.
    pub(super) fn take_changes(&mut self) -> Vec<(RoomName, Vec<Username>)> {
        let before = std::mem::take(&mut self.before);
        let changes = before.into_iter().map(|(room, was)| {
            let is = self.typists(&room);
            (is != was).then_some((room, is))
        });
        changes.flatten().collect()
    }

    fn remove_everywhere(&mut self, gone: impl Fn(&Username, Millis) -> bool) {
        let hit = |users: &BTreeMap<Username, Millis>| users.iter().any(|(user, stamp)| gone(user, *stamp));
        let rooms: Vec<RoomName> =
            self.rooms.iter().filter(|(_, users)| hit(users)).map(|(room, _)| room.clone()).collect();
        for room in rooms {
            self.remove(&room, &gone);
        }
    }

    fn remove(&mut self, room: &RoomName, gone: impl Fn(&Username, Millis) -> bool) {
        if !self.rooms.contains_key(room) {
            return;
        }
        self.touch(room);
        let Some(users) = self.rooms.get_mut(room) else { return };
        let had = users.len();
        users.retain(|user, expires| !gone(user, *expires));
        self.count -= had - users.len();
        if users.is_empty() {
            self.rooms.remove(room);
        }
    }

    /// Remembers who typed in `room` at the last diff.
    fn touch(&mut self, room: &RoomName) {
        if !self.before.contains_key(room) {
            self.before.insert(room.clone(), self.typists(room));
        }
    }

    fn typists(&self, room: &RoomName) -> Vec<Username> {
        self.rooms.get(room).map(|users| users.keys().cloned().collect()).unwrap_or_default()
    }
}
