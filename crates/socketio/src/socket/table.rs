//! Who is in which room, pure: members by key, rooms by name, both directions in constant time. One table per namespace
//! and worker. Called by [`super::Local`].

use std::collections::HashMap;

use slab::Slab;

use crate::Room;

/// See the module. `T` is what a member is to the caller.
#[derive(Debug)]
pub(crate) struct Table<T> {
    members: Slab<Member<T>>,
    rooms: HashMap<Room, Vec<Seat>>,
    /// Marks whom a selection has already taken.
    round: u64,
}

#[derive(Debug)]
struct Member<T> {
    item: T,
    /// The rooms the member is in, with the index of its seat there.
    rooms: Vec<(Room, usize)>,
    marked: u64,
}

/// One member's place in a room.
#[derive(Debug, Clone, Copy)]
struct Seat {
    key: usize,
    /// The index of the room in the member's own list.
    back: usize,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { members: Slab::new(), rooms: HashMap::new(), round: 0 }
    }
}

impl<T> Table<T> {
    /// Adds a member, in no room yet; answers with its key.
    pub(crate) fn add(&mut self, item: T) -> usize {
        self.members.insert(Member { item, rooms: Vec::new(), marked: 0 })
    }

    /// Takes a member out of the table and of all its rooms.
    pub(crate) fn remove(&mut self, key: usize) -> Option<T> {
        while let Some((room, _)) = self.members.get(key)?.rooms.last().cloned() {
            self.leave(key, &room);
        }
        self.members.try_remove(key).map(|member| member.item)
    }

    /// Puts a member into a room; answers whether it was not there before.
    pub(crate) fn join(&mut self, key: usize, room: &Room) -> bool {
        let Some(member) = self.members.get_mut(key) else { return false };
        if member.rooms.iter().any(|(name, _)| name == room) {
            return false;
        }
        let seats = self.rooms.entry(room.clone()).or_default();
        member.rooms.push((room.clone(), seats.len()));
        seats.push(Seat { key, back: member.rooms.len() - 1 });
        true
    }

    /// Takes a member out of a room; answers whether it was there.
    pub(crate) fn leave(&mut self, key: usize, room: &Room) -> bool {
        let Some(member) = self.members.get_mut(key) else { return false };
        let Some(back) = member.rooms.iter().position(|(name, _)| name == room) else { return false };
        let (_, seat) = member.rooms.swap_remove(back);
        if let Some((moved, index)) = member.rooms.get(back).cloned()
            && let Some(seat) = self.rooms.get_mut(&moved).and_then(|seats| seats.get_mut(index))
        {
            seat.back = back;
        }
        self.vacate(room, seat);
        true
    }

    /// Frees a seat; the room's last member moves there, and an empty room is forgotten.
    fn vacate(&mut self, room: &Room, seat: usize) {
        let Some(seats) = self.rooms.get_mut(room) else { return };
        seats.swap_remove(seat);
        if let Some(moved) = seats.get(seat) {
            self.members[moved.key].rooms[moved.back].1 = seat;
        }
        if seats.is_empty() {
            self.rooms.remove(room);
        }
    }

    /// Whether a member is in a room.
    pub(crate) fn is_in(&self, key: usize, room: &Room) -> bool {
        self.members.get(key).is_some_and(|member| member.rooms.iter().any(|(name, _)| name == room))
    }

    /// Every member of any of `rooms`, each once; without rooms, every member.
    pub(crate) fn select(&mut self, rooms: &[Room], mut each: impl FnMut(usize, &T)) {
        match rooms {
            [] => self.members.iter().for_each(|(key, member)| each(key, &member.item)),
            [room] => {
                for seat in self.rooms.get(room).into_iter().flatten() {
                    each(seat.key, &self.members[seat.key].item);
                }
            }
            rooms => self.select_union(rooms, each),
        }
    }

    /// As [`Table::select`], without the members of any of `except`.
    pub(crate) fn select_except(&mut self, rooms: &[Room], except: &[Room], mut each: impl FnMut(usize, &T)) {
        if except.is_empty() {
            return self.select(rooms, each);
        }
        // Who is marked counts as taken already.
        self.select_union(except, |_, _| {});
        if rooms.is_empty() {
            let round = self.round;
            let rest = self.members.iter().filter(|(_, member)| member.marked != round);
            return rest.for_each(|(key, member)| each(key, &member.item));
        }
        self.select_marking(rooms, each);
    }

    fn select_union(&mut self, rooms: &[Room], each: impl FnMut(usize, &T)) {
        self.round += 1;
        self.select_marking(rooms, each);
    }

    /// Takes the members of `rooms` that this round has not marked, and marks them.
    fn select_marking(&mut self, rooms: &[Room], mut each: impl FnMut(usize, &T)) {
        for seat in rooms.iter().filter_map(|room| self.rooms.get(room)).flatten() {
            let member = &mut self.members[seat.key];
            if member.marked != self.round {
                member.marked = self.round;
                each(seat.key, &member.item);
            }
        }
    }

    /// The rooms a member is in.
    pub(crate) fn rooms_of(&self, key: usize) -> Vec<Room> {
        let rooms = self.members.get(key).map(|member| member.rooms.iter());
        rooms.into_iter().flatten().map(|(room, _)| room.clone()).collect()
    }

    /// How many members there are.
    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// How many rooms have members.
    #[cfg(test)]
    pub(crate) fn room_count(&self) -> usize {
        self.rooms.len()
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
