//! The `join` and `leave` events: room membership, and the switch from history to live events without a gap.

use std::time::Instant;

use proto::event::{Join, Leave};

use super::{ack::Done, queue::CommandQueue};
use crate::{
    Error,
    catch_up::{self, CatchUp, Position},
    room::membership::Remove,
};

impl CommandQueue {
    /// Makes the user a member, unless `enter` is false, and reads what the client has missed.
    pub async fn join(&self, join: Join, deadline: Instant) -> Result<CatchUp, Error> {
        let (position, room, enters) = (Position::from(&join), join.room, join.enter.unwrap_or(true));
        let is_replaced = self.needs_reload(&room);
        let answer =
            catch_up::read(self.chat(), self.user(), &room, position, enters, is_replaced, deadline).await?;
        self.set_reloaded(&room);
        Ok(answer)
    }

    /// Ends the user's membership.
    pub async fn leave(&self, Leave { room }: Leave, deadline: Instant) -> Result<Done, Error> {
        let (by, user) = (self.user().clone(), self.user().clone());
        self.chat().remove(&room, Remove { by, user }, deadline).await?;
        Ok(Done {})
    }
}
