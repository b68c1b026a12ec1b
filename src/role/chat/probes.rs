//! What a chat node's readiness asks its stores and parts.

use std::sync::Arc;

use ::chat::Chat;

use super::{Known, Stores};
use crate::admin::{Probe, Readiness, unless};

impl Stores {
    /// Without these no socket can be opened and nothing can be said.
    pub(super) fn probes(&self, known: Known) -> Vec<(&'static str, Probe)> {
        let (chat, users, sessions) = (self.chat.clone(), self.users.clone(), self.sessions.clone());
        let log = self.redis.clone();
        let mongo = move || {
            let (chat, users) = (chat.clone(), users.clone());
            Box::pin(async move {
                let not_ready_reason = users.not_ready_reason().await;
                if not_ready_reason.is_some() { not_ready_reason } else { chat.not_ready_reason().await }
            }) as _
        };
        let redis = move || {
            let (sessions, log) = (sessions.clone(), log.clone());
            Box::pin(async move {
                let not_ready_reason = sessions.not_ready_reason().await;
                if not_ready_reason.is_some() { not_ready_reason } else { log.not_ready_reason().await }
            }) as _
        };
        let node = move || {
            let not_ready_reason =
                known.get().map_or_else(|| unless(false), |not_ready_reason| not_ready_reason());
            Box::pin(async move { not_ready_reason }) as _
        };
        vec![("MongoDB", Box::new(mongo)), ("Redis", Box::new(redis)), ("the table of nodes", Box::new(node))]
    }

    /// Without the log everything is delivered from MongoDB: later, and without a place from which clients recover.
    pub(super) fn add_degrading(&self, readiness: &Arc<Readiness>, chat: &Chat) {
        let log = self.redis.clone();
        let redis = move || {
            let log = log.clone();
            Box::pin(async move {
                let not_ready_reason = log.broker_not_ready_reason().await?;
                Some(format!(
                    "{not_ready_reason}; messages and changes are delivered from MongoDB within 2 s"
                ))
            }) as _
        };
        let chat = chat.clone();
        let follower = move || {
            let not_ready_reason = chat.broker_not_ready_reason();
            Box::pin(async move { not_ready_reason }) as _
        };
        readiness.add_degrading("Redis", Box::new(redis));
        readiness.add_degrading("the log", Box::new(follower));
    }
}
