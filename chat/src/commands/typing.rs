//! `typing`: forwarded to the presence service, which informs the room. At most two changes per second of a socket are forwarded. Faster
//! changes are coalesced to the latest one, so the end of typing is never lost.

use std::{rc::Rc, time::Instant};

use proto::event::{Act, SetTyping, name};

use super::{Caller, Command, Connection, Empty, Outcome, RateClass, typing_throttle::Relay};
use crate::{Error, broker::member_sockets, task};

impl Command for SetTyping {
    const EVENT: Option<&'static str> = Some(name::TYPING);
    const ROUTE: Option<&'static str> = None;
    const RATE: RateClass = RateClass::Write;
    const PERMISSION: Option<Act> = Some(Act::Post);
    type Answer = Empty;

    /// Forwards the change, or holds it back.
    async fn run(self, caller: &Rc<Caller>, deadline: Instant) -> Result<Outcome<Empty>, Error> {
        let Some(connection) = caller.connection() else {
            return Err(Error::BadRequest("typing is an event of a socket".to_owned()));
        };
        if !connection.is_in(&self) {
            // The socket has not joined the room, or not yet. The room actor returns the right refusal.
            caller.check(&self.room, Act::Post, deadline).await?;
        }
        let relay = connection.typing_throttle().borrow_mut().set(self, Instant::now());
        match relay {
            Relay::Now(typing) => caller.relay(connection, &typing),
            Relay::Coalesced => (),
            Relay::After(wait) => {
                let caller = caller.clone();
                task::spawn(connection.socket(), async move {
                    actix_rt::time::sleep(wait).await;
                    caller.relay_latest();
                });
            }
        }
        Ok(Outcome::Done(Empty {}))
    }
}

impl Caller {
    /// Ends all typing that the socket has reported. Called when the client has disconnected.
    pub fn stop_typing(&self) {
        let Some(connection) = self.connection() else { return };
        for room in connection.typing_throttle().borrow_mut().stop() {
            self.chat().presence().typing(self.user(), &room, false);
        }
    }

    /// Forwards the latest change that was held back.
    fn relay_latest(&self) {
        let Some(connection) = self.connection() else { return };
        let latest = connection.typing_throttle().borrow_mut().take_latest(Instant::now());
        // The user may have left the room or disconnected in the meantime.
        let latest = latest.filter(|typing| connection.is_in(typing));
        latest.iter().for_each(|typing| self.relay(connection, typing));
    }

    fn relay(&self, connection: &Connection, typing: &SetTyping) {
        connection.typing_throttle().borrow_mut().relayed(typing);
        self.chat().presence().typing(self.user(), &typing.room, typing.is_typing);
    }
}

impl Connection {
    /// Whether the socket is in the room.
    fn is_in(&self, typing: &SetTyping) -> bool {
        self.socket().is_in(&member_sockets(&typing.room))
    }
}
