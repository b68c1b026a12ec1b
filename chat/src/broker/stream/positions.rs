//! What the rooms of this node's sockets need beside the stream: from which message on a room is told here, and what was told without
//! a place in the stream. Called by [`super::follow`] and through [`crate::broker::Broker`].

use std::{sync::atomic::Ordering, time::Duration};

use proto::{RoomName, event::Message};
use remote::redis::AsyncCommands;
use tokio::time::timeout;

use super::Stream;
use crate::{Error, broker::Entry, redis};

/// How long Redis may take to answer what the stream has of a room.
const LOOK: Duration = Duration::from_millis(500);

impl Stream {
    /// Sockets of this node may enter these rooms from now on; to be called before they do. Answers whether one of them is new here:
    /// then a change of it may have been committed after its members were read.
    ///
    /// # Errors
    /// [`Error::Store`] when the end of a room cannot be read.
    pub async fn subscribe(&self, rooms: &[RoomName]) -> Result<bool, Error> {
        for room in rooms {
            if !self.track().knows(room) {
                let head = self.history.head(room).await?;
                self.track().subscribe(room, head.seq);
            }
        }
        Ok(self.attend_changes(rooms).await)
    }

    /// Sockets of this node may enter a room that was just made; to be called before they do.
    pub fn subscribe_new(&self, room: &RoomName) {
        self.track().subscribe(room, 0);
    }

    /// To be called before an entry is told by which sockets of this node may enter a room that none was in. What the stream lacks of
    /// that room is told to them: it may have been stored after their user became a member.
    pub(super) async fn admit(&self, entry: &Entry) {
        let (Entry::Joined { room, .. } | Entry::Seated { room, is_in: true, .. } | Entry::Only { room, .. }) =
            entry
        else {
            return;
        };
        if self.track().knows(room) {
            return;
        }
        let read = async {
            let noted = self.unpublished.all().await?;
            let first = noted.iter().find(|noted| noted.room == *room).map(|noted| noted.first);
            let head = self.history.head(room).await?.seq;
            Ok::<u64, Error>(first.map_or(head, |first| head.min(first.saturating_sub(1))))
        };
        match read.await {
            Ok(floor) => self.track().subscribe(room, floor),
            Err(error) => tracing::warn!(%room, %error, "the end of a room is not known"),
        }
    }

    /// How many messages this node has told without a place in the stream.
    pub fn unplaced(&self) -> u64 {
        self.unplaced.load(Ordering::Acquire)
    }

    /// Whether this node may have told any of these messages without a place in the stream, after the first `count` of those.
    pub fn was_unplaced<'a>(&self, mut messages: impl Iterator<Item = &'a Message>, count: u64) -> bool {
        let track = self.track();
        messages.any(|message| track.was_unplaced(&message.room, message.seq, count))
    }

    /// The last message of a room that the stream has; none when that is not known.
    pub(super) async fn logged(&self, room: &RoomName) -> Option<u64> {
        let (key, name) = (self.redis.key(redis::HEADS), room.as_str());
        let read = self.redis.ask(async |mut redis| redis.hget::<_, _, Option<u64>>(key, name).await);
        timeout(LOOK, read).await.ok()?.ok()?
    }

    /// Whether the stream lacks messages of any of these rooms that this node has told: they are not told again when the stream has
    /// them, so a client that comes after them must not go on from the stream. True when Redis does not answer.
    pub(super) async fn lacks_some_told(&self, rooms: &[RoomName]) -> bool {
        let told = self.track().unplaced(rooms);
        if told.is_empty() {
            return false;
        }
        let names: Vec<&str> = told.iter().map(|(room, _)| room.as_str()).collect();
        let mut heads = remote::redis::cmd("HMGET");
        heads.arg(self.redis.key(redis::HEADS)).arg(&names);
        let logged =
            self.redis.ask(async |mut redis| heads.query_async::<Vec<Option<u64>>>(&mut redis).await);
        match logged.await {
            Ok(logged) => {
                told.iter().zip(logged).any(|((_, seq), logged)| logged.is_none_or(|logged| logged < *seq))
            }
            Err(_) => true,
        }
    }
}
