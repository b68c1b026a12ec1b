//! Applies changes of members and rooms to the sockets of this node in the order of the room's versions, whether a record of the
//! stream announces them or not. Called by [`super::follow`].
//!
//! The store of rooms is the source of truth. A record of the stream only announces that a room has changed. Twice a second the node
//! reads all rooms that have changed recently. It reads the versions of all rooms that its sockets are in when recent changes may have been
//! missed, because they could not be read for a time or were too many.

use std::{
    collections::HashMap,
    sync::{MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use proto::RoomName;
use socketio::SocketId;
use tokio::time::timeout;

use super::{RemoteChange, Stream, applied_changes::AppliedChanges, follow::Follower, record::StreamRecord};
use crate::{
    Error,
    broker::{Control, Entry, RoomEvent},
    changes::{AT_ONCE, Change, Changed},
    directory::ChangeKind,
};

/// The timeout of the read of one room that a record announces. Messages wait for it.
const STORE_TIMEOUT: Duration = Duration::from_millis(500);

/// The time without a read of the recent changes after which one may have been missed. It is shorter than the window of
/// [`crate::changes::Changes::recent`] by the longest time of a write.
const READ_GAP: Duration = Duration::from_secs(8);

/// The number of rooms in one read.
const BATCH: usize = 64;

/// The number of rooms in one read of versions.
const PAGE: usize = 1_000;

/// The maximum number of rooms with a change whose record is expected.
const MAX_OVERDUE: usize = 4_096;

/// Whether changes have a record in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Announced {
    /// The last one has a record with this offset.
    At(u64),
    /// This node writes the record of the last one later.
    Queued,
    /// No record is known.
    No,
}

impl Announced {
    fn offset(self) -> Option<u64> {
        match self {
            Self::At(offset) => Some(offset),
            Self::Queued | Self::No => None,
        }
    }
}

impl Stream {
    /// Applies changes of these rooms from their current versions on, or from the last one that has a record: the record of a later one may
    /// follow, or its node has ended. Returns whether one of them is new on this node.
    pub(super) async fn subscribe_to_changes(&self, rooms: &[RoomName]) -> bool {
        let new: Vec<RoomName> =
            rooms.iter().filter(|room| !self.applied().contains(room)).cloned().collect();
        if new.is_empty() {
            return false;
        }
        let versions = self.rooms.versions(&new).await;
        let is_read = versions.is_ok();
        let versions = self.announced(&versions.unwrap_or_default()).await;
        let versions: HashMap<RoomName, u64> = versions.into_iter().collect();
        let mut applied = self.applied();
        for room in &new {
            // A room that does not exist yet will begin with version 1. The lobby has no version.
            let version = is_read.then(|| versions.get(room).copied().unwrap_or_default());
            applied.add(room, version);
        }
        true
    }

    fn changes_read(&self) -> MutexGuard<'_, Instant> {
        self.changes_read.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn applied(&self) -> MutexGuard<'_, AppliedChanges> {
        self.applied.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Follower {
    /// Applies the change that the record with this offset announces, and the changes of the room before it.
    pub(super) async fn apply_change(&mut self, record: StreamRecord, is_own: bool, offset: u64) {
        if let StreamRecord::Superseded { socket } = record {
            return self.close_superseded(&socket, is_own).await;
        }
        let Some(room) = record.room().cloned() else { return };
        if record.rev().is_some_and(|rev| !self.stream.applied().lacks(&room, rev)) {
            return;
        }
        let found = timeout(STORE_TIMEOUT, self.stream.rooms.of(std::slice::from_ref(&room))).await;
        match found {
            Ok(Ok(mut found)) => {
                if let Some(changed) = found.pop() {
                    let to = record.rev().map_or(changed.version, |rev| rev.min(changed.version));
                    self.apply(&changed, to, Announced::At(offset)).await;
                }
            }
            _ => {
                // A former member must not receive later messages while the store does not answer. The events follow from the store.
                self.set_membership(record).await;
                self.stream.apply_from_store(&room);
            }
        }
    }

    /// Applies recent changes that no record has announced. Compares all rooms if some may have been missed. An error is logged, and the next call retries.
    pub(super) async fn apply_missed_changes(&mut self) {
        self.apply_unchecked().await;
        if let Err(error) = self.try_apply_missed_changes().await {
            tracing::debug!(%error, "changes of rooms cannot be read; retrying");
        }
    }

    /// Applies the changes of this node whose records could not be written.
    pub(super) async fn apply_unchecked(&self) {
        let unchecked: Vec<RoomName> = self.stream.applied().take_unchecked().into_iter().collect();
        for rooms in unchecked.chunks(BATCH) {
            let read = timeout(STORE_TIMEOUT, self.stream.rooms.of(rooms)).await;
            match read {
                Ok(Ok(found)) => {
                    for changed in found {
                        self.apply(&changed, changed.version, Announced::Queued).await;
                    }
                }
                _ => rooms.iter().for_each(|room| self.stream.applied().mark_unchecked(room)),
            }
        }
    }

    async fn try_apply_missed_changes(&mut self) -> Result<(), Error> {
        let (begun, last) = (Instant::now(), *self.stream.changes_read());
        // Messages wait for this read.
        let recent = timeout(2 * STORE_TIMEOUT, self.stream.rooms.recent()).await;
        let recent = recent.map_err(|_| Error::Store("no answer in time".to_owned()))??;
        let has_missed = recent.len() >= AT_ONCE || begun.saturating_duration_since(last) >= READ_GAP;
        self.apply_newer(recent).await?;
        if has_missed {
            let rooms = self.stream.applied().rooms();
            for rooms in rooms.chunks(PAGE) {
                let versions = self.stream.rooms.versions(rooms).await?;
                self.apply_newer(versions).await?;
            }
            (self.on_remote_change)(RemoteChange::AnyRoomChanged);
        }
        *self.stream.changes_read() = begun;
        Ok(())
    }

    /// Applies the missing changes of rooms that are at these versions. A change that was just committed is left to its record until the
    /// next call, but the room's actor reads the room again at once.
    async fn apply_newer(&mut self, versions: Vec<(RoomName, u64)>) -> Result<(), Error> {
        let is_followed = self.stream.is_available();
        let newer: Vec<(RoomName, u64)> = {
            let applied = self.stream.applied();
            versions.into_iter().filter(|(room, version)| applied.lacks(room, *version)).collect()
        };
        let mut due = Vec::new();
        for (room, version) in newer {
            match is_followed && !self.overdue.contains_key(&room) {
                true if self.overdue.len() < MAX_OVERDUE => {
                    (self.on_remote_change)(RemoteChange::RoomChanged(room.clone()));
                    self.overdue.insert(room, version);
                }
                _ => {
                    self.overdue.remove(&room);
                    due.push(room);
                }
            }
        }
        for rooms in due.chunks(BATCH) {
            for changed in self.stream.rooms.of(rooms).await? {
                if self.apply(&changed, changed.version, Announced::No).await {
                    metrics::counter!("godzilla_chat_changes_from_store_total").increment(1);
                }
            }
        }
        let applied = self.stream.applied();
        self.overdue.retain(|room, version| applied.lacks(room, *version));
        Ok(())
    }

    /// Applies the changes up to version `to` that this node has not applied. If no node announces them, this one does, so that clients that
    /// recover receive the changes. Returns whether there were any.
    async fn apply(&self, changed: &Changed, to: u64, announced: Announced) -> bool {
        let offset = announced.offset();
        let pending = self.stream.applied().take(changed, to);
        let room = &changed.room;
        let (mut is_remote, mut needs_members) = (pending.has_gap, pending.has_gap);
        let is_any = pending.has_gap || !pending.changes.is_empty();
        if offset.is_none() && is_any {
            self.stream.note_fallback_change(room, to);
        }
        let last = pending.changes.last().map(|change| change.version);
        if last.is_none()
            && pending.has_gap
            && let Some(newest) = changed.changes.last()
        {
            // Clients detect the gap by the number of this change, and ask for the others.
            let change = Change { what: ChangeKind::Other, ..newest.clone() };
            self.append(room, change, announced, true).await;
        }
        for change in pending.changes {
            // The actor of the room may not know that its own change was committed.
            is_remote |= !change.is_own || announced == Announced::No;
            needs_members |= change.what == ChangeKind::Archived || !changed.is_open;
            let is_last = Some(change.version) == last;
            self.append(room, change, announced, is_last).await;
        }
        if needs_members {
            self.set_members(changed).await;
        }
        if is_any {
            self.stream.changes_applied.notify_waiters();
        }
        if is_remote {
            (self.on_remote_change)(RemoteChange::RoomChanged(room.clone()));
        }
        is_any
    }

    /// Sends a change to the sockets of this node. `is_last`: no more changes follow that have the same record.
    async fn append(&self, room: &RoomName, change: Change, announced: Announced, is_last: bool) {
        let offset = announced.offset();
        let change = self.stream.room_change(room, change, offset).await;
        if announced == Announced::No {
            self.stream.queue_record(StreamRecord::of_change(&change));
        }
        self.send(RoomEvent::change(change, offset).resumable(is_last && self.stream.is_confirmed())).await;
    }

    /// Subscribes the sockets of all members to the room, and unsubscribes all others.
    async fn set_members(&self, changed: &Changed) {
        let room = changed.room.clone();
        let members = match changed.is_open {
            true => self.stream.rooms.members(&room).await,
            false => Ok(Vec::new()),
        };
        match members {
            Ok(members) => self.send(Control::SetMembers { room, members }).await,
            Err(error) => {
                tracing::debug!(%room, %error, "the members of a room cannot be read; retrying");
                self.stream.applied().set(&room, None);
            }
        }
    }

    async fn send(&self, entry: impl Into<Entry>) {
        let entry = entry.into();
        self.stream.subscribe_before(&entry).await;
        self.entries.send(entry).await;
    }

    /// Subscribes or unsubscribes sockets as a record states, without events for clients.
    async fn set_membership(&self, record: StreamRecord) {
        let entry = match record {
            StreamRecord::Joined { room, user, .. } => Control::SetMembership { room, user, is_member: true },
            StreamRecord::Left { room, user, .. } => Control::SetMembership { room, user, is_member: false },
            StreamRecord::Archived { room, .. } => Control::SetMembers { room, members: vec![] },
            _ => return,
        };
        self.send(entry).await;
    }

    /// Closes the socket of a client that has reconnected to another node.
    async fn close_superseded(&self, socket: &str, is_own: bool) {
        if !is_own {
            let socket = SocketId::from_stored(socket);
            (self.on_remote_change)(RemoteChange::SocketSuperseded(socket.clone()));
            self.send(Control::Superseded(socket)).await;
        }
    }
}
