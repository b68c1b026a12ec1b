//! Subscriptions of this node to rooms, each from a message on, and the messages that were delivered without an offset. Called by
//! [`super::follow`] and through [`crate::broker::Broker`].

use std::{sync::atomic::Ordering, time::Duration};

use proto::RoomName;
use tokio::time::timeout;

use super::Stream;
use crate::{Error, broker::Entry, redis};

/// The timeout of a read of a room's last message in the stream.
const READ_TIMEOUT: Duration = Duration::from_millis(500);

impl Stream {
    /// Subscribes this node to rooms. To be called before its sockets join them. Returns whether one of the rooms is new on this node.
    /// Then a change of it may have been committed after the caller read its members.
    ///
    /// # Errors
    /// [`Error::Store`] when the last message of a room cannot be read.
    pub(super) async fn add_rooms(&self, rooms: &[RoomName]) -> Result<bool, Error> {
        for room in rooms {
            if !self.dedup().contains(room) {
                let head = self.history.head(room).await?;
                self.dedup().add(room, head.seq);
            }
        }
        Ok(self.subscribe_to_changes(rooms).await)
    }

    /// Subscribes this node to a room that was just created. To be called before its sockets join it.
    /// The change that has created it follows in the stream.
    pub(super) fn add_new_room(&self, room: &RoomName, rev: u64) {
        self.dedup().add(room, 0);
        self.applied().add(room, Some(rev.saturating_sub(1)));
    }

    /// Subscribes this node to the room that sockets join because of `entry`. To be called before the entry is sent. The subscription
    /// begins before the room's unpublished messages, which may have been stored after the user became a member.
    pub(super) async fn subscribe_before(&self, entry: &Entry) {
        let Some(room) = entry.subscribes_to() else { return };
        if self.dedup().contains(room) {
            return;
        }
        let read = async {
            let noted = self.unpublished.all().await?;
            let first = noted.iter().find(|noted| noted.room == *room).map(|noted| noted.first);
            let head = self.history.head(room).await?.seq;
            Ok::<u64, Error>(first.map_or(head, |first| head.min(first.saturating_sub(1))))
        };
        match read.await {
            Ok(floor) => self.dedup().add(room, floor),
            Err(error) => {
                tracing::warn!(%room, %error, "the last message of a room cannot be read; delivery starts at its next message");
            }
        }
    }

    /// Whether no message that this node has delivered without an offset may have a record that this node has not read. Otherwise a client
    /// that has the message would receive it again when it recovers from the offset of an earlier record on another node.
    pub(super) fn is_confirmed(&self) -> bool {
        !self.dedup().has_unconfirmed()
    }

    /// The unconfirmed messages that are in the stream now. The next complete read of the stream includes their records. Adds the rooms of
    /// the others to the backlog, so that they are published. Empty when Redis does not answer.
    pub(super) async fn confirmable(&self) -> Vec<(RoomName, u64)> {
        let unconfirmed = self.dedup().unconfirmed();
        if unconfirmed.is_empty() {
            return vec![];
        }
        let names = unconfirmed.iter().map(|(room, _)| room.as_str()).collect();
        let Ok(published) = self.published_heads(names).await else { return vec![] };
        let (confirmable, missing): (Vec<_>, Vec<_>) = unconfirmed
            .into_iter()
            .zip(published)
            .partition(|((_, seq), published)| published.is_some_and(|published| published >= *seq));
        missing.iter().for_each(|((room, _), _)| self.add_to_backlog(room));
        confirmable.into_iter().map(|(unconfirmed, _)| unconfirmed).collect()
    }

    /// The number of messages that this node has delivered without an offset.
    pub(super) fn fallback_count(&self) -> u64 {
        self.fallback_deliveries.load(Ordering::Acquire)
    }

    /// The `seq` of the last message of a room in the stream. `None` when the room is absent, or Redis does not answer in time.
    pub(super) async fn published_head(&self, room: &RoomName) -> Option<u64> {
        let read = self.published_heads(vec![room.as_str()]);
        timeout(READ_TIMEOUT, read).await.ok()?.ok()?.pop()?
    }

    /// The `seq`s of the last messages of rooms in the stream. `None` for a room that is absent.
    async fn published_heads(&self, rooms: Vec<&str>) -> Result<Vec<Option<u64>>, Error> {
        let mut read = remote::redis::cmd("HMGET");
        read.arg(self.redis.key(redis::HEADS)).arg(&rooms);
        self.redis.ask(async |mut redis| read.query_async(&mut redis).await).await
    }

    /// Whether the stream lacks messages of these rooms that this node has delivered. They are not delivered again when they are
    /// published, so a client that has missed them must not recover from the stream. True when Redis does not answer.
    pub(super) async fn lacks_delivered(&self, rooms: &[RoomName]) -> bool {
        let delivered = self.dedup().fallback_heads(rooms);
        if delivered.is_empty() {
            return false;
        }
        let names = delivered.iter().map(|(room, _)| room.as_str()).collect();
        match self.published_heads(names).await {
            Ok(published) => delivered
                .iter()
                .zip(published)
                .any(|((_, seq), published)| published.is_none_or(|published| published < *seq)),
            Err(_) => true,
        }
    }
}
