//! What one client says of its typing, thinned out. Pure: time is an argument. Held by [`super::queue`], asked by [`super::typing`].

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use proto::{RoomName, event::SetTyping};

use crate::bucket::{Bucket, Rate};

/// How often one socket's typing is relayed.
const RATE: Rate = Rate { per_second: 2.0, burst: 2.0 };

/// The most rooms kept in which one client types.
const ROOMS: usize = 32;

/// What one client has said of its typing and was not relayed yet.
#[derive(Debug)]
pub struct TypingThrottle {
    bucket: Bucket,
    latest: Option<SetTyping>,
    /// Where the user was last said to type, the latest first.
    rooms: VecDeque<RoomName>,
}

/// What to do with a change of typing.
#[derive(Debug, PartialEq)]
pub enum Relay {
    /// Tell it now.
    Now(SetTyping),
    /// Ask for [`TypingThrottle::due`] after this time.
    After(Duration),
    /// Somebody will.
    Coalesced,
}

impl TypingThrottle {
    /// Nothing was said yet.
    pub fn new(now: Instant) -> Self {
        Self { bucket: Bucket::full(RATE, now), latest: None, rooms: VecDeque::new() }
    }

    /// A change of typing.
    pub fn set(&mut self, typing: SetTyping, now: Instant) -> Relay {
        if self.latest.is_some() {
            self.latest = Some(typing);
            return Relay::Coalesced;
        }
        match self.bucket.take(now) {
            Ok(()) => Relay::Now(typing),
            Err(wait) => {
                self.latest = Some(typing);
                Relay::After(wait)
            }
        }
    }

    /// The latest of what was held back.
    pub fn deadline_now(&mut self, now: Instant) -> Option<SetTyping> {
        // There is one by now; without it the latest goes out all the same, once per wait.
        let _ = self.bucket.take(now);
        self.latest.take()
    }

    /// This was relayed.
    pub fn relayed(&mut self, typing: &SetTyping) {
        self.rooms.retain(|room| *room != typing.room);
        if typing.is_typing {
            self.rooms.truncate(ROOMS - 1);
            self.rooms.push_front(typing.room.clone());
        }
    }

    /// Where the user may still be shown typing because of this client.
    pub fn stop(&mut self) -> impl Iterator<Item = RoomName> {
        self.latest = None;
        std::mem::take(&mut self.rooms).into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typing(is_typing: bool) -> SetTyping {
        SetTyping { is_typing, room: RoomName::lobby() }
    }

    #[test]
    fn a_client_that_stops_is_known_to_type_where_it_last_said_so() {
        let mut typist = TypingThrottle::new(Instant::now());
        let room = |n: usize| format!("r{n}").parse::<RoomName>().unwrap();
        (0..=ROOMS).for_each(|n| typist.relayed(&SetTyping { is_typing: true, room: room(n) }));
        typist.relayed(&SetTyping { is_typing: false, room: room(ROOMS) });
        let rooms: Vec<_> = typist.stop().collect();
        assert_eq!((rooms.len(), &rooms[0]), (ROOMS - 1, &room(ROOMS - 1)));
        assert_eq!(typist.stop().count(), 0);
    }

    #[test]
    fn what_comes_faster_than_twice_a_second_is_coalesced_to_the_latest() {
        let now = Instant::now();
        let mut typist = TypingThrottle::new(now);
        assert_eq!(typist.set(typing(true), now), Relay::Now(typing(true)));
        assert_eq!(typist.set(typing(false), now), Relay::Now(typing(false)));
        let Relay::After(wait) = typist.set(typing(true), now) else { panic!("the third is too much") };
        assert_eq!(wait, Duration::from_millis(500));
        assert_eq!(typist.set(typing(false), now), Relay::Coalesced);
        assert_eq!(typist.deadline_now(now + wait), Some(typing(false)));
        assert!(matches!(typist.set(typing(true), now + wait), Relay::After(_)));
    }
}
