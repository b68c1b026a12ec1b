//! [`Directory`] in MongoDB: the collections `rooms`, `members` and `changes`. A room's document has its properties, the number of its
//! members and its latest changes; each member is a document, and so is each part of a room that has changed. A change is one transaction
//! that reads the room and its members, and increments the number of changes (`rev`) in the room's document.

mod change;
mod change_log;
mod changes;
mod changes_since;
mod document;
mod indexes;
mod items;
mod limits;
mod migration;
mod numbered;
mod renew;
mod resolve_unknown;
mod rounds;
mod schema;
mod settings;
mod snapshot;
mod stored_changes;
#[cfg(test)]
mod tests;
mod version_1;
mod writes;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use futures_util::TryStreamExt;
use mongodb::{
    Client,
    bson::{Document, doc, oid::ObjectId},
};
use proto::{
    RoomName, Username,
    event::{ItemType, RoomKind, SettingsPatch},
};
use remote::mongo::{Documents, Operation, Prepared, Store};
use tokio::time::Instant;

use self::{
    change::Change,
    document::{MemberDocument, RoomDocument, RoomSummary},
    rounds::Turns,
    schema::Schema,
};
use super::{Additions, ChangesSince, Committed, Directory, Member, NewRoom, RoomInfo, RoomRecord};
use crate::{
    Error,
    mongo::{DEADLINE, MEMBERS, MESSAGES, collection, deadline_now, with_deadline},
};

/// Name of the collection.
const COLLECTION: &str = crate::mongo::ROOMS;

/// The rooms of one database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct MongoDirectory {
    client: Client,
    rooms: Documents<RoomDocument>,
    members: Documents<MemberDocument>,
    /// The messages, which are deleted before a name is reused.
    messages: Documents<Document>,
    /// The change log, see [`change_log`].
    changes: Documents<Document>,
    /// The rooms whose change log is being restarted.
    restarting: Arc<Mutex<HashSet<RoomName>>>,
    /// The locks of rooms for transactions of this node.
    turns: Turns,
    /// The form of the stored rooms, see [`schema`].
    schema: Schema,
    /// Id of this process, stored with its changes.
    process: Arc<str>,
    prepared: Prepared,
    /// Delay before a name is reused, see [`renew::REUSE_DELAY`].
    reuse_delay: Duration,
}

impl MongoDirectory {
    /// A directory in `store`. MongoDB need not be reachable yet. A change is acknowledged once it is on the disks of a majority.
    pub fn new(store: impl Into<Store>) -> Self {
        let store = store.into();
        let rooms = collection(&store, COLLECTION)
            .with_unique_indexes(&[schema::GUARD])
            .with_trial(document::room_trial);
        Self {
            client: store.database.client().clone(),
            rooms,
            members: collection(&store, MEMBERS).with_trial(document::member_trial),
            messages: collection(&store, MESSAGES),
            changes: collection(&store, change_log::COLLECTION)
                .with_trial(change_log::trial)
                .with_optional(Operation::Delete, change_log::NOT_DELETED),
            restarting: Arc::default(),
            turns: Turns::default(),
            schema: Schema::new(&store),
            process: ObjectId::new().to_hex().into(),
            prepared: Prepared::default(),
            reuse_delay: renew::REUSE_DELAY,
        }
    }

    /// Checks the limits on memberships that `change` is subject to, see [`limits`].
    async fn check_limits(
        &self,
        room: &RoomDocument,
        change: &Change,
        deadline: Instant,
    ) -> Result<(), Error> {
        match change {
            Change::Add { user, limit } => self.check_own_limit(user, *limit, deadline).await,
            Change::AddBy { user, by, limits } => self.check_add_by(room, user, by, *limits, deadline).await,
            _ => Ok(()),
        }
    }

    async fn change(
        &self,
        room: &RoomName,
        change: Change,
        committed: Committed,
    ) -> Result<Vec<Member>, Error> {
        let (this, name) = (self.clone(), room.clone());
        self.run(committed, async move { this.update(&name, &change).await }).await
    }
}

