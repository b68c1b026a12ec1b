//! [`Directory`] in MongoDB, collection `rooms`. A room is one document that contains its members and its latest changes, so that every
//! change is one write. A change is decided on the document that was read, and is written only if the room's version is still the same.
//! The version is the number of the room's changes.

mod change;
mod change_log;
mod changes;
mod copied_changes;
mod document;
mod indexes;
mod items;
mod limits;
mod renew;
mod resolve_unknown;
mod settings;
mod stored_changes;
#[cfg(test)]
mod tests;
mod writes;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use futures_util::TryStreamExt;
use mongodb::bson::{Document, doc, oid::ObjectId};
use proto::{
    RoomName, Username,
    event::{ItemType, RoomKind},
};
use remote::mongo::{Documents, Operation, Prepared, Store};
use tokio::time::Instant;

use self::document::{RoomDocument, RoomSummary, rooms_with};
use super::{ChangesSince, Committed, Directory, Limits, NewRoom, Request, RoomInfo, RoomRecord, refusal};
use crate::{
    Error,
    mongo::{DEADLINE, MESSAGES, collection, deadline_now, with_deadline},
};

/// Name of the collection.
const COLLECTION: &str = crate::mongo::ROOMS;

/// The rooms of one database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct MongoDirectory {
    rooms: Documents<RoomDocument>,
    /// The messages, which are deleted before a name is reused.
    messages: Documents<Document>,
    /// The older part of the change log, see [`change_log`].
    changes: Documents<Document>,
    /// The rooms whose changes are being copied there.
    copying: Arc<Mutex<HashSet<RoomName>>>,
    /// The id of this process. Each change that this process writes contains it.
    process: Arc<str>,
    prepared: Prepared,
    /// Delay before a name is reused, see [`renew::REUSE_DELAY`].
    reuse_delay: Duration,
}

impl MongoDirectory {
    /// A directory in `store`. MongoDB need not be reachable yet. A change is acknowledged once it is on the disks of a majority.
    pub fn new(store: impl Into<Store>) -> Self {
        let store = store.into();
        let rooms = collection(&store, COLLECTION).with_trial(document::trial);
        let messages = collection(&store, MESSAGES);
        let changes = collection(&store, change_log::COLLECTION)
            .with_trial(change_log::trial)
            .with_optional(Operation::Update, change_log::NOT_COPIED)
            .with_optional(Operation::Delete, change_log::NOT_DELETED);
        Self {
            rooms,
            messages,
            changes,
            copying: Arc::default(),
            process: ObjectId::new().to_hex().into(),
            prepared: Prepared::default(),
            reuse_delay: renew::REUSE_DELAY,
        }
    }

    async fn load(&self, room: &RoomName, deadline: Instant) -> Result<Option<RoomDocument>, Error> {
        let found = self.rooms.find_one(doc! { "_id": room.as_str() }).projection(doc! { "recent": 0 });
        with_deadline(deadline, found.max_time(DEADLINE)).await
    }

    /// Checks the limits on memberships that `request` is subject to, see [`limits`].
    async fn check_limits(
        &self,
        room: &RoomDocument,
        request: &Request,
        limits: Limits,
        deadline: Instant,
    ) -> Result<(), Error> {
        match request {
            Request::Join { user } => self.check_own_limit(user, limits.rooms_per_user, deadline).await,
            Request::Add { user, by } => self.check_add_by(room, user, by, limits.additions, deadline).await,
            _ => Ok(()),
        }
    }

    /// Checks that `user` has created or joined fewer than `limit` rooms. The check and the write are not atomic: concurrent joins of one
    /// user to several rooms are writes of independent documents and may all pass. The user then exceeds the limit by these joins, and
    /// the next join is refused.
    async fn check_own_limit(&self, user: &Username, limit: usize, deadline: Instant) -> Result<(), Error> {
        let own =
            doc! { "members": { "$elemMatch": { "key": user.key(), "by_key": null } }, "archived": false };
        if self.count(own, deadline).await? >= limit { Err(refusal::own_room_limit()) } else { Ok(()) }
    }
}

#[async_trait]
impl Directory for MongoDirectory {
    async fn create(&self, room: NewRoom, limit: usize, committed: Committed) -> Result<RoomInfo, Error> {
        let (this, name) = (self.clone(), room.name.clone());
        self.run(name, committed, async move { this.insert(&room, limit).await }).await
    }

    async fn find(&self, room: &RoomName) -> Result<Option<RoomRecord>, Error> {
        if RoomKind::of(room).is_built_in() {
            return Ok(Some(RoomRecord::lobby()));
        }
        let found = self.load(room, deadline_now()).await?.filter(|found| !found.archived);
        found.map(|found| found.record(room.clone())).transpose()
    }

    async fn rooms_of(&self, user: &Username) -> Result<Vec<RoomInfo>, Error> {
        let summaries = async {
            let rooms = self.rooms.clone_with_type::<RoomSummary>();
            let found = rooms
                .find(rooms_with(user))
                .sort(doc! { "_id": 1 })
                .projection(RoomSummary::fields())
                .max_time(DEADLINE);
            found.await?.try_collect::<Vec<RoomSummary>>().await
        };
        let summaries = with_deadline(deadline_now(), summaries).await?;
        let rooms = summaries.into_iter().map(RoomSummary::room_info);
        std::iter::once(Ok(RoomInfo::lobby())).chain(rooms).collect()
    }

    async fn change(
        &self,
        room: &RoomName,
        request: Request,
        limits: Limits,
        committed: Committed,
    ) -> Result<Option<RoomRecord>, Error> {
        if RoomKind::of(room).is_built_in() {
            let lobby = RoomRecord::lobby();
            return request.decide(&lobby).map(|_| Some(lobby));
        }
        let (this, name) = (self.clone(), room.clone());
        let update = async move { this.update(&name, &request, limits).await };
        self.run(room.clone(), committed, update).await
    }

    async fn changes_since(
        &self,
        room: &RoomName,
        rev: u64,
        types: &[ItemType],
    ) -> Result<Option<ChangesSince>, Error> {
        self.read_changes_since(room, rev, types).await
    }
}
