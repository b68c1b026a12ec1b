//! Deduplication: the messages of each room that this node has delivered. A message that is read twice is delivered once, and a gap
//! is detected. Pure; called by [`super::follow`].
//!
//! A room is added before a socket of this node joins it, with a floor that is not above the room's last message at that moment. So
//! every message that is stored afterwards is delivered once, whether it is read from the stream or from the store. A room that is
//! absent here has no socket on this node.

use std::collections::{HashMap, VecDeque};

use proto::RoomName;

/// The maximum number of rooms. The earliest is evicted, and starts without state at its next message.
const ROOMS: usize = 65_536;

/// The delivery state of all rooms with a socket on this node.
#[derive(Debug, Default)]
pub struct Dedup {
    rooms: HashMap<RoomName, RoomProgress>,
    /// The rooms in the order in which they were added.
    order: VecDeque<RoomName>,
    /// The rooms with messages that were delivered without an offset and whose records were not read since, each with the `seq` of the last
    /// such message.
    unconfirmed: HashMap<RoomName, u64>,
}

/// The delivery state of one room.
#[derive(Debug, Clone, Copy, Default)]
struct RoomProgress {
    /// The `seq` of the last delivered message; 0 before the first.
    delivered: u64,
    /// The `seq` of the room's last message when this node subscribed to it. Sockets that join later have read up to it. 0 for a room
    /// that was created afterwards.
    floor: u64,
    /// The `seq` of the last message that was delivered without an offset, and its number among all such deliveries of the node, from
    /// 1. Both are 0 before the first.
    fallback: (u64, u64),
}

/// The decision on a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The message is the next one: deliver it.
    Deliver,
    /// Messages after this `seq` are missing: deliver them first.
    Gap(u64),
    /// The message was delivered before: ignore it.
    Duplicate,
}

impl Dedup {
    /// Whether the room was added.
    pub fn contains(&self, room: &RoomName) -> bool {
        self.rooms.contains_key(room)
    }

    /// Adds a room whose last message is, or was, `head`. Does nothing when the room was added before.
    pub fn add(&mut self, room: &RoomName, head: u64) {
        if !self.contains(room) {
            self.progress(room).floor = head;
        }
    }

    /// The decision on message `seq` of a room. `again`: the message may have had a record in the stream before.
    pub fn judge(&mut self, room: &RoomName, seq: u64, again: bool) -> Verdict {
        let is_new = !self.contains(room);
        if is_new && again {
            // No socket of this node is in the room, or all of them reload.
            return Verdict::Duplicate;
        }
        let progress = self.progress(room);
        let last = if again || progress.delivered == 0 {
            progress.delivered.max(progress.floor)
        } else {
            progress.delivered
        };
        if seq <= progress.delivered || (again && seq <= last) {
            return Verdict::Duplicate;
        }
        if is_new || seq <= last + 1 { Verdict::Deliver } else { Verdict::Gap(last) }
    }

    /// Records that message `seq` of a room was delivered.
    pub fn record(&mut self, room: &RoomName, seq: u64) {
        let progress = self.progress(room);
        progress.delivered = progress.delivered.max(seq);
    }

    /// Records that message `seq` of a room was delivered without an offset, as the `count`th such delivery of the node.
    pub fn record_fallback(&mut self, room: &RoomName, seq: u64, count: u64) {
        self.record(room, seq);
        self.progress(room).fallback = (seq, count);
        self.unconfirmed.insert(room.clone(), seq);
    }

    /// Records that the stream was read up to the record of message `seq` of a room.
    pub fn confirm(&mut self, room: &RoomName, seq: u64) {
        if self.unconfirmed.get(room).is_some_and(|last| *last <= seq) {
            self.unconfirmed.remove(room);
        }
    }

    /// Whether messages were delivered without an offset whose records may have a greater offset than the last record that was read.
    pub fn has_unconfirmed(&self) -> bool {
        !self.unconfirmed.is_empty()
    }

    /// The rooms with such messages, each with the `seq` of the last one.
    pub fn unconfirmed(&self) -> Vec<(RoomName, u64)> {
        self.unconfirmed.iter().map(|(room, seq)| (room.clone(), *seq)).collect()
    }

    /// Whether message `seq` of a room may have been delivered without an offset, after the first `count` such deliveries.
    pub fn may_be_fallback(&self, room: &RoomName, seq: u64, count: u64) -> bool {
        self.rooms.get(room).is_some_and(|progress| seq <= progress.fallback.0 && progress.fallback.1 > count)
    }

    /// Those of `rooms` that have messages that were delivered without an offset, each with the `seq` of the last one.
    pub fn fallback_heads(&self, rooms: &[RoomName]) -> Vec<(RoomName, u64)> {
        let last = |room: &RoomName| self.rooms.get(room).map(|progress| (room.clone(), progress.fallback.0));
        rooms.iter().filter_map(last).filter(|(_, seq)| *seq > 0).collect()
    }

    /// The `seq` of the last delivered message of a room, or its floor before the first. `None` for an absent room.
    pub fn head(&self, room: &RoomName) -> Option<u64> {
        self.rooms.get(room).map(|progress| progress.delivered.max(progress.floor))
    }

