//! `join` and `leave`: membership, and the gap-free step from history to live events.

use std::time::Instant;

use proto::event::{Join, Leave, Message};
use serde::Serialize;

use super::{ack::Done, queue::CommandQueue};
use crate::{
    Error,
    config::SINCE,
    room::membership::{Add, Remove},
};

/// Where a room is, and what the client has missed of it.
#[derive(Serialize)]
pub struct Entered {
    /// The room's last `seq`; beyond the last of `messages` when not all of them fit: then join again from there.
    head: u64,
    /// What came after `since`, oldest first; empty without it. With `reset` from the room's first message on.
    messages: Vec<Message>,
    /// The client's `since` is of a history that was replaced by an older one: it drops what it has of the room.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    reset: bool,
    /// A place in the log before the room was read, when the client has sent one.
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<String>,
}

impl CommandQueue {
    /// Makes the user a member and reads what came after `since`. The membership is in the log before the messages are read,
    /// so whatever is not among them comes as an event; what is in both has the same `seq`.
    pub async fn join(
        &self,
        Join { room, since, offset }: Join,
        deadline: Instant,
    ) -> Result<Entered, Error> {
        let broker = self.chat().broker();
        let is_old = offset.as_deref().is_some_and(|offset| broker.is_of_replaced_history(offset));
        let replaced = since.is_some_and(|seq| seq > 0) && (is_old || self.is_replaced(&room));
        let offset = offset.map(|_| broker.show(broker.reached()));
        let (by, user) = (self.user().clone(), self.user().clone());
        self.chat().ask(&room, Add { by, user }, deadline).await?;
        self.reloads(&room);
        let history = self.chat().history();
        match since {
            None => {
                let head = history.head(&room).await?.seq;
                Ok(Entered { head, messages: vec![], reset: false, offset })
            }
            Some(seq) => {
                let mut slice = history.since(&room, if replaced { 0 } else { seq }, SINCE).await?;
                let reset = replaced || seq > slice.head;
                if reset && !replaced {
                    slice = history.since(&room, 0, SINCE).await?;
                }
                let messages = slice.messages.into_iter().map(|kept| kept.message).collect();
                Ok(Entered { head: slice.head, messages, reset, offset })
            }
        }
    }

    /// Ends the user's membership.
    pub async fn leave(&self, Leave { room }: Leave, deadline: Instant) -> Result<Done, Error> {
        let (by, user) = (self.user().clone(), self.user().clone());
        self.chat().remove(&room, Remove { by, user }, deadline).await?;
        Ok(Done {})
    }
}