#[async_trait]
impl Directory for MongoDirectory {
    async fn create(&self, room: NewRoom, limit: usize, committed: Committed) -> Result<RoomInfo, Error> {
        let this = self.clone();
        self.run(committed, async move { this.insert(&room, limit).await }).await
    }

    async fn find(&self, room: &RoomName) -> Result<Option<RoomRecord>, Error> {
        if RoomKind::of(room).is_built_in() {
            return Ok(Some(RoomRecord { room_info: RoomInfo::lobby(), members: vec![], rev: 0 }));
        }
        let found = self.load(room, deadline_now()).await?.filter(|found| !found.document.archived);
        found.map(|found| found.record()).transpose()
    }

    async fn rooms_of(&self, user: &Username) -> Result<Vec<RoomInfo>, Error> {
        let mut stages = vec![doc! { "$match": { "_id.key": user.key() } }];
        stages.extend(self.open_rooms());
        stages.push(doc! { "$sort": { "_id.room": 1 } });
        let summaries = async {
            let found = self.members.aggregate(stages).max_time(DEADLINE).with_type::<RoomSummary>().await?;
            found.try_collect::<Vec<_>>().await
        };
        let summaries = with_deadline(deadline_now(), summaries).await?;
        let rooms = summaries.iter().map(RoomSummary::room_info);
        std::iter::once(Ok(RoomInfo::lobby())).chain(rooms).collect()
    }

    async fn has_member(&self, name: &Username) -> Result<bool, Error> {
        // A room that is migrated meanwhile has its members in one of the two places.
        if self.is_member_in_version_1(name).await? {
            return Ok(true);
        }
        let members = self.members.clone_with_type::<Document>();
        let found = members.find_one(doc! { "_id.key": name.key() }).projection(doc! { "_id": 1 });
        Ok(with_deadline(deadline_now(), found.max_time(DEADLINE)).await?.is_some())
    }

    async fn add(
        &self,
        room: &RoomName,
        user: &Username,
        limit: usize,
        committed: Committed,
    ) -> Result<Vec<Member>, Error> {
        if !RoomKind::of(room).lists_members() {
            return Ok(vec![]);
        }
        self.change(room, Change::Add { user: user.clone(), limit }, committed).await
    }

    async fn add_by(
        &self,
        room: &RoomName,
        user: &Username,
        by: &Username,
        limits: Additions,
        committed: Committed,
    ) -> Result<Vec<Member>, Error> {
        if !RoomKind::of(room).lists_members() {
            return Ok(vec![]);
        }
        let (user, by) = (user.clone(), by.clone());
        self.change(room, Change::AddBy { user, by, limits }, committed).await
    }

    async fn leave(
        &self,
        room: &RoomName,
        user: &Username,
        committed: Committed,
    ) -> Result<Vec<Member>, Error> {
        if !RoomKind::of(room).lists_members() {
            return Ok(vec![]);
        }
        self.change(room, Change::Leave { user: user.clone() }, committed).await
    }

    async fn remove(
        &self,
        room: &RoomName,
        user: &Username,
        by: &Username,
        committed: Committed,
    ) -> Result<Vec<Member>, Error> {
        if !RoomKind::of(room).lists_members() {
            return Ok(vec![]);
        }
        let (user, by) = (user.clone(), by.clone());
        self.change(room, Change::Remove { user, by }, committed).await
    }

    async fn change_settings(
        &self,
        room: &RoomName,
        by: &Username,
        patch: &SettingsPatch,
        committed: Committed,
    ) -> Result<(), Error> {
        if RoomKind::of(room).is_built_in() {
            return Err(Error::NotFound);
        }
        let (patch, by) = (patch.clone(), by.clone());
        self.change(room, Change::Settings { patch, by }, committed).await.map(drop)
    }

    async fn archive(&self, room: &RoomName, by: &Username, committed: Committed) -> Result<(), Error> {
        if RoomKind::of(room).is_built_in() {
            return Err(Error::NotFound);
        }
        self.change(room, Change::Archive { by: by.clone() }, committed).await.map(drop)
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
