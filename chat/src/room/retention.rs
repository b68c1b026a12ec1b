//! What an ephemeral room forgets: all but its last messages, and those that are old. The last one always stays, because it
//! says where the room's numbers go on.

use std::time::Duration;

use actix::{AsyncContext, Context, WrapFuture};
use proto::Timestamp;

use super::Room;

/// How many messages an ephemeral room keeps.
pub const KEEP: u64 = 500;

/// How long an ephemeral room keeps a message. Forgetting happens after each batch and every minute while the room is live, so
/// a message is readable for a minute more at most; a room that is not live cannot be read.
pub const AGE: Duration = Duration::from_secs(600);

impl Room {
    /// Forgets what may be forgotten. A failure is not repeated: the next batch or sweep trims again.
    pub(super) fn trim(&self, ctx: &mut Context<Self>) {
        let (history, room) = (self.parts.history.clone(), self.name.clone());
        let age = u64::try_from(AGE.as_millis()).unwrap_or(u64::MAX);
        // A clock that has jumped makes nothing old.
        let oldest = Timestamp(sessions::ages::settled().map_or(0, |now| now.0.saturating_sub(age)));
        let trimmed = async move {
            if let Err(error) = history.trim(&room, KEEP, oldest).await {
                tracing::warn!(%room, %error, "an ephemeral room was not trimmed");
            }
        };
        ctx.spawn(trimmed.into_actor(self));
    }
}
