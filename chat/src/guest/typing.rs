//! `typing`: relayed to the presence service, which tells the room. At most twice a second; what comes faster is coalesced to
//! the latest, so that the end of typing is never what gets lost.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use proto::event::SetTyping;

use super::{ack::Done, visit::Visit};
use crate::{
    Error,
    bucket::{Bucket, Rate},
    log::of_room,
    room::membership::Check,
};

/// How often one socket's typing is relayed.
const RATE: Rate = Rate { per_second: 2.0, burst: 2.0 };

/// What one client has said of its typing and was not relayed yet.
#[derive(Debug)]
pub struct Typist {
    bucket: Bucket,
    latest: Option<SetTyping>,
}

/// What to do with a change of typing.
#[derive(Debug, PartialEq)]
pub enum Relay {
    /// Tell it now.
    Now(SetTyping),
    /// Ask for [`Typist::due`] after this time.
    After(Duration),
    /// Somebody will.
    Coalesced,
}

impl Typist {
    /// Nothing was said yet.
    pub fn new(now: Instant) -> Self {
        Self { bucket: Bucket::full(RATE, now), latest: None }
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
    pub fn due(&mut self, now: Instant) -> Option<SetTyping> {
        // There is one by now; without it the latest goes out all the same, once per wait.
        let _ = self.bucket.take(now);
        self.latest.take()
    }
}

impl Visit {
    /// Relays a change of typing to whoever is in the room.
    pub async fn set_typing(self: &Rc<Self>, typing: SetTyping, deadline: Instant) -> Result<Done, Error> {
        if !self.socket().is_in(&of_room(&typing.room)) {
            // Not in it, or not yet: the room knows which refusal is right.
            self.chat().ask(&typing.room, Check(self.user().clone()), deadline).await?;
        }
        let relay = self.typist().borrow_mut().set(typing, Instant::now());
        match relay {
            Relay::Now(typing) => self.relay(&typing),
            Relay::Coalesced => (),
            Relay::After(wait) => {
                let visit = self.clone();
                actix_rt::spawn(async move {
                    actix_rt::time::sleep(wait).await;
                    let latest = visit.typist().borrow_mut().due(Instant::now());
                    // The user may have left the room meanwhile, or altogether.
                    let latest = latest.filter(|typing| visit.socket().is_in(&of_room(&typing.room)));
                    latest.iter().for_each(|typing| visit.relay(typing));
                });
            }
        }
        Ok(Done {})
    }

    fn relay(&self, typing: &SetTyping) {
        self.chat().presence().typing(self.user(), &typing.room, typing.is_typing);
    }
}

#[cfg(test)]
mod tests {
    use proto::RoomName;

    use super::*;

    fn typing(is_typing: bool) -> SetTyping {
        SetTyping { is_typing, room: RoomName::lobby() }
    }

    #[test]
    fn what_comes_faster_than_twice_a_second_is_coalesced_to_the_latest() {
        let now = Instant::now();
        let mut typist = Typist::new(now);
        assert_eq!(typist.set(typing(true), now), Relay::Now(typing(true)));
        assert_eq!(typist.set(typing(false), now), Relay::Now(typing(false)));
        let Relay::After(wait) = typist.set(typing(true), now) else { panic!("the third is too much") };
        assert_eq!(wait, Duration::from_millis(500));
        assert_eq!(typist.set(typing(false), now), Relay::Coalesced);
        assert_eq!(typist.due(now + wait), Some(typing(false)));
        assert!(matches!(typist.set(typing(true), now + wait), Relay::After(_)));
    }
}
