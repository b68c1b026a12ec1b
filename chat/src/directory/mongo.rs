//! [`Directory`] in MongoDB, collection `rooms`. A room is one document that contains its members and its latest changes, so that every
//! change is one write. A change is decided on the document that was read, and is written only if the room's version is still the same.
//! The version is the number of the room's changes.
//!
//! A change whose answer is lost is found by [`Changes::recent`](crate::changes::Changes::recent), as a change of another node is.

mod changes;
mod document;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::TryStreamExt;
use mongodb::{
    Collection, IndexModel,
    bson::{Document, doc, oid::ObjectId},
    error::Error as MongoError,
    options::IndexOptions,
};
use proto::{
    RoomName, Username,
    event::{ItemType, RoomKind},
};
use remote::mongo::{Store, is_duplicate};
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use self::document::{RoomDocument, RoomSummary, StoredChange, creation, rooms_with, update};
use super::{
    ChangesSince, Committed, Decision, Directory, Limits, NewRoom, Request, RoomInfo, RoomRecord, refusal,
};
use crate::{
    Error,
    mongo::{DEADLINE, PREPARATION, ROOMS, deadline_now, with_deadline},
};

/// Maximum number of attempts of a change. An attempt fails when another change of the room was written after the read.
const MAX_ATTEMPTS: u32 = 16;

/// Increment of the delay between two attempts.
const BACKOFF_STEP: Duration = Duration::from_millis(4);

/// The rooms of one database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct MongoDirectory {
    rooms: Collection<RoomDocument>,
    /// The id of this process. Each change that this process writes contains it.
    process: Arc<str>,
}

/// The result of an aggregation that counts.
#[derive(Deserialize)]
struct Count {
    count: i64,
}

impl MongoDirectory {
    /// A directory in `store`. MongoDB need not be reachable yet. A change is acknowledged once it is on the disks of a majority.
    pub fn new(store: impl Into<Store>) -> Self {
        Self { rooms: store.into().collection(ROOMS), process: ObjectId::new().to_hex().into() }
    }

    /// Creates the indexes: of a user's rooms, of the memberships that a user has created for others, and of recent changes.
    ///
    /// # Errors
    /// [`Error::Store`] when MongoDB does not answer or refuses.
    pub async fn prepare(&self) -> Result<(), Error> {
        let index = |name: &str, keys| {
            let options = IndexOptions::builder().name(name.to_owned()).build();
            IndexModel::builder().keys(keys).options(options).build()
        };
        let indexes = [
            index("members", doc! { "members.key": 1 }),
            index("adders", doc! { "members.by_key": 1 }),
            index("changed", doc! { "changed": -1 }),
        ];
        let created = self.rooms.create_indexes(indexes);
        with_deadline(Instant::now() + PREPARATION, created).await.map(drop)
    }

    /// The room, without its changes.
    async fn load(&self, room: &RoomName, deadline: Instant) -> Result<Option<RoomDocument>, Error> {
        let found = self.rooms.find_one(doc! { "_id": room.as_str() }).projection(doc! { "recent": 0 });
        with_deadline(deadline, found.max_time(DEADLINE)).await
    }

    /// Checks the limits on memberships that `request` is subject to. The check and the write are not atomic: concurrent joins and additions
    /// may exceed a limit by their number.
    async fn check_limits(&self, request: &Request, limits: Limits, deadline: Instant) -> Result<(), Error> {
        match request {
            Request::Join { user } => self.check_own_limit(user, limits.rooms_per_user, deadline).await,
            Request::Add { by, .. }
                if self.count_added_by(by, deadline).await? >= limits.additions_per_user =>
            {
                Err(refusal::additions_limit())
            }
            _ => Ok(()),
        }
    }

    /// Checks that `user` has created or joined fewer than `limit` rooms.
    async fn check_own_limit(&self, user: &Username, limit: usize, deadline: Instant) -> Result<(), Error> {
        let own =
            doc! { "members": { "$elemMatch": { "key": user.key(), "by_key": null } }, "archived": false };
        let count = with_deadline(deadline, self.rooms.count_documents(own).max_time(DEADLINE)).await?;
        if usize::try_from(count).is_ok_and(|count| count < limit) {
            Ok(())
        } else {
            Err(refusal::own_room_limit())
        }
    }

