//! `message`: a post to a room. Its answer comes when it is stored.

use std::{rc::Rc, time::Instant};

use proto::event::Post as Said;

use super::{ack::Ack, queue::CommandQueue, task};
use crate::{
    Error, Text,
    ask::{Pending, Unasked, ask},
    room::post::{Post, Posted},
};

impl CommandQueue {
    /// Hands a post to its room, in the order of this client's posts, and answers later.
    pub async fn say(self: &Rc<Self>, said: Said, text: Text, ack: Ack, deadline: Instant) {
        match self.hand_over(said, text, deadline).await {
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

    async fn hand_over(&self, said: Said, text: Text, deadline: Instant) -> Result<Pending<Posted>, Error> {
        self.chat().check_open()?;
        let Said { room, client_id, .. } = said;
        let (author, origin) = (self.user().clone(), Some(self.socket().id()));
        let mut post = Post { author, text, client_id, origin, deadline };
        // A room that was put away since the last post is found again, once.
        for _ in 0..2 {
            match ask(&self.room(&room, deadline).await?, post) {
                Ok(pending) => return Ok(pending),
                Err(Unasked::Full) => return Err(Error::full()),
                Err(Unasked::Gone(back)) => post = back,
            }
        }
        Err(Error::gone())
    }
}
