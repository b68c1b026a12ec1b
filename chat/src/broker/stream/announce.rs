//! Publishes changes of rooms and members, and waits for them. A change is queued, written to the stream, and applied by every node when it
//! reads the record. Called through [`crate::broker::Broker`].

use std::{collections::HashSet, sync::PoisonError};

use proto::RoomName;
use socketio::SocketId;
use tokio::time::timeout;

use super::{
    DELIVERY_TIMEOUT, MAX_BACKLOG, Stream, Written, pending_records::MAX_PENDING, record::StreamRecord,
};
use crate::{
    Error,
    changes::Change,
    redis,
    room_change::{ChangeKind, RoomChange},
};

/// The maximum age, in milliseconds, of the earlier changes of a room whose records may be missing, while the last change of the room with a
/// record is unknown. The age counts back from the change whose record is written. A write of a change takes less to reach a majority.
const UNRECORDED_MS: u64 = 15_000;

impl Stream {
    /// Queues the record of a change. When the queue is full, the change is applied from the store only, on every node.
    pub(super) fn queue_record(&self, record: StreamRecord) {
        if self.pending.is_failing()
            && let Some(room) = record.room()
        {
            self.apply_from_store(room);
        }
        let Err(dropped) = self.pending.push(record, self.position.reached()) else { return };
        metrics::counter!("godzilla_chat_stream_publish_dropped_total").increment(1);
        tracing::warn!(
            max = MAX_PENDING,
            "the queue of changes for other nodes is full; other nodes read this change from the store"
        );
        if let Some(room) = dropped.room() {
            self.apply_from_store(room);
        }
    }

    /// Writes the record of a change. Another node may have made earlier changes of the room without writing their records yet, for example
    /// because it has ended. Their records are then written first, so the records of a room are in the order of its changes. So the changes
    /// that a client has missed are exactly those with records after its offset.
    pub(super) async fn write_after_earlier(&self, record: &StreamRecord) -> Result<(), Error> {
        let Written::Gap(last) = self.write(record, false).await? else { return Ok(()) };
        if let Some((room, rev)) = record.room().zip(record.rev()) {
            for earlier in self.unrecorded(room, last, rev).await? {
                self.write(&earlier, true).await?;
            }
        }
        self.write(record, true).await.map(drop)
    }

    /// The records of the changes of a room after `last` and before `rev`, from the store. Without `last`, only the records of changes
    /// at most [`UNRECORDED_MS`] older than `rev`.
    async fn unrecorded(
        &self,
        room: &RoomName,
        last: Option<u64>,
        rev: u64,
    ) -> Result<Vec<StreamRecord>, Error> {
        let found = self.rooms.of(std::slice::from_ref(room)).await?.pop();
        let changes = found.map(|found| found.changes).unwrap_or_default();
        let at = changes.iter().find(|change| change.version == rev).map(|change| change.at.0);
        let is_missing = |change: &Change| match last {
            Some(last) => change.version > last,
            None => at.is_some_and(|at| change.at.0.saturating_add(UNRECORDED_MS) >= at),
        };
        let mut records = Vec::new();
        for change in changes.into_iter().filter(|change| change.version < rev && is_missing(change)) {
            records.push(StreamRecord::of_change(&self.room_change(room, change, None).await));
        }
        let first = records.first().and_then(StreamRecord::rev);
        if let Some(next) = last.map(|last| last + 1).filter(|next| first != Some(*next)) {
            // The store has dropped the first of these changes. This record makes clients that recover receive what they have changed.
            records.insert(0, StreamRecord::Changed { room: room.clone(), rev: next });
        }
        Ok(records)
    }

    /// A stored change of a room, as it is delivered.
    pub(super) async fn room_change(
        &self,
        room: &RoomName,
        change: Change,
        offset: Option<u64>,
    ) -> RoomChange {
        let Change { version, what, by, items, .. } = change;
        let members = match what {
            ChangeKind::Archived => self.rooms.members(room).await.unwrap_or_default(),
            _ => vec![],
        };
        RoomChange { room: room.clone(), rev: version, what, by, items, members, offset }
    }

