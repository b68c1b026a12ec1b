//! [`Directory`] in MongoDB, collections `rooms` and `members`. A room is one document that contains its latest changes, and one document
//! for each user who is or was a member. Every change is one write to the room's document. A change is decided on the room and the members
//! that were read, and is written only if the room's version is still the same. The version is the number of the room's changes. The
//! documents of the members follow after the commit ([`apply`]), and readers see them as if they were part of it ([`members`]).

mod apply;
mod change;
mod change_log;
mod changes;
mod copied_changes;
mod document;
mod indexes;
mod items;
mod limits;
mod members;
mod membership;
mod migration;
mod of_user;
mod renew;
mod resolve_unknown;
mod schema;
mod settings;
mod stored_changes;
#[cfg(test)]
mod tests;
mod version_1;
mod writes;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
    time::{Duration, Instant as StdInstant},
};

use async_trait::async_trait;
use mongodb::bson::{Document, oid::ObjectId};
use proto::{
    RoomName, Username,
    event::{ItemType, RoomKind},
};
use remote::mongo::{Documents, Operation, Prepared, Store};
use tokio::time::Instant;

use self::{document::RoomDocument, membership::Membership, schema::Schema};
use super::{ChangesSince, Committed, Directory, Limits, NewRoom, Request, RoomInfo, RoomRecord};
use crate::{
    Error,
    mongo::{MEMBERS, MESSAGES, collection, deadline_now},
};

/// Name of the collection.
const COLLECTION: &str = crate::mongo::ROOMS;

/// The rooms of one database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct MongoDirectory {
    rooms: Documents<Document>,
    /// The members of rooms.
    members: Documents<Membership>,
    /// The messages, which are deleted before a name is reused.
    messages: Documents<Document>,
    /// The older part of the change log, see [`change_log`].
    changes: Documents<Document>,
    /// The rooms whose changes are being copied there.
    copying: Arc<Mutex<HashSet<RoomName>>>,
    /// The rooms whose changes are being applied to the collection of members, and whether later ones were committed meanwhile.
    applying: Arc<Mutex<HashMap<RoomName, bool>>>,
    /// The time of the last search of rooms with changes that are not applied.
    swept: Arc<Mutex<Option<StdInstant>>>,
    /// The id of this process. Each change that this process writes contains it.
    process: Arc<str>,
    prepared: Prepared,
    schema: Schema,
    /// Delay before a name is reused, see [`renew::REUSE_DELAY`].
    reuse_delay: Duration,
}

impl MongoDirectory {
    /// A directory in `store`. MongoDB need not be reachable yet. A change is acknowledged once it is on the disks of a majority.
    pub fn new(store: impl Into<Store>) -> Self {
        let store = store.into();
        let rooms =
            collection(&store, COLLECTION).with_trial(document::trial).with_unique_indexes(&[schema::GUARD]);
        let members = collection(&store, MEMBERS).with_trial(membership::trial);
        let messages = collection(&store, MESSAGES);
        let changes = collection(&store, change_log::COLLECTION)
            .with_trial(change_log::trial)
            .with_optional(Operation::Update, change_log::NOT_COPIED)
            .with_optional(Operation::Delete, change_log::NOT_DELETED);
        Self {
            rooms,
            members,
            messages,
            changes,
            copying: Arc::default(),
            applying: Arc::default(),
            swept: Arc::default(),
            process: ObjectId::new().to_hex().into(),
            prepared: Prepared::default(),
            schema: Schema::new(&store),
            reuse_delay: renew::REUSE_DELAY,
        }
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
        let found = self.load(room, deadline_now()).await?.filter(|found| !found.document.archived);
        found.map(|found| found.record()).transpose()
    }

    async fn rooms_of(&self, user: &Username) -> Result<Vec<RoomInfo>, Error> {
        let mut rooms = vec![RoomInfo::lobby()];
        rooms.extend(self.open_rooms_of(user).await?);
        Ok(rooms)
    }

    async fn has_member(&self, name: &Username) -> Result<bool, Error> {
        Ok(self.is_member_anywhere(name).await? || self.is_member_in_version_1(name).await?)
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
