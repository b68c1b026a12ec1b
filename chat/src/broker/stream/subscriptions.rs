//! Applies changes of members and rooms to the sockets of this node in the order of the room's versions, whether a record of the
//! stream announces them or not. Called by [`super::follow`].
//!
//! The store of rooms is the source of truth. A record of the stream only announces that a room has changed. Twice a second the node
//! reads all rooms that have changed recently, and once a minute the versions of all rooms that its sockets are in. It reads the versions
//! of all rooms earlier when recent changes may have been missed, because they could not be read for a time or were too many.

use std::{
    collections::HashMap,
    sync::{MutexGuard, PoisonError},
    time::Duration,
};

use proto::RoomName;
use socketio::SocketId;
use tokio::time::{Instant, timeout};

use super::{
    RemoteChange, Stream, applied_changes::AppliedChanges, change_record, follow::Follower,
    record::StreamRecord,
};
use crate::{
    Error,
    broker::Entry,
    changes::{ChangeKind, Changed},
};

/// The timeout of the read of one room that a record announces. Messages wait for it.
const STORE_TIMEOUT: Duration = Duration::from_millis(500);

/// The number of rooms in one read.
const BATCH: usize = 64;

/// The number of rooms in one read of versions.
const PAGE: usize = 1_000;

impl Stream {
    /// Applies changes of these rooms from their current versions on. Returns whether one of them is new on this node.
    pub(super) async fn subscribe_to_changes(&self, rooms: &[RoomName]) -> bool {
        let new: Vec<RoomName> =
            rooms.iter().filter(|room| !self.applied().contains(room)).cloned().collect();
        if new.is_empty() {
            return false;
        }
        let versions = self.rooms.versions(&new).await;
        let is_read = versions.is_ok();
        let versions: HashMap<RoomName, u64> = versions.unwrap_or_default().into_iter().collect();
        let mut applied = self.applied();
        for room in &new {
            // A room that does not exist yet will begin with version 1. The lobby has no version.
            let version = is_read.then(|| versions.get(room).copied().unwrap_or_default());
            applied.add(room, version);
        }
        true
    }

    /// Records that this node has changed a room and notified its sockets.
    pub fn note_local_change(&self, entry: &Entry) {
        if let Some(room) = change_record(entry).as_ref().and_then(StreamRecord::room) {
            self.applied().mark_unchecked(room);
        }
    }