    /// The versions of rooms up to which every change has a record. Where Redis has no number for a room, the last change counts as one
    /// without a record if it is recent. It may be applied twice then; clients ignore a number that they have.
    pub(super) async fn announced(&self, versions: &[(RoomName, u64)]) -> Vec<(RoomName, u64)> {
        let numbers = self.announced_numbers(versions).await;
        let has_all = numbers.iter().all(Option::is_some);
        let recent: HashSet<RoomName> = match has_all {
            true => HashSet::new(),
            false => {
                let recent = self.rooms.recent().await.unwrap_or_default();
                recent.into_iter().map(|(room, _)| room).collect()
            }
        };
        let announced = versions.iter().zip(numbers).map(|((room, version), number)| {
            let last = match number {
                Some(number) => number.min(*version),
                None if recent.contains(room) => version.saturating_sub(1),
                None => *version,
            };
            (room.clone(), last)
        });
        announced.collect()
    }

    /// The numbers of the last changes of rooms that have records. `None` for all when Redis does not answer.
    async fn announced_numbers(&self, versions: &[(RoomName, u64)]) -> Vec<Option<u64>> {
        if versions.is_empty() {
            return vec![];
        }
        let mut read = remote::redis::cmd("HMGET");
        read.arg(self.redis.key(redis::REVS));
        for (room, _) in versions {
            read.arg(room.as_str());
        }
        let read: Result<Vec<Option<String>>, Error> =
            self.redis.ask(async |mut redis| read.query_async(&mut redis).await).await;
        match read {
            Ok(numbers) => {
                numbers.into_iter().map(|number| number.and_then(|number| number.parse().ok())).collect()
            }
            Err(_) => vec![None; versions.len()],
        }
    }

    /// Makes [`super::follow`] apply the changes of a room from the store, without waiting for their records.
    pub(super) fn apply_from_store(&self, room: &RoomName) {
        self.applied().mark_unchecked(room);
        self.wake.notify_one();
    }

    /// Waits until this node has applied the changes of a room up to `rev`, at most [`DELIVERY_TIMEOUT`].
    pub(super) async fn wait_until_applied(&self, room: &RoomName, rev: u64) {
        let applied = async {
            loop {
                let mut moved = std::pin::pin!(self.changes_applied.notified());
                moved.as_mut().enable();
                if !self.applied().lacks(room, rev) {
                    return;
                }
                moved.await;
            }
        };
        let _ = timeout(DELIVERY_TIMEOUT, applied).await;
    }

    /// Announces to other nodes that the client of a socket has reconnected to this one. A failed announcement is retried until it
    /// succeeds.
    pub(super) async fn announce_superseded(&self, socket: &SocketId) {
        let record = StreamRecord::Superseded { socket: socket.as_str().to_owned() };
        if self.is_available() && self.write(&record, false).await.is_ok() {
            return;
        }
        self.queue_record(record);
    }

    /// Records that clients of this node have received a room's changes up to `rev` without an offset.
    pub(super) fn note_fallback_change(&self, room: &RoomName, rev: u64) {
        let mut fallback = self.fallback_changes.lock().unwrap_or_else(PoisonError::into_inner);
        if fallback.len() >= MAX_BACKLOG {
            fallback.clear();
        }
        fallback.insert(room.clone(), rev);
    }

    /// Whether clients of this node may have received the change `rev` of a room without an offset.
    pub(super) fn is_fallback_change(&self, room: &RoomName, rev: u64) -> bool {
        let fallback = self.fallback_changes.lock().unwrap_or_else(PoisonError::into_inner);
        fallback.get(room).is_some_and(|last| rev <= *last)
    }
}
