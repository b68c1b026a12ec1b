//! [`Directory`] in MongoDB, collection `rooms`. A room is one document that contains its members, so that every change is one
//! write. A change is decided on the document that was read, and is written only if the room's version is still the same.

mod change;
mod changes;
mod document;
mod indexes;
mod limits;
mod renew;
mod resolve_unknown;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::TryStreamExt;
use mongodb::{
    bson::{Document, doc, oid::ObjectId},
    error::Error as MongoError,
};
use proto::{RoomName, Username};
use remote::mongo::{Documents, Operation, Prepared, Store};
use tokio::time::{Instant, sleep};

use self::{
    change::Change,
    changes::RecordedChange,
    document::{RoomDocument, RoomSummary, rooms_with},
    resolve_unknown::Outcome,
};
use super::{Additions, Committed, Directory, Member, NewRoom, RoomInfo, RoomRecord, refusal};
use crate::{
    Error,
    history::mongo::COLLECTION as MESSAGES,
    mongo::{DEADLINE, collection, deadline_now, with_deadline},
};

/// Name of the collection.
const COLLECTION: &str = "rooms";

/// Maximum number of attempts of a change. An attempt fails when another change of the room was written after the read.
const MAX_ATTEMPTS: u32 = 16;

/// Increment of the delay between two attempts.
const BACKOFF_STEP: Duration = Duration::from_millis(4);

