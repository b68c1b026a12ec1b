//! Room membership, pure: members by key, rooms by name, both directions in constant time. One table per
//! namespace and worker. Used by [`super::LocalSockets`].

use std::collections::HashMap;

use slab::Slab;

use crate::Room;

/// The members and rooms of one namespace on one worker. `T` is the value of a member.
#[derive(Debug)]
pub(crate) struct RoomTable<T> {
    members: Slab<Member<T>>,
    rooms: HashMap<Room, Vec<RoomSlot>>,
    /// The number of the current selection. A member whose `selected_in` equals it is selected already.
    round: u64,
}

#[derive(Debug)]
struct Member<T> {
    item: T,
    /// The rooms of the member, each with the index of its slot there.
    rooms: Vec<(Room, usize)>,
    selected_in: u64,
}

/// The entry of one member in a room.
#[derive(Debug, Clone, Copy)]
struct RoomSlot {
    key: usize,
    /// The index of the room in the member's list.
    back: usize,
}

impl<T> Default for RoomTable<T> {
    fn default() -> Self {
        Self { members: Slab::new(), rooms: HashMap::new(), round: 0 }
    }
}

impl<T> RoomTable<T> {
    /// Adds a member that is in no room. Returns its key.
    pub(crate) fn add(&mut self, item: T) -> usize {
        self.members.insert(Member { item, rooms: Vec::new(), selected_in: 0 })
    }

    /// Removes a member from the table and all its rooms.
    pub(crate) fn remove(&mut self, key: usize) -> Option<T> {
        while let Some((room, _)) = self.members.get(key)?.rooms.last().cloned() {
            self.leave(key, &room);
        }
        self.members.try_remove(key).map(|member| member.item)
    }

    /// Adds a member to a room. Returns false if it was in the room already.
    pub(crate) fn join(&mut self, key: usize, room: &Room) -> bool {
        let Some(member) = self.members.get_mut(key) else { return false };
        if member.rooms.iter().any(|(name, _)| name == room) {
            return false;
        }
        let slots = self.rooms.entry(room.clone()).or_default();
        member.rooms.push((room.clone(), slots.len()));
        slots.push(RoomSlot { key, back: member.rooms.len() - 1 });
        true
    }

    /// Removes a member from a room. Returns false if it was not in the room.
    pub(crate) fn leave(&mut self, key: usize, room: &Room) -> bool {
        let Some(member) = self.members.get_mut(key) else { return false };
        let Some(back) = member.rooms.iter().position(|(name, _)| name == room) else { return false };
        let (_, slot) = member.rooms.swap_remove(back);
        if let Some((moved, index)) = member.rooms.get(back).cloned()
            && let Some(slot) = self.rooms.get_mut(&moved).and_then(|slots| slots.get_mut(index))
        {
            slot.back = back;
        }
        self.remove_slot(room, slot);
        true
    }

    /// Removes a slot. The room's last slot moves to its index. An empty room is removed.
    fn remove_slot(&mut self, room: &Room, slot: usize) {
        let Some(slots) = self.rooms.get_mut(room) else { return };
        slots.swap_remove(slot);
        if let Some(moved) = slots.get(slot) {
            self.members[moved.key].rooms[moved.back].1 = slot;
        }
        if slots.is_empty() {
            self.rooms.remove(room);
        }
    }

    /// Whether a member is in a room.
    pub(crate) fn is_in(&self, key: usize, room: &Room) -> bool {
        self.members.get(key).is_some_and(|member| member.rooms.iter().any(|(name, _)| name == room))
    }

    /// Calls `each` for every member of any of `rooms`, once per member. Without rooms: for every member.
    pub(crate) fn select(&mut self, rooms: &[Room], mut each: impl FnMut(usize, &T)) {
        match rooms {
            [] => self.members.iter().for_each(|(key, member)| each(key, &member.item)),
            [room] => {
                for slot in self.rooms.get(room).into_iter().flatten() {
                    each(slot.key, &self.members[slot.key].item);
                }
            }
            rooms => self.select_union(rooms, each),
        }
    }

    /// As [`RoomTable::select`], without the members of any of `except`.
    pub(crate) fn select_except(&mut self, rooms: &[Room], except: &[Room], mut each: impl FnMut(usize, &T)) {
        if except.is_empty() {
            return self.select(rooms, each);
        }
        // Marked members count as selected already.
        self.select_union(except, |_, _| {});
        if rooms.is_empty() {
            let round = self.round;
            let rest = self.members.iter().filter(|(_, member)| member.selected_in != round);
            return rest.for_each(|(key, member)| each(key, &member.item));
        }
        self.select_marking(rooms, each);
    }

    fn select_union(&mut self, rooms: &[Room], each: impl FnMut(usize, &T)) {
        self.round += 1;
        self.select_marking(rooms, each);
    }

    /// Selects the members of `rooms` that are not marked in this round, and marks them.
    fn select_marking(&mut self, rooms: &[Room], mut each: impl FnMut(usize, &T)) {
        for slot in rooms.iter().filter_map(|room| self.rooms.get(room)).flatten() {
            let member = &mut self.members[slot.key];
            if member.selected_in != self.round {
                member.selected_in = self.round;
                each(slot.key, &member.item);
            }
        }
    }

    /// The rooms a member is in.
    pub(crate) fn rooms_of(&self, key: usize) -> Vec<Room> {
        let rooms = self.members.get(key).map(|member| member.rooms.iter());
        rooms.into_iter().flatten().map(|(room, _)| room.clone()).collect()
    }

    /// The number of members.
    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// The number of rooms with members.
    #[cfg(test)]
    pub(crate) fn room_count(&self) -> usize {
        self.rooms.len()
    }
}

#[cfg(test)]
#[path = "room_table_tests.rs"]
mod tests;
