//! What this node has told of every room: so that a message that comes twice is told once, and one that is missing is looked
//! for. Pure; asked by [`super::follow`].
//!
//! A room is here before a socket of this node enters it, with a floor that is not above the room's last message at that moment. So
//! every message that is stored afterwards is told once, whether it is read from the log or from the store, and a room that
//! is not here has no socket on this node.

use std::collections::{HashMap, VecDeque};

use proto::RoomName;

/// Rooms that are remembered. One that was forgotten begins anew with its next message.
const ROOMS: usize = 65_536;

/// See the module.
#[derive(Debug, Default)]
pub struct Dedup {
    rooms: HashMap<RoomName, Place>,
    /// The rooms in the order in which they came.
    order: VecDeque<RoomName>,
}

/// How far a room is.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    /// The last message told here; 0 before the first.
    told: u64,
    /// The room's last message when somebody first listened here: whoever came later has read up to there. 0 for a room that was made
    /// afterwards.
    floor: u64,
    /// The last message that was told without a place in the log, and which of all those it was; 0 before the first.
    unplaced: (u64, u64),
}

/// What to do with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Tell it.
    Tell,
    /// Tell those after this one first.
    After(u64),
    /// It was told before.
    Old,
}

impl Dedup {
    /// Whether somebody listens to this room already.
    pub fn knows(&self, room: &RoomName) -> bool {
        self.rooms.contains_key(room)
    }

    /// Somebody listens to a room that ends at `head`, or ended there before.
    pub fn subscribe(&mut self, room: &RoomName, head: u64) {
        if !self.knows(room) {
            self.place(room).floor = head;
        }
    }

    /// What to do with message `seq` of a room; `again`: it may have been in the log before.
    pub fn judge(&mut self, room: &RoomName, seq: u64, again: bool) -> Verdict {
        let is_new = !self.knows(room);
        if is_new && again {
            // No socket of this node is in the room, or every one reloads.
            return Verdict::Old;
        }
        let place = self.place(room);
        let known = if again || place.told == 0 { place.told.max(place.floor) } else { place.told };
        if seq <= place.told || (again && seq <= known) {
            return Verdict::Old;
        }
        if is_new || seq <= known + 1 { Verdict::Tell } else { Verdict::After(known) }
    }

    /// Message `seq` of a room was told.
    pub fn told(&mut self, room: &RoomName, seq: u64) {
        let place = self.place(room);
        place.told = place.told.max(seq);
    }

    /// Message `seq` of a room was told without a place in the log, as the `count`th of all.
    pub fn told_unplaced(&mut self, room: &RoomName, seq: u64, count: u64) {
        self.told(room, seq);
        self.place(room).unplaced = (seq, count);
    }

    /// Whether message `seq` of a room may have been told without a place in the log, after the first `count` of those.
    pub fn was_unplaced(&self, room: &RoomName, seq: u64, count: u64) -> bool {
        self.rooms.get(room).is_some_and(|place| seq <= place.unplaced.0 && place.unplaced.1 > count)
    }

    /// Of these rooms, those of which messages were told without a place in the log, and the last one of each.
    pub fn unplaced(&self, rooms: &[RoomName]) -> Vec<(RoomName, u64)> {
        let last = |room: &RoomName| self.rooms.get(room).map(|place| (room.clone(), place.unplaced.0));
        rooms.iter().filter_map(last).filter(|(_, seq)| *seq > 0).collect()
    }

    /// The last message told of a room that somebody listens to, or the one before the first.
    pub fn known(&self, room: &RoomName) -> Option<u64> {
        self.rooms.get(room).map(|place| place.told.max(place.floor))
    }

    /// Where every room is that somebody listens to.
    pub fn places(&self) -> Vec<(RoomName, u64)> {
        self.rooms.iter().map(|(room, place)| (room.clone(), place.told.max(place.floor))).collect()
    }