/// The rooms of one database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct MongoDirectory {
    rooms: Documents<RoomDocument>,
    /// The messages, which are deleted before a name is reused.
    messages: Documents<Document>,
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
        let rooms = collection(&store, COLLECTION).with_trial(document::trial);
        let messages = collection(&store, MESSAGES);
        Self {
            rooms,
            messages,
            process: ObjectId::new().to_hex().into(),
            prepared: Prepared::default(),
            reuse_delay: renew::REUSE_DELAY,
        }
    }

    async fn load(&self, room: &RoomName, deadline: Instant) -> Result<Option<RoomDocument>, Error> {
        let found = self.rooms.find_one(doc! { "_id": room.as_str() }).projection(doc! { "recent": 0 });
        with_deadline(deadline, found.max_time(DEADLINE)).await
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

    /// Checks that `user` has created or joined fewer than `limit` rooms. The check and the write are not atomic: concurrent joins of one
    /// user to several rooms are writes of independent documents and may all pass. The user then exceeds the limit by these joins, and
    /// the next join is refused.
    async fn check_own_limit(&self, user: &Username, limit: usize, deadline: Instant) -> Result<(), Error> {
        let own =
            doc! { "members": { "$elemMatch": { "key": user.key(), "by_key": null } }, "archived": false };
        if self.count(own, deadline).await? >= limit { Err(refusal::own_room_limit()) } else { Ok(()) }
    }

    /// Creates the room.
    async fn insert(&self, room: &NewRoom, limit: usize) -> Outcome<RoomInfo> {
        let deadline = deadline_now();
        if let Err(refused) = self.check_own_limit(&room.owner, limit, deadline).await {
            return Outcome::Refused(refused);
        }
        if room.name.is_lobby() {
            return Outcome::Refused(refusal::taken(false));
        }
        let insert = async {
            let mut new = RoomDocument::creation(room);
            new.insert("recent", [self.change_document(1, RecordedChange::Joined(&room.owner))]);
            // An upsert, because only updates can set a field to MongoDB's clock. Versions start at 1, so the filter matches no room.
            let absent = doc! { "_id": room.name.as_str(), "version": { "$lt": 1_i64 } };
            let create = doc! { "$setOnInsert": new, "$currentDate": { "changed": true } };
            let create = self
                .rooms
                .write(Operation::Update, async |rooms| rooms.update_one(absent, create).upsert(true).await);
            match create.await {
                Err(error) if self.rooms.is_duplicate(&error) => Ok::<_, MongoError>(false),
                result => result.map(|_| true),
            }
        };
        match with_deadline(deadline, insert).await {
            Ok(true) => Outcome::Changed(room.room_info()),
            Ok(false) => self.renew(room, deadline).await,
            Err(error) => Outcome::Unknown { version: 0, error },
        }
    }

    /// Applies `change` to the room and returns the members after it.
    async fn update(&self, room: &RoomName, change: &Change) -> Outcome<Vec<Member>> {
        let deadline = deadline_now();
        for attempt in 0..MAX_ATTEMPTS {
            sleep(BACKOFF_STEP * attempt).await;
            let decided = async {
                let found = self.load(room, deadline).await?.filter(|found| !found.archived);
                let found = found.ok_or(Error::NotFound)?;
                let (version, record) = (found.version, found.record(room.clone())?);
                change.check(&record)?;
                let members = record.members;
                let decision = change.apply(found.private, members.clone());
                if decision.is_some() {
                    self.check_limits(&found, change, deadline).await?;
                }
                Ok((version, members, decision))
            };
            let (version, members, decision) = match decided.await {
                Ok(decided) => decided,
                Err(error) => return Outcome::Refused(error),
            };
            let Some((update, members_after)) = decision else { return Outcome::Unchanged(members) };
            match self.write(room, version, (update, change.into()), deadline).await {
                Ok(true) => return Outcome::Changed(members_after),
                Ok(false) => (),
                Err(error) => return Outcome::Unknown { version, error },
            }
        }
        Outcome::Refused(Error::full())
    }

    /// Writes to the room and increments its version if the room is at `version`. Returns whether it was.
    async fn write(
        &self,
        room: &RoomName,
        version: i64,
        (update, kind): (Document, RecordedChange<'_>),
        deadline: Instant,
    ) -> Result<bool, Error> {
        let update = self.with_change(update, version, kind);
        let documents = self.rooms.clone_with_type::<Document>();
        let write = documents.write(Operation::Update, async |rooms| {
            let room = doc! { "_id": room.as_str(), "version": version };
            let write = rooms.find_one_and_update(room, update).projection(doc! { "_id": 1 });
            write.max_time(DEADLINE).await
        });
        Ok(with_deadline(deadline, write).await?.is_some())
    }

    async fn change(
        &self,
        room: &RoomName,
        change: Change,
        committed: Committed,
    ) -> Result<Vec<Member>, Error> {
        let (this, name, requested) = (self.clone(), room.clone(), change.clone());
        self.run(room.clone(), change, committed, async move { this.update(&name, &requested).await }).await
    }
}

#[async_trait]
impl Directory for MongoDirectory {
    async fn create(&self, room: NewRoom, limit: usize, committed: Committed) -> Result<RoomInfo, Error> {
        let (this, name) = (self.clone(), room.name.clone());
        let change = Change::Add { user: room.owner.clone(), limit };
        self.run(name, change, committed, async move { this.insert(&room, limit).await }).await
    }

    async fn find(&self, room: &RoomName) -> Result<Option<RoomRecord>, Error> {
        if room.is_lobby() {
            return Ok(Some(RoomRecord { room_info: RoomInfo::lobby(), members: vec![] }));
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

    async fn add(
        &self,
        room: &RoomName,
        user: &Username,
        limit: usize,
        committed: Committed,
    ) -> Result<Vec<Member>, Error> {
        if room.is_lobby() {
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
        if room.is_lobby() {
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
        if room.is_lobby() {
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
        if room.is_lobby() {
            return Ok(vec![]);
        }
        let (user, by) = (user.clone(), by.clone());
        self.change(room, Change::Remove { user, by }, committed).await
    }

    async fn set_private(
        &self,
        room: &RoomName,
        by: &Username,
        private: bool,
        committed: Committed,
    ) -> Result<(), Error> {
        if room.is_lobby() {
            return Err(Error::NotFound);
        }
        let by = by.clone();
        self.change(room, Change::SetPrivate { private, by }, committed).await.map(drop)
    }

    async fn archive(&self, room: &RoomName, by: &Username, committed: Committed) -> Result<(), Error> {
        if room.is_lobby() {
            return Err(Error::NotFound);
        }
        self.change(room, Change::Archive { by: by.clone() }, committed).await.map(drop)
    }
}
