//! [`History`] in MongoDB, collection `messages`: one document for each message, written alone, kept in order by two unique
//! indexes. Where all rooms' messages are in one order is another store's.

mod append;
mod document;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::TryStreamExt;
use mongodb::{
    Collection, Cursor, IndexModel,
    bson::{Document, doc},
};
use proto::{
    RoomName, Timestamp,
    event::{Message, Page},
};
use remote::mongo::{Prepared, Store};
use tokio::time::Instant;

use self::document::{End, New, Row};
use super::{Appended, Committed, Draft, Head, History, Slice, StoredMessage, weight};
use crate::{
    Error,
    column::integer,
    config,
    mongo::{
        DEADLINE, PREPARATION, collection, date, deadline_now, number, unique, unprepared, with_deadline,
    },
};

/// The collection.
pub const COLLECTION: &str = "messages";

/// Where [`crate::directory::mongo`] keeps the rooms.
const ROOMS: &str = "rooms";

/// How many documents come at a time: enough for most answers, not so many that long texts are read in vain.
const AT_A_TIME: u32 = 128;

/// The messages of one database. Cheap to clone.
///
/// Nothing is written before the unique indexes are there. They are checked again while the process runs, and created where they
/// are missing: without them every question reads the whole collection.
#[derive(Debug, Clone)]
pub struct MongoHistory {
    messages: Collection<Document>,
    rooms: Collection<Document>,
    prepared: Prepared,
}

impl MongoHistory {
    /// Messages in `store`, which need not be there yet. A message is on a majority's disks before it is answered.
    pub fn new(store: impl Into<Store>) -> Self {
        let store = store.into();
        let (messages, rooms) = (collection(&store, COLLECTION), collection(&store, ROOMS));
        Self { messages, rooms, prepared: Prepared::default() }
    }

    /// Creates the indexes that are missing. To be called at the start, where there is time; what is written before waits for it.
    ///
    /// # Errors
    /// [`Error::Store`] when MongoDB does not answer, or when what is there contradicts a unique index.
    pub async fn prepare(&self) -> Result<(), Error> {
        self.prepared(Instant::now() + PREPARATION).await
    }

    /// Checks that MongoDB answers and the indexes are there, and creates those that are missing. For `/readyz`.
    ///
    /// # Errors
    /// See [`MongoHistory::prepare`].
    pub async fn check(&self) -> Result<(), Error> {
        let deadline_now = deadline_now();
        self.prepared(deadline_now).await?;
        self.any(deadline_now).await.map(drop)
    }

    async fn prepared(&self, deadline_now: Instant) -> Result<(), Error> {
        with_deadline(deadline_now, self.prepared.ensure(self.create_indexes())).await
    }

    async fn create_indexes(&self) -> Result<(), Error> {
        let place = IndexModel::builder().keys(doc! { "room": 1, "seq": 1 }).options(unique("room_seq"));
        let mut once = unique("room_author_client");
        once.partial_filter_expression = Some(doc! { "clientId": { "$exists": true } });
        let once = IndexModel::builder()
            .keys(doc! { "room": 1, "authorKey": 1, "clientId": 1 })
            .options(once)
            .build();
        let created = self.messages.create_indexes([place.build(), once]).await;
        created.map(drop).map_err(|error| unprepared(COLLECTION, error))
    }

    async fn any(&self, deadline_now: Instant) -> Result<bool, Error> {
        let any = self.messages.find_one(doc! {}).projection(doc! { "_id": 1 }).max_time(DEADLINE);
        Ok(with_deadline(deadline_now, any).await?.is_some())
    }

    async fn end_of(&self, room: &RoomName) -> Result<Head, Error> {
        let ends = self.messages.clone_with_type::<End>();
        let last = ends
            .find_one(doc! { "room": room.as_str() })
            .sort(doc! { "seq": -1 })
            .projection(doc! { "_id": 0, "seq": 1, "timestamp": 1 })
            .max_time(DEADLINE);
        match last.await? {
            Some(last) => last.head(),
            None => self.base_of(room).await,
        }
    }

    /// Where a room without messages goes on: after the last room of its name.
    async fn base_of(&self, room: &RoomName) -> Result<Head, Error> {
        let base = self.rooms.find_one(doc! { "_id": room.as_str() }).projection(doc! { "base": 1 });
        let base = base.max_time(DEADLINE).await?.and_then(|found| found.get_i64("base").ok());
        Ok(Head { seq: number(base.unwrap_or(0))?, timestamp: Timestamp::default() })
    }

