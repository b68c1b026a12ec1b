//! The `typing` event: forwarded to the presence service, which informs the room. At most two changes per second are forwarded.
//! Faster changes are coalesced to the latest one, so the end of typing is never lost.

use std::{rc::Rc, time::Instant};

use proto::event::SetTyping;

use super::{ack::Done, queue::CommandQueue, task, typing_throttle::Relay};
use crate::{Error, broker::member_sockets, room::membership::CheckMember};

impl CommandQueue {
    /// Forwards a change of the client's typing state in a room.
    pub async fn set_typing(self: &Rc<Self>, typing: SetTyping, deadline: Instant) -> Result<Done, Error> {
        if !self.socket().is_in(&member_sockets(&typing.room)) {
            // The socket has not joined the room, or not yet. The room actor returns the right refusal.
            self.chat().ask(&typing.room, CheckMember(self.user().clone()), deadline).await?;
        }
        let relay = self.typing_throttle().borrow_mut().set(typing, Instant::now());
        match relay {
            Relay::Now(typing) => self.relay(&typing),
            Relay::Coalesced => (),
            Relay::After(wait) => {
                let queue = self.clone();
                task::spawn(self.socket(), async move {
                    actix_rt::time::sleep(wait).await;
                    let latest = queue.typing_throttle().borrow_mut().take_latest(Instant::now());
                    // The user may have left the room or disconnected in the meantime.
                    let latest = latest.filter(|typing| queue.socket().is_in(&member_sockets(&typing.room)));
                    latest.iter().for_each(|typing| queue.relay(typing));
                });
            }
        }
        Ok(Done {})
    }

    /// Ends all typing that this client has reported. Called when the client has disconnected.
    pub fn stop_typing(&self) {
        for room in self.typing_throttle().borrow_mut().stop() {
            self.chat().presence().typing(self.user(), &room, false);
        }
    }

    fn relay(&self, typing: &SetTyping) {
        self.typing_throttle().borrow_mut().relayed(typing);
        self.chat().presence().typing(self.user(), &typing.room, typing.is_typing);
    }
}
