//! Rate limit of one client's typing changes. Pure: time is an argument. Owned by [`super::queue`], used by [`super::typing`].

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use proto::{RoomName, event::SetTyping};

use crate::bucket::{Bucket, Rate};

/// How often one socket's typing changes are forwarded.
const RATE: Rate = Rate { per_second: 2.0, burst: 2.0 };

/// The maximum number of rooms that are tracked for one client. The rooms reported least recently are dropped.
const MAX_ROOMS: usize = 32;

/// The typing changes of one client that were not forwarded yet, and the rooms in which it types.
#[derive(Debug)]
pub struct TypingThrottle {
    bucket: Bucket,
    latest: Option<SetTyping>,
    /// The rooms in which the user was last reported to type, the most recent first.
    rooms: VecDeque<RoomName>,
}

/// What to do with a typing change.
#[derive(Debug, PartialEq)]
pub enum Relay {
    /// Forward it now.
    Now(SetTyping),
    /// Call [`TypingThrottle::take_latest`] after this delay.
    After(Duration),
    /// Nothing: an earlier [`Relay::After`] forwards the latest change.
    Coalesced,
}

impl TypingThrottle {
    /// A throttle with a full bucket and no pending change.
    pub fn new(now: Instant) -> Self {
        Self { bucket: Bucket::full(RATE, now), latest: None, rooms: VecDeque::new() }
    }

    /// Records a typing change.
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

    /// Removes and returns the latest change that was held back.
    pub fn take_latest(&mut self, now: Instant) -> Option<SetTyping> {
        // The bucket has a token after the delay of `Relay::After`. Without one the change is forwarded anyway, once per delay.
        let _ = self.bucket.take(now);
        self.latest.take()
    }

    /// Records that `typing` was forwarded.
    pub fn relayed(&mut self, typing: &SetTyping) {
        self.rooms.retain(|room| *room != typing.room);
        if typing.is_typing {
            self.rooms.truncate(MAX_ROOMS - 1);
            self.rooms.push_front(typing.room.clone());
        }
    }

    /// Drops the pending change and returns the rooms in which the user may still be shown typing because of this client.
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
    fn stop_returns_the_most_recent_rooms_in_which_the_client_types() {
        let mut throttle = TypingThrottle::new(Instant::now());
        let room = |n: usize| format!("r{n}").parse::<RoomName>().unwrap();
        (0..=MAX_ROOMS).for_each(|n| throttle.relayed(&SetTyping { is_typing: true, room: room(n) }));
        throttle.relayed(&SetTyping { is_typing: false, room: room(MAX_ROOMS) });
        let rooms: Vec<_> = throttle.stop().collect();
        assert_eq!((rooms.len(), &rooms[0]), (MAX_ROOMS - 1, &room(MAX_ROOMS - 1)));
        assert_eq!(throttle.stop().count(), 0);
    }

    #[test]
    fn changes_above_two_per_second_are_coalesced_to_the_latest() {
        let now = Instant::now();
        let mut throttle = TypingThrottle::new(now);
        assert_eq!(throttle.set(typing(true), now), Relay::Now(typing(true)));
        assert_eq!(throttle.set(typing(false), now), Relay::Now(typing(false)));
        let Relay::After(wait) = throttle.set(typing(true), now) else {
            panic!("the third change is not held back")
        };
        assert_eq!(wait, Duration::from_millis(500));
        assert_eq!(throttle.set(typing(false), now), Relay::Coalesced);
        assert_eq!(throttle.take_latest(now + wait), Some(typing(false)));
        assert!(matches!(throttle.set(typing(true), now + wait), Relay::After(_)));
    }
}