    fn place(&mut self, room: &RoomName) -> &mut Place {
        if !self.rooms.contains_key(room) {
            if self.order.len() >= ROOMS
                && let Some(earliest) = self.order.pop_front()
            {
                self.rooms.remove(&earliest);
            }
            self.order.push_back(room.clone());
        }
        self.rooms.entry(room.clone()).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tea() -> RoomName {
        "tea".parse().unwrap()
    }

    fn tell(track: &mut Dedup, seq: u64, again: bool) -> Verdict {
        let verdict = track.judge(&tea(), seq, again);
        if verdict != Verdict::Old {
            track.told(&tea(), seq);
        }
        verdict
    }

    #[test]
    fn a_message_is_told_once_and_none_is_passed_over() {
        let mut track = Dedup::default();
        assert_eq!(tell(&mut track, 5, false), Verdict::Tell, "nothing is known of the room");
        assert_eq!(tell(&mut track, 5, false), Verdict::Old);
        assert_eq!(tell(&mut track, 4, false), Verdict::Old);
        assert_eq!(tell(&mut track, 6, false), Verdict::Tell);
        assert_eq!(tell(&mut track, 9, false), Verdict::After(6));
        assert_eq!(tell(&mut track, 10, true), Verdict::Tell);
    }

    #[test]
    fn what_was_stored_before_somebody_listened_is_told_if_the_log_is_behind_and_not_when_it_comes_again() {
        let mut track = Dedup::default();
        track.subscribe(&tea(), 5);
        assert_eq!(tell(&mut track, 3, true), Verdict::Old);
        assert_eq!(tell(&mut track, 4, false), Verdict::Tell, "stored, and on its way through the log");
        assert_eq!(tell(&mut track, 5, false), Verdict::Tell);
        assert_eq!(tell(&mut track, 6, false), Verdict::Tell);
        track.subscribe(&tea(), 100);
        assert_eq!(tell(&mut track, 7, false), Verdict::Tell, "somebody listened before");
        let mut track = Dedup::default();
        track.subscribe(&tea(), 5);
        assert_eq!(tell(&mut track, 8, false), Verdict::After(5));
        let mut track = Dedup::default();
        track.subscribe(&tea(), 5);
        assert_eq!(tell(&mut track, 6, true), Verdict::Tell);
    }

    #[test]
    fn every_message_of_a_room_that_was_just_made_is_told_once_in_any_order_of_log_and_store() {
        let mut track = Dedup::default();
        assert_eq!(tell(&mut track, 1, true), Verdict::Old, "no socket is in the room");
        track.subscribe(&tea(), 0);
        assert_eq!(track.known(&tea()), Some(0), "the store is read from the first message on");
        assert_eq!(tell(&mut track, 1, true), Verdict::Tell, "the log was healed before the store was read");
        assert_eq!(tell(&mut track, 3, true), Verdict::After(1));
        for (seq, again) in [(1, false), (2, true), (3, false), (3, true)] {
            assert_eq!(tell(&mut track, seq, again), Verdict::Old, "{seq}");
        }
        // A room that takes the name of another one goes on with its numbers.
        let mut track = Dedup::default();
        track.subscribe(&tea(), 0);
        assert_eq!(tell(&mut track, 58, false), Verdict::After(0));
    }

    #[test]
    fn it_is_known_what_was_told_without_a_place_since_a_client_came() {
        let mut track = Dedup::default();
        track.subscribe(&tea(), 3);
        track.told_unplaced(&tea(), 5, 1);
        track.told(&tea(), 6);
        assert!(track.was_unplaced(&tea(), 5, 0) && track.was_unplaced(&tea(), 4, 0));
        assert!(!track.was_unplaced(&tea(), 6, 0), "it has a place");
        assert!(!track.was_unplaced(&tea(), 5, 1), "the client came afterwards");
        assert!(!track.was_unplaced(&RoomName::lobby(), 1, 0));
        assert_eq!(track.unplaced(&[tea(), RoomName::lobby()]), [(tea(), 5)]);
        assert_eq!(track.known(&tea()), Some(6));
    }

    #[test]
    fn it_is_known_where_every_room_is() {
        let mut track = Dedup::default();
        track.subscribe(&tea(), 5);
        assert_eq!(track.places(), [(tea(), 5)]);
        track.told(&tea(), 7);
        assert_eq!(track.places(), [(tea(), 7)]);
    }

    #[test]
    fn rooms_are_bounded() {
        let mut track = Dedup::default();
        for n in 0..=ROOMS {
            track.subscribe(&format!("r{n}").parse().unwrap(), 1);
        }
        assert_eq!((track.rooms.len(), track.order.len()), (ROOMS, ROOMS));
        assert!(!track.knows(&"r0".parse().unwrap()));
    }
}