    pub(super) fn applied(&self) -> MutexGuard<'_, AppliedChanges> {
        self.applied.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Follower {
    /// Applies the change that a record announces, and the changes of the room before it.
    pub(super) async fn apply_change(&mut self, record: StreamRecord, is_own: bool) {
        if let StreamRecord::Superseded { .. } = record {
            return self.apply_record(record, is_own).await;
        }
        let Some(room) = record.room().cloned() else { return };
        let found = timeout(STORE_TIMEOUT, self.stream.rooms.of(std::slice::from_ref(&room))).await;
        let changed = match found {
            Ok(Ok(found)) => found.into_iter().next(),
            _ => None,
        };
        let is_applied = match changed {
            Some(changed) if changed.is_tracked() => {
                let named = changed.version_of(|what| record.is_about(what));
                let is_applied = self.apply(&changed, named.unwrap_or(changed.version)).await;
                if is_own {
                    self.set_memberships(&changed).await;
                }
                is_applied
            }
            other => {
                // An earlier release has changed the room without noting it. Changes that were noted before are applied first.
                if let Some(changed) = other {
                    if let Some(last) = changed.changes.last() {
                        self.apply(&changed, last.version).await;
                    }
                    self.stream.applied().set(&room, Some(changed.version));
                }
                self.apply_record(record, is_own).await;
                false
            }
        };
        if !is_own && !is_applied {
            (self.on_remote_change)(RemoteChange::RoomChanged(room));
        }
    }

    /// Applies recent changes that no record has announced, and compares all rooms when that is due ([`super::comparisons`]). An error is
    /// logged, and the next call retries.
    pub(super) async fn apply_missed_changes(&mut self) {
        let unchecked = self.stream.applied().take_unchecked();
        if let Err(error) =
            self.try_apply_missed_changes(&unchecked.iter().cloned().collect::<Vec<_>>()).await
        {
            tracing::debug!(%error, "changes of rooms cannot be read; retrying");
            unchecked.iter().for_each(|room| self.stream.applied().mark_unchecked(room));
        }
    }

    async fn try_apply_missed_changes(&mut self, unchecked: &[RoomName]) -> Result<(), Error> {
        let now = Instant::now();
        // Messages wait for this read.
        let recent = timeout(2 * STORE_TIMEOUT, self.stream.rooms.recent()).await;
        let recent = recent.map_err(|_| Error::Store("no answer in time".to_owned()))??;
        self.comparisons.note_read(recent.len(), now);
        self.apply_newer(recent).await?;
        for rooms in unchecked.chunks(BATCH) {
            for changed in self.stream.rooms.of(rooms).await? {
                self.set_memberships(&changed).await;
            }
        }
        let now = Instant::now();
        if self.comparisons.is_due(now) {
            let rooms = self.stream.applied().rooms();
            for rooms in rooms.chunks(PAGE) {
                let versions = self.stream.rooms.versions(rooms).await?;
                self.apply_newer(versions).await?;
            }
            self.comparisons.note_comparison(now);
        }
        Ok(())
    }

    /// Applies the missing changes of rooms that are at these versions.
    async fn apply_newer(&mut self, versions: Vec<(RoomName, u64)>) -> Result<(), Error> {
        let newer: Vec<RoomName> = {
            let applied = self.stream.applied();
            versions
                .into_iter()
                .filter(|(room, version)| applied.lacks(room, *version))
                .map(|(room, _)| room)
                .collect()
        };
        for rooms in newer.chunks(BATCH) {
            for changed in self.stream.rooms.of(rooms).await? {
                if self.apply(&changed, changed.version).await {
                    metrics::counter!("godzilla_chat_changes_from_store_total").increment(1);
                }
            }
        }
        Ok(())
    }

    /// Applies the changes up to version `to` that this node has not applied. Returns whether another node has made one of them.
    async fn apply(&mut self, changed: &Changed, to: u64) -> bool {
        let pending = self.stream.applied().take(changed, to);
        let room = &changed.room;
        let (mut is_remote, mut needs_members) = (pending.has_gap, pending.has_gap);
        for change in pending.changes {
            is_remote |= !change.is_own;
            needs_members |=
                matches!(change.what, ChangeKind::Archived | ChangeKind::Renewed(_)) || !changed.is_open;
            if let Some(entry) = self.entry_for(room, change.what, change.is_own).await {
                self.append(entry).await;
            }
        }
        if needs_members {
            self.set_members(changed).await;
        }
        if is_remote {
            (self.on_remote_change)(RemoteChange::RoomChanged(room.clone()));
        }
        is_remote
    }

    /// The entry by which a change reaches the sockets of this node. Clients of this process received the events of its own changes at the
    /// commit, so those only set memberships. `None` when nothing must be applied.
    async fn entry_for(&self, room: &RoomName, what: ChangeKind, is_own: bool) -> Option<Entry> {
        let room = room.clone();
        Some(match what {
            ChangeKind::Joined(user) | ChangeKind::Renewed(user) if is_own => {
                Entry::SetMembership { room, user, is_member: true }
            }
            ChangeKind::Left(user) if is_own => Entry::SetMembership { room, user, is_member: false },
            ChangeKind::Joined(user) | ChangeKind::Renewed(user) => Entry::Joined { room, user },
            ChangeKind::Left(user) => Entry::Left { room, user },
            ChangeKind::Archived if !is_own => {
                let members = self.stream.rooms.members(&room).await.unwrap_or_default();
                Entry::Archived { room, members }
            }
            ChangeKind::Archived | ChangeKind::Other => return None,
        })
    }

    /// Subscribes the sockets of all members to the room, and unsubscribes all others.
    async fn set_members(&self, changed: &Changed) {
        let room = changed.room.clone();
        let members = match changed.is_open {
            true => self.stream.rooms.members(&room).await,
            false => Ok(Vec::new()),
        };
        match members {
            Ok(members) => self.append(Entry::SetMembers { room, members }).await,
            Err(error) => {
                tracing::debug!(%room, %error, "the members of a room cannot be read; retrying");
                self.stream.applied().set(&room, None);
            }
        }
    }

    /// Sets the memberships of the users of the latest changes again, because this node may have appended other entries meanwhile.
    async fn set_memberships(&self, changed: &Changed) {
        for (user, is_member) in changed.users() {
            let room = changed.room.clone();
            self.send(Entry::SetMembership { room, user, is_member }).await;
        }
    }

    async fn append(&self, entry: Entry) {
        self.stream.position.count_membership_change(&entry);
        self.send(entry).await;
    }

    async fn send(&self, entry: Entry) {
        self.stream.subscribe_before(&entry).await;
        let _ = self.entries.send(entry).await;
    }

    /// Applies a record directly, because the store has not noted the change.
    async fn apply_record(&self, record: StreamRecord, is_own: bool) {
        let entry = match record {
            // It was applied at the commit. It is applied again in the order of the stream, among the changes of other nodes.
            StreamRecord::Joined { room, user } if is_own => {
                Entry::SetMembership { room, user, is_member: true }
            }
            StreamRecord::Left { room, user } if is_own => {
                Entry::SetMembership { room, user, is_member: false }
            }
            StreamRecord::Joined { room, user } => Entry::Joined { room, user },
            StreamRecord::Left { room, user } => Entry::Left { room, user },
            StreamRecord::Archived { room, members } if !is_own => Entry::Archived { room, members },
            StreamRecord::Superseded { socket } if !is_own => {
                let socket = SocketId::from_stored(&socket);
                (self.on_remote_change)(RemoteChange::SocketSuperseded(socket.clone()));
                Entry::Superseded(socket)
            }
            _ => return,
        };
        match is_own {
            true => self.send(entry).await,
            false => self.append(entry).await,
        }
    }
}
