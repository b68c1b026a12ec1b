//! Changes of members and rooms: applied to the sockets of this node in the order of the room's versions, whether an entry of the
//! stream names them or not. Called by [`super::follow`].
//!
//! The store of rooms is the truth. An entry of the stream only says that there is something new; twice a second the node asks for
//! all rooms that have changed lately, and once a minute for the versions of all rooms that its sockets are in.

use std::{
    collections::HashMap,
    sync::{MutexGuard, PoisonError},
    time::Duration,
};

use proto::RoomName;
use socketio::SocketId;
use tokio::time::{Instant, timeout};

use super::{News, Stream, applied_changes::AppliedChanges, change, follow::Follower, record::StreamRecord};
use crate::{
    Error,
    broker::Entry,
    changes::{Changed, What},
};

/// The time that the store has for one room that an entry of the stream names. Messages wait for it.
const LOOK: Duration = Duration::from_millis(500);

/// Rooms that are read at once.
const PART: usize = 64;

/// Rooms whose versions are read at once.
const PAGE: usize = 1_000;

/// The interval between two comparisons of all rooms.
const SWEEP: Duration = Duration::from_secs(60);

impl Stream {
    /// Changes of these rooms are applied from their present versions on; whether one of them is new here.
    pub(super) async fn attend_changes(&self, rooms: &[RoomName]) -> bool {
        let new: Vec<RoomName> = rooms.iter().filter(|room| !self.seen().knows(room)).cloned().collect();
        if new.is_empty() {
            return false;
        }
        let versions = self.rooms.versions(&new).await;
        let is_known = versions.is_ok();
        let versions: HashMap<RoomName, u64> = versions.unwrap_or_default().into_iter().collect();
        let mut seen = self.seen();
        for room in &new {
            // A room that is not there will begin with version 1. The lobby has none.
            let version = is_known.then(|| versions.get(room).copied().unwrap_or_default());
            seen.subscribe(room, version);
        }
        true
    }

    /// This node has changed a room, and its sockets were told.
    pub fn changed_here(&self, entry: &Entry) {
        if let Some(room) = change(entry).as_ref().and_then(StreamRecord::room) {
            self.seen().changed_here(room);
        }
    }

    pub(super) fn seen(&self) -> MutexGuard<'_, AppliedChanges> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Follower {
    /// Applies what an entry of the stream names, and what the room has seen before it.
    pub(super) async fn change(&mut self, line: StreamRecord, is_own: bool) {
        if let StreamRecord::Superseded { .. } = line {
            return self.pass_on(line, is_own).await;
        }
        let Some(room) = line.room().cloned() else { return };
        let found = timeout(LOOK, self.stream.rooms.of(std::slice::from_ref(&room))).await;
        let changed = match found {
            Ok(Ok(found)) => found.into_iter().next(),
            _ => None,
        };
        let is_told = match changed {
            Some(changed) if changed.is_tracked() => {
                let named = changed.version_of(|what| line.is_about(what));
                let is_told = self.apply(&changed, named.unwrap_or(changed.version)).await;
                if is_own {
                    self.slot(&changed).await;
                }
                is_told
            }
            other => {
                // An earlier release has changed the room: what others have noted before that comes first.
                if let Some(changed) = other {
                    if let Some(last) = changed.changes.last() {
                        self.apply(&changed, last.version).await;
                    }
                    self.stream.seen().set(&room, Some(changed.version));
                }
                self.pass_on(line, is_own).await;
                false
            }
        };
        if !is_own && !is_told {
            (self.tell)(News::Changed(room));
        }
    }

    /// Applies the changes of the last seconds that no entry of the stream has brought, and now and then looks at all rooms.
    pub(super) async fn tell_changes(&mut self) {
        let unchecked = self.stream.seen().take_unchecked();
        if let Err(error) = self.catch_up_with_changes(&unchecked.iter().cloned().collect::<Vec<_>>()).await {
            tracing::debug!(%error, "changes of rooms are not known now");
            unchecked.iter().for_each(|room| self.stream.seen().changed_here(room));
        }
    }

    async fn catch_up_with_changes(&mut self, unchecked: &[RoomName]) -> Result<(), Error> {
        // Messages wait for it.
        let recent = timeout(2 * LOOK, self.stream.rooms.recent()).await;
        let recent = recent.map_err(|_| Error::Store("no answer in time".to_owned()))??;
        self.apply_newer(recent).await?;
        for rooms in unchecked.chunks(PART) {
            for changed in self.stream.rooms.of(rooms).await? {
                self.slot(&changed).await;
            }
        }
        if self.swept.elapsed() >= SWEEP {
            let rooms = self.stream.seen().rooms();
            for rooms in rooms.chunks(PAGE) {
                let versions = self.stream.rooms.versions(rooms).await?;
                self.apply_newer(versions).await?;
            }
            self.swept = Instant::now();
        }
        Ok(())
    }

