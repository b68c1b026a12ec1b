//! Retention of ephemeral rooms: they keep at most [`KEEP`] messages, for at most [`AGE`]. The last message always stays, because its
//! `seq` is the room's head.

use std::time::Duration;

use actix::{AsyncContext, Context, WrapFuture};
use proto::Timestamp;

use super::Room;

/// The number of messages that an ephemeral room keeps.
pub const KEEP: u64 = 500;

/// How long an ephemeral room keeps a message. The room is trimmed after each batch and every minute while its actor runs, so a message
/// is readable for at most one minute more. A room without an actor cannot be read.
pub const AGE: Duration = Duration::from_secs(600);

impl Room {
    /// Deletes expired messages. A failure is not retried: the next batch or sweep trims again.
    pub(super) fn trim(&self, ctx: &mut Context<Self>) {
        let (history, room) = (self.parts.history.clone(), self.name.clone());
        let age = u64::try_from(AGE.as_millis()).unwrap_or(u64::MAX);
        let oldest = Timestamp(Timestamp::now().0.saturating_sub(age));
        let trimmed = async move {
            if let Err(error) = history.trim(&room, KEEP, oldest).await {
                tracing::warn!(%room, %error, "trim of an ephemeral room failed, the next sweep retries");
            }
        };
        ctx.spawn(trimmed.into_actor(self));
    }
}