    /// A room's messages with `after < seq < before`, in the direction of `order`.
    async fn between(
        &self,
        room: &RoomName,
        (after, before): (u64, Option<u64>),
        order: i32,
        limit: usize,
    ) -> Result<Cursor<Row>, Error> {
        let before = before.map_or(i64::MAX, integer);
        let filter = doc! { "room": room.as_str(), "seq": { "$gt": integer(after), "$lt": before } };
        let rows = self.messages.clone_with_type::<Row>();
        let found = rows
            .find(filter)
            .sort(doc! { "seq": order })
            .projection(Row::fields())
            .limit(i64::try_from(limit).unwrap_or(i64::MAX))
            .batch_size(u32::try_from(limit).unwrap_or(AT_A_TIME).clamp(1, AT_A_TIME))
            .max_time(DEADLINE);
        Ok(found.await?)
    }

    async fn page_of(
        &self,
        room: &RoomName,
        before: Option<u64>,
        after: Option<u64>,
        limit: u32,
    ) -> Result<Page, Error> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        // One more than asked for tells whether there is a next page.
        let rows = self.between(room, (after.unwrap_or(0), before), -1, limit.saturating_add(1)).await?;
        let (kept, more) = fitting(rows, room, limit).await?;
        let messages: Vec<Message> = kept.into_iter().map(|kept| kept.message).collect();
        let next = messages.last().filter(|_| more).map(|last| last.seq);
        Ok(Page { messages, next })
    }

    async fn slice_of(&self, room: &RoomName, seq: u64, max: usize) -> Result<Slice, Error> {
        // The head comes first: one from after the messages would promise what they lack. They may go beyond it.
        let head = self.end_of(room).await?.seq;
        let (messages, _) = fitting(self.between(room, (seq, None), 1, max).await?, room, max).await?;
        let head = messages.last().map_or(head, |last| head.max(last.message.seq));
        Ok(Slice { messages, head })
    }

    async fn forget(&self, room: &RoomName, keep: u64, oldest: Timestamp) -> Result<(), Error> {
        let head = self.end_of(room).await?.seq;
        let gone = doc! {
            "room": room.as_str(),
            "seq": { "$lt": integer(head) },
            "$or": [
                { "seq": { "$lte": integer(head.saturating_sub(keep)) } },
                { "timestamp": { "$lt": date(oldest) } },
                { "timestamp": { "$gt": date(sessions::ages::latest()) } },
            ],
        };
        self.messages.delete_many(gone).await?;
        Ok(())
    }

    fn new_ones(&self) -> Collection<New> {
        self.messages.clone_with_type()
    }
}

#[async_trait]
impl History for MongoHistory {
    async fn append(
        &self,
        room: &RoomName,
        head: u64,
        drafts: Arc<[Draft]>,
        committed: Committed,
    ) -> Result<Appended, Error> {
        let deadline_now = deadline_now();
        self.prepared(deadline_now).await?;
        let appended = with_deadline(deadline_now, self.store(room, head, &drafts)).await?;
        committed(&appended);
        Ok(appended)
    }

    async fn page(
        &self,
        room: &RoomName,
        before: Option<u64>,
        after: Option<u64>,
        limit: u32,
    ) -> Result<Page, Error> {
        with_deadline(deadline_now(), self.page_of(room, before, after, limit)).await
    }

    async fn since(&self, room: &RoomName, seq: u64, max: usize) -> Result<Slice, Error> {
        with_deadline(deadline_now(), self.slice_of(room, seq, max)).await
    }

    async fn head(&self, room: &RoomName) -> Result<Head, Error> {
        with_deadline(deadline_now(), self.end_of(room)).await
    }

    async fn trim(&self, room: &RoomName, keep: u64, oldest: Timestamp) -> Result<(), Error> {
        with_deadline(deadline_now(), self.forget(room, keep, oldest)).await
    }

    async fn is_empty(&self) -> Result<bool, Error> {
        Ok(!self.any(deadline_now()).await?)
    }
}

/// The rows that fit into one answer (always at least one), at most `limit`, and whether one was left.
async fn fitting(
    mut rows: Cursor<Row>,
    room: &RoomName,
    limit: usize,
) -> Result<(Vec<StoredMessage>, bool), Error> {
    let (mut messages, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.try_next().await? {
        bytes += weight(&row.text);
        if messages.len() == limit || (bytes > config::ANSWER_BYTES && !messages.is_empty()) {
            return Ok((messages, true));
        }
        messages.push(row.kept(room)?);
    }
    Ok((messages, false))
}