    /// The same for all rooms.
    pub fn heads(&self) -> Vec<(RoomName, u64)> {
        self.rooms
            .iter()
            .map(|(room, progress)| (room.clone(), progress.delivered.max(progress.floor)))
            .collect()
    }

    fn progress(&mut self, room: &RoomName) -> &mut RoomProgress {
        if !self.rooms.contains_key(room) {
            if self.order.len() >= ROOMS
                && let Some(earliest) = self.order.pop_front()
            {
                self.rooms.remove(&earliest);
                self.unconfirmed.remove(&earliest);
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

    fn deliver(dedup: &mut Dedup, seq: u64, again: bool) -> Verdict {
        let verdict = dedup.judge(&tea(), seq, again);
        if verdict != Verdict::Duplicate {
            dedup.record(&tea(), seq);
        }
        verdict
    }

    #[test]
    fn messages_are_delivered_once_and_gaps_are_detected() {
        let mut dedup = Dedup::default();
        assert_eq!(deliver(&mut dedup, 5, false), Verdict::Deliver, "the room has no state");
        assert_eq!(deliver(&mut dedup, 5, false), Verdict::Duplicate);
        assert_eq!(deliver(&mut dedup, 4, false), Verdict::Duplicate);
        assert_eq!(deliver(&mut dedup, 6, false), Verdict::Deliver);
        assert_eq!(deliver(&mut dedup, 9, false), Verdict::Gap(6));
        assert_eq!(deliver(&mut dedup, 10, true), Verdict::Deliver);
    }

    #[test]
    fn messages_from_before_the_subscription_are_delivered_from_a_late_stream_but_not_republished() {
        let mut dedup = Dedup::default();
        dedup.add(&tea(), 5);
        assert_eq!(deliver(&mut dedup, 3, true), Verdict::Duplicate);
        assert_eq!(
            deliver(&mut dedup, 4, false),
            Verdict::Deliver,
            "stored before, and read late from the stream"
        );
        assert_eq!(deliver(&mut dedup, 5, false), Verdict::Deliver);
        assert_eq!(deliver(&mut dedup, 6, false), Verdict::Deliver);
        dedup.add(&tea(), 100);
        assert_eq!(deliver(&mut dedup, 7, false), Verdict::Deliver, "the room was added before");
        let mut dedup = Dedup::default();
        dedup.add(&tea(), 5);
        assert_eq!(deliver(&mut dedup, 8, false), Verdict::Gap(5));
        let mut dedup = Dedup::default();
        dedup.add(&tea(), 5);
        assert_eq!(deliver(&mut dedup, 6, true), Verdict::Deliver);
    }

    #[test]
    fn messages_of_a_new_room_are_delivered_once_in_any_order_of_stream_and_store() {
        let mut dedup = Dedup::default();
        assert_eq!(deliver(&mut dedup, 1, true), Verdict::Duplicate, "no socket is in the room");
        dedup.add(&tea(), 0);
        assert_eq!(dedup.head(&tea()), Some(0), "the store is read from the first message on");
        assert_eq!(
            deliver(&mut dedup, 1, true),
            Verdict::Deliver,
            "the stream was repaired before the store was read"
        );
        assert_eq!(deliver(&mut dedup, 3, true), Verdict::Gap(1));
        for (seq, again) in [(1, false), (2, true), (3, false), (3, true)] {
            assert_eq!(deliver(&mut dedup, seq, again), Verdict::Duplicate, "{seq}");
        }
    }

    #[test]
    fn deliveries_without_an_offset_since_a_client_connected_are_recorded() {
        let mut dedup = Dedup::default();
        dedup.add(&tea(), 3);
        dedup.record_fallback(&tea(), 5, 1);
        dedup.record(&tea(), 6);
        assert!(dedup.may_be_fallback(&tea(), 5, 0) && dedup.may_be_fallback(&tea(), 4, 0));
        assert!(!dedup.may_be_fallback(&tea(), 6, 0), "it has an offset");
        assert!(!dedup.may_be_fallback(&tea(), 5, 1), "the client connected afterwards");
        assert!(!dedup.may_be_fallback(&RoomName::lobby(), 1, 0));
        assert_eq!(dedup.fallback_heads(&[tea(), RoomName::lobby()]), [(tea(), 5)]);
        assert_eq!(dedup.head(&tea()), Some(6));
        dedup.confirm(&tea(), 4);
        dedup.confirm(&RoomName::lobby(), 9);
        assert_eq!(dedup.unconfirmed(), [(tea(), 5)], "the record of message 5 was not read");
        dedup.confirm(&tea(), 6);
        assert!(!dedup.has_unconfirmed());
    }

    #[test]
    fn rooms_are_bounded() {
        let mut dedup = Dedup::default();
        for n in 0..=ROOMS {
            dedup.add(&format!("r{n}").parse().unwrap(), 1);
        }
        assert_eq!((dedup.rooms.len(), dedup.order.len()), (ROOMS, ROOMS));
        assert!(!dedup.contains(&"r0".parse().unwrap()));
    }
}
