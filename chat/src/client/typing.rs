//! `typing`: relayed to the presence service, which tells the room. At most twice a second; what comes faster is coalesced to
//! the latest, so that the end of typing is never what gets lost.

use std::{rc::Rc, time::Instant};

use proto::event::SetTyping;

use super::{ack::Done, queue::CommandQueue, task, typing_throttle::Relay};
use crate::{Error, broker::of_room, room::membership::Check};

impl CommandQueue {
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
                task::spawn(self.socket(), async move {
                    actix_rt::time::sleep(wait).await;
                    let latest = visit.typist().borrow_mut().deadline_now(Instant::now());
                    // The user may have left the room meanwhile, or altogether.
                    let latest = latest.filter(|typing| visit.socket().is_in(&of_room(&typing.room)));
                    latest.iter().for_each(|typing| visit.relay(typing));
                });
            }
        }
        Ok(Done {})
    }

    /// The client has gone: because of it nobody is shown typing any more.
    pub fn stop_typing(&self) {
        for room in self.typist().borrow_mut().stop() {
            self.chat().presence().typing(self.user(), &room, false);
        }
    }

    fn relay(&self, typing: &SetTyping) {
        self.typist().borrow_mut().relayed(typing);
        self.chat().presence().typing(self.user(), &typing.room, typing.is_typing);
    }
}