    /// Applies what is new of rooms that are at these versions.
    async fn apply_newer(&mut self, versions: Vec<(RoomName, u64)>) -> Result<(), Error> {
        let newer: Vec<RoomName> = {
            let seen = self.stream.seen();
            versions
                .into_iter()
                .filter(|(room, version)| seen.lacks(room, *version))
                .map(|(room, _)| room)
                .collect()
        };
        for rooms in newer.chunks(PART) {
            for changed in self.stream.rooms.of(rooms).await? {
                if self.apply(&changed, changed.version).await {
                    metrics::counter!("godzilla_chat_changes_from_store_total").increment(1);
                }
            }
        }
        Ok(())
    }

    /// Applies the changes up to version `to` that are new here; whether another node has made one of them.
    async fn apply(&mut self, changed: &Changed, to: u64) -> bool {
        let deadline_now = self.stream.seen().take(changed, to);
        let room = &changed.room;
        let (mut is_foreign, mut reseats) = (deadline_now.has_gap, deadline_now.has_gap);
        for change in deadline_now.changes {
            is_foreign |= !change.is_own;
            reseats |= matches!(change.what, What::Archived | What::Renewed(_)) || !changed.is_open;
            if let Some(entry) = self.entry(room, change.what, change.is_own).await {
                self.append(entry).await;
            }
        }
        if reseats {
            self.reseat(changed).await;
        }
        if is_foreign {
            (self.tell)(News::Changed(room.clone()));
        }
        is_foreign
    }

    /// What a change means for the sockets here. Those of this process were told of its own changes by the commit.
    async fn entry(&self, room: &RoomName, what: What, is_own: bool) -> Option<Entry> {
        let room = room.clone();
        Some(match what {
            What::Joined(user) | What::Renewed(user) if is_own => Entry::Seated { room, user, is_in: true },
            What::Left(user) if is_own => Entry::Seated { room, user, is_in: false },
            What::Joined(user) | What::Renewed(user) => Entry::Joined { room, user },
            What::Left(user) => Entry::Left { room, user },
            What::Archived if !is_own => {
                let members = self.stream.rooms.members(&room).await.unwrap_or_default();
                Entry::Archived { room, members }
            }
            What::Archived | What::Other => return None,
        })
    }

    /// Puts the sockets of all members into the room, and no others.
    async fn reseat(&self, changed: &Changed) {
        let room = changed.room.clone();
        let members = match changed.is_open {
            true => self.stream.rooms.members(&room).await,
            false => Ok(Vec::new()),
        };
        match members {
            Ok(members) => self.append(Entry::Only { room, members }).await,
            Err(error) => {
                tracing::debug!(%room, %error, "the members of a room are not known now");
                self.stream.seen().set(&room, None);
            }
        }
    }

    /// The sockets of the users that the latest changes name are in the room or not, whatever was appended here meanwhile.
    async fn slot(&self, changed: &Changed) {
        for (user, is_in) in changed.users() {
            let room = changed.room.clone();
            self.hand_over(Entry::Seated { room, user, is_in }).await;
        }
    }

    async fn append(&self, entry: Entry) {
        self.stream.position.note(&entry);
        self.hand_over(entry).await;
    }

    async fn hand_over(&self, entry: Entry) {
        self.stream.admit(&entry).await;
        let _ = self.entries.send(entry).await;
    }

    /// Applies an entry of the stream as it is: the store has no note of the change.
    async fn pass_on(&self, line: StreamRecord, is_own: bool) {
        let entry = match line {
            // It was applied here before it was written; again for its place among the changes of other nodes.
            StreamRecord::Joined { room, user } if is_own => Entry::Seated { room, user, is_in: true },
            StreamRecord::Left { room, user } if is_own => Entry::Seated { room, user, is_in: false },
            StreamRecord::Joined { room, user } => Entry::Joined { room, user },
            StreamRecord::Left { room, user } => Entry::Left { room, user },
            StreamRecord::Archived { room, members } if !is_own => Entry::Archived { room, members },
            StreamRecord::Superseded { socket } if !is_own => {
                let socket = SocketId::from_stored(&socket);
                (self.tell)(News::Returned(socket.clone()));
                Entry::Superseded(socket)
            }
            _ => return,
        };
        match is_own {
            true => self.hand_over(entry).await,
            false => self.append(entry).await,
        }
    }
}