    /// Counts the memberships that `by` has created for others.
    async fn count_added_by(&self, by: &Username, deadline: Instant) -> Result<usize, Error> {
        let is_theirs = doc! { "$eq": ["$$member.by_key", by.key()] };
        let theirs = doc! { "$filter": { "input": "$members", "as": "member", "cond": is_theirs } };
        let stages = [
            doc! { "$match": { "members.by_key": by.key(), "archived": false } },
            doc! { "$group": { "_id": null, "count": { "$sum": { "$toLong": { "$size": theirs } } } } },
        ];
        let counted = async {
            let counted = self.rooms.aggregate(stages).max_time(DEADLINE).with_type::<Count>().await?;
            counted.try_collect::<Vec<_>>().await
        };
        let count = with_deadline(deadline, counted).await?.first().map_or(0, |counted| counted.count);
        Ok(usize::try_from(count).unwrap_or(usize::MAX))
    }

    /// Writes a change of the room if the room is at `version`. Returns whether it was.
    async fn write(
        &self,
        room: &RoomName,
        version: i64,
        decision: &Decision,
        deadline: Instant,
    ) -> Result<bool, Error> {
        let update = update(decision, &StoredChange::new(version + 1, &self.process, decision));
        let documents = self.rooms.clone_with_type::<Document>();
        let write = async {
            let room = doc! { "_id": room.as_str(), "version": version };
            let write = documents.find_one_and_update(room, update).projection(doc! { "_id": 1 });
            write.max_time(DEADLINE).await
        };
        Ok(with_deadline(deadline, write).await?.is_some())
    }
}

#[async_trait]
impl Directory for MongoDirectory {
    async fn create(&self, room: NewRoom, limit: usize, committed: Committed) -> Result<RoomInfo, Error> {
        let deadline = deadline_now();
        if RoomKind::of(&room.name).is_built_in() {
            return Err(refusal::taken());
        }
        self.check_own_limit(&room.owner, limit, deadline).await?;
        let decision = Decision::creation(&room);
        // An upsert, because only updates can set a field to MongoDB's clock. Versions start at 1, so the filter matches no room.
        let absent = doc! { "_id": room.name.as_str(), "version": { "$lt": 1_i64 } };
        let new = creation(&room, &StoredChange::new(1, &self.process, &decision));
        let create = doc! { "$setOnInsert": new, "$currentDate": { "changed": true } };
        let insert = async {
            let create = self.rooms.update_one(absent, create).upsert(true);
            match create.await {
                Err(error) if is_duplicate(&error) => Ok::<_, MongoError>(false),
                result => result.map(|_| true),
            }
        };
        if !with_deadline(deadline, insert).await? {
            return Err(refusal::taken());
        }
        committed(decision.committed(1, None));
        Ok(room.room_info())
    }

    async fn find(&self, room: &RoomName) -> Result<Option<RoomRecord>, Error> {
        if RoomKind::of(room).is_built_in() {
            return Ok(Some(RoomRecord::lobby()));
        }
        let found = self.load(room, deadline_now()).await?.filter(|found| !found.archived);
        found.map(RoomDocument::record).transpose()
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
        Ok(std::iter::once(RoomInfo::lobby()).chain(rooms).collect())
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
        let deadline = deadline_now();
        for number in 0..MAX_ATTEMPTS {
            sleep(BACKOFF_STEP * number).await;
            let found = self.load(room, deadline).await?.filter(|found| !found.archived);
            let found = found.ok_or(Error::NotFound)?;
            let version = found.version;
            let record = found.record()?;
            let Some(decision) = request.decide(&record)? else { return Ok(Some(record)) };
            self.check_limits(&request, limits, deadline).await?;
            if self.write(room, version, &decision, deadline).await? {
                committed(decision.committed(record.rev + 1, None));
                return Ok(decision.record(record.rev + 1));
            }
        }
        Err(Error::full())
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
