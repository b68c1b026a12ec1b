//! The `join` and `leave` events: room membership, and the switch from history to live events without a gap.

use std::time::Instant;

use proto::event::{Join, Leave, Message};
use serde::Serialize;

use super::{ack::Done, queue::CommandQueue};
use crate::{
    Error,
    config::SINCE,
    room::membership::{Add, Remove},
};

/// The answer to `join`: the position of the room, and the messages that the client has missed.
#[derive(Serialize)]
pub struct Joined {
    /// The room's last `seq`. It is greater than the `seq` of the last message in `messages` when not all of them fit: the client
    /// then joins again from there.
    head: u64,
    /// The messages after `since`, oldest first. Empty when `join` has no `since`. With `reset`, they start at the room's first
    /// message.
    messages: Vec<Message>,
    /// The client's `since` belongs to a history that was replaced by an older one. The client drops its messages of the room.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    reset: bool,
    /// The stream offset before the room was read. Present when the client has sent an offset.
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<String>,
}

impl CommandQueue {
    /// Makes the user a member and reads the messages after `since`. The membership is published before the messages are read, so
    /// every later message arrives as an event. A message that is in both has the same `seq`.
    pub async fn join(&self, Join { room, since, offset }: Join, deadline: Instant) -> Result<Joined, Error> {
        let broker = self.chat().broker();
        let is_old = offset.as_deref().is_some_and(|offset| broker.is_of_replaced_history(offset));
        let replaced = since.is_some_and(|seq| seq > 0) && (is_old || self.needs_reload(&room));
        let offset = offset.map(|_| broker.format_offset(broker.reached()));
        let (by, user) = (self.user().clone(), self.user().clone());
        self.chat().ask(&room, Add { by, user }, deadline).await?;
        self.set_reloaded(&room);
        let history = self.chat().history();
        match since {
            None => {
                let head = history.head(&room).await?.seq;
                Ok(Joined { head, messages: vec![], reset: false, offset })
            }
            Some(seq) => {
                let mut slice = history.since(&room, if replaced { 0 } else { seq }, SINCE).await?;
                let reset = replaced || seq > slice.head;
                if reset && !replaced {
                    slice = history.since(&room, 0, SINCE).await?;
                }
                let messages = slice.messages.into_iter().map(|stored| stored.message).collect();
                Ok(Joined { head: slice.head, messages, reset, offset })
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
