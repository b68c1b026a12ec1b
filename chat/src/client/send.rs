//! The `message` event: posts a message to a room. It is acknowledged when the message is stored.

use std::{rc::Rc, time::Instant};

use proto::event::Post as PostEvent;

use super::{ack::Ack, queue::CommandQueue, task};
use crate::{
    Error, Text,
    ask::{AskError, Pending, ask},
    room::post::{Post, Posted},
};

impl CommandQueue {
    /// Sends a post to its room, in the order of this client's posts. The acknowledgement follows later, so the caller does not
    /// wait for the store.
    pub async fn send(self: &Rc<Self>, event: PostEvent, text: Text, ack: Ack, deadline: Instant) {
        match self.submit_post(event, text, deadline).await {
            Ok(pending) => {
                task::spawn(self.socket(), async move {
                    let posted = pending.until(deadline).await;
                    supervision::fault!("ack");
                    ack.answer(posted);
                });
            }
            Err(error) => ack.refuse(&error),
        }
    }

    async fn submit_post(
        &self,
        event: PostEvent,
        text: Text,
        deadline: Instant,
    ) -> Result<Pending<Posted>, Error> {
        self.chat().check_open()?;
        let PostEvent { room, client_id, .. } = event;
        let (author, origin) = (self.user().clone(), Some(self.socket().id()));
        let mut post = Post { author, text, client_id, origin, deadline };
        // A room actor that has stopped since the last post is looked up once more.
        for _ in 0..2 {
            match ask(&self.room(&room, deadline).await?, post) {
                Ok(pending) => return Ok(pending),
                Err(AskError::Full) => return Err(Error::full()),
                Err(AskError::Gone(returned)) => post = returned,
            }
        }
        Err(Error::gone())
    }
}
