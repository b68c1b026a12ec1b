//! Backpressure for rooms: a room waits until its clients have received its last batch. A room registers the batch before it writes,
//! [`super::fanout_actor`] attaches the room's token to the messages, and the room waits for the messages with its token only.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use proto::RoomName;
use socketio::{BackpressureToken, BackpressureWait};

/// The tokens of the rooms that have a batch in flight. Clones share one table.
#[derive(Debug, Clone, Default)]
pub(super) struct RoomTokens(Arc<Mutex<HashMap<RoomName, BackpressureToken>>>);

/// A room's batch in flight. When it is dropped, messages of the room no longer get its token.
#[derive(Debug)]
pub struct PendingBatch {
    room: RoomName,
    token: Option<BackpressureToken>,
    wait: Option<BackpressureWait>,
    tokens: RoomTokens,
}

impl RoomTokens {
    fn table(&self) -> MutexGuard<'_, HashMap<RoomName, BackpressureToken>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a batch of a room. A later batch of the same room replaces the token.
    pub(super) fn begin(&self, room: &RoomName) -> PendingBatch {
        let (token, wait) = BackpressureToken::new();
        self.table().insert(room.clone(), token.clone());
        PendingBatch { room: room.clone(), token: Some(token), wait: Some(wait), tokens: self.clone() }
    }

    /// The token of a room's batch in flight. `None` when this node has no batch of the room in flight, because another node
    /// published the messages. Then the broker itself waits for the clients.
    pub(super) fn of(&self, room: &RoomName) -> Option<BackpressureToken> {
        self.table().get(room).cloned()
    }
}

impl PendingBatch {
    fn end(&mut self) {
        let Some(token) = self.token.take() else { return };
        let mut table = self.tokens.table();
        // Another actor of the same room may have registered since.
        if table.get(&self.room).is_some_and(|current| current.is(&token)) {
            table.remove(&self.room);
        }
    }

    /// Waits until the room's clients have received the messages with the token. To be called after the flush of the batch.
    pub async fn done(mut self) {
        self.end();
        if let Some(wait) = self.wait.take() {
            wait.done().await;
        }
    }
}

impl Drop for PendingBatch {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn a_room_waits_for_its_own_tokens_only() {
        let tokens = RoomTokens::default();
        let (tea, coffee): (RoomName, RoomName) = ("tea".parse().unwrap(), "coffee".parse().unwrap());
        let (in_tea, in_coffee) = (tokens.begin(&tea), tokens.begin(&coffee));
        let held = tokens.of(&tea).unwrap();
        assert!(in_coffee.done().now_or_never().is_some());
        let mut waiting = std::pin::pin!(in_tea.done());
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(held);
        assert!(waiting.now_or_never().is_some());
        assert!(tokens.table().is_empty());
    }

    #[test]
    fn the_end_of_an_earlier_batch_keeps_the_token_of_a_later_one() {
        let (tokens, tea) = (RoomTokens::default(), "tea".parse().unwrap());
        let earlier = tokens.begin(&tea);
        let later = tokens.begin(&tea);
        drop(earlier);
        let held = tokens.of(&tea).unwrap();
        assert!(later.done().now_or_never().is_none(), "it waits for its own token");
        drop(held);
        assert!(tokens.table().is_empty());
    }
}
