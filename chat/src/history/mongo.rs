//! [`History`] in MongoDB, collection `messages`. A message is one document, written without a transaction. Two unique indexes enforce
//! the numbering. The order of the messages of all rooms is kept in another store.

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
use remote::mongo::Store;
use tokio::{sync::OnceCell, time::Instant};

use self::document::{LastMessage, NewMessage, Row};
use super::{Appended, Committed, Draft, History, RoomHead, Slice, StoredMessage, weight};
use crate::{
    Error,
    column::integer,
    config,
    mongo::{DEADLINE, MESSAGES, PREPARATION, count_failure, date, deadline_now, unique, with_deadline},
};

/// Batch size of a cursor in documents. One batch is enough for most answers. A larger one would read long texts that are then discarded.
const BATCH_SIZE: u32 = 128;

/// The messages of one database. Cheap to clone.
///
/// Messages are written only after the unique indexes exist.
#[derive(Debug, Clone)]
pub struct MongoHistory {
    messages: Collection<Document>,
    /// Whether this process has created the indexes.
    prepared: Arc<OnceCell<()>>,
}

impl MongoHistory {
    /// A history in `store`. MongoDB need not be reachable yet. A message is acknowledged once it is on the disks of a majority.
    pub fn new(store: impl Into<Store>) -> Self {
        Self { messages: store.into().collection(MESSAGES), prepared: Arc::default() }
    }

    /// Creates the missing indexes, with a longer deadline than that of a call. Called at start. Appends wait for it.
    ///
    /// # Errors
    /// [`Error::Store`] when MongoDB does not answer.
    pub async fn prepare(&self) -> Result<(), Error> {
        self.prepared(Instant::now() + PREPARATION).await
    }

    async fn prepared(&self, deadline: Instant) -> Result<(), Error> {
        with_deadline(deadline, self.prepared.get_or_try_init(|| self.create_indexes())).await.map(drop)
    }

    async fn create_indexes(&self) -> Result<(), Error> {
        let room_seq = IndexModel::builder().keys(doc! { "room": 1, "seq": 1 }).options(unique("room_seq"));
        let mut room_author_client = unique("room_author_client");
        room_author_client.partial_filter_expression = Some(doc! { "clientId": { "$exists": true } });
        let room_author_client = IndexModel::builder()
            .keys(doc! { "room": 1, "authorKey": 1, "clientId": 1 })
            .options(room_author_client)
            .build();
        let indexes = [room_seq.build(), room_author_client];
        let created = self.messages.create_indexes(indexes).await;
        Ok(created.map(drop)?)
    }

    async fn has_any(&self, deadline: Instant) -> Result<bool, Error> {
        let found = self.messages.find_one(doc! {}).projection(doc! { "_id": 1 }).max_time(DEADLINE);
        Ok(with_deadline(deadline, found).await?.is_some())
    }

    async fn first_of(&self, room: &RoomName) -> Result<u64, Error> {
        let messages = self.messages.clone_with_type::<LastMessage>();
        let first = messages
            .find_one(doc! { "room": room.as_str() })
            .sort(doc! { "seq": 1 })
            .projection(doc! { "_id": 0, "seq": 1, "timestamp": 1 })
            .max_time(DEADLINE);
        match first.await? {
            Some(first) => Ok(first.head()?.seq),
            None => Ok(1),
        }
    }

    async fn head_of(&self, room: &RoomName) -> Result<RoomHead, Error> {
        let last_messages = self.messages.clone_with_type::<LastMessage>();
        let last = last_messages
            .find_one(doc! { "room": room.as_str() })
            .sort(doc! { "seq": -1 })
            .projection(doc! { "_id": 0, "seq": 1, "timestamp": 1 })
            .max_time(DEADLINE);
        match last.await? {
            Some(last) => last.head(),
            None => Ok(RoomHead::default()),
        }
    }

    /// The messages of a room with `after < seq < before`, ascending when `order` is 1, descending when it is -1.
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
            .batch_size(u32::try_from(limit).unwrap_or(BATCH_SIZE).clamp(1, BATCH_SIZE))
            .max_time(DEADLINE);
        Ok(found.await?)
    }

    async fn read_page(
        &self,
        room: &RoomName,
        before: Option<u64>,
        after: Option<u64>,
        limit: u32,
    ) -> Result<Page, Error> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        // One row more than requested shows whether there is a next page.
        let rows = self.between(room, (after.unwrap_or(0), before), -1, limit.saturating_add(1)).await?;
        let (stored, has_more) = read_fitting(rows, room, limit).await?;
        let messages: Vec<Message> = stored.into_iter().map(|stored| stored.message).collect();
        let next = messages.last().filter(|_| has_more).map(|last| last.seq);
        Ok(Page { messages, next })
    }

    async fn read_slice(&self, room: &RoomName, seq: u64, max: usize) -> Result<Slice, Error> {
        // The head is read first. A later head would include messages that the slice lacks. The messages may go beyond the head.
        let head = self.head_of(room).await?.seq;
        let (messages, _) = read_fitting(self.between(room, (seq, None), 1, max).await?, room, max).await?;
        let head = messages.last().map_or(head, |last| head.max(last.message.seq));
        Ok(Slice { messages, head })
    }

    async fn delete_old(&self, room: &RoomName, keep: u64, oldest: Timestamp) -> Result<(), Error> {
        let head = self.head_of(room).await?.seq;
        let deleted = doc! {
            "room": room.as_str(),
            "seq": { "$lt": integer(head) },
            "$or": [
                { "seq": { "$lte": integer(head.saturating_sub(keep)) } },
                { "timestamp": { "$lt": date(oldest) } },
            ],
        };
        let delete = self.messages.delete_many(deleted);
        Ok(delete.await.map(drop).inspect_err(|_| count_failure(MESSAGES))?)
    }

    fn new_messages(&self) -> Collection<NewMessage> {
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
        let deadline = deadline_now();
        self.prepared(deadline).await?;
        let appended = with_deadline(deadline, self.store(room, head, &drafts)).await?;
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
        with_deadline(deadline_now(), self.read_page(room, before, after, limit)).await
    }

    async fn since(&self, room: &RoomName, seq: u64, max: usize) -> Result<Slice, Error> {
        with_deadline(deadline_now(), self.read_slice(room, seq, max)).await
    }

    async fn head(&self, room: &RoomName) -> Result<RoomHead, Error> {
        with_deadline(deadline_now(), self.head_of(room)).await
    }

    async fn first(&self, room: &RoomName) -> Result<u64, Error> {
        with_deadline(deadline_now(), self.first_of(room)).await
    }

    async fn trim(&self, room: &RoomName, keep: u64, oldest: Timestamp) -> Result<(), Error> {
        with_deadline(deadline_now(), self.delete_old(room, keep, oldest)).await
    }

    async fn is_empty(&self) -> Result<bool, Error> {
        Ok(!self.has_any(deadline_now()).await?)
    }
}

/// Reads the rows that fit into one answer (at least one, at most `limit`). Also returns whether there are more rows.
async fn read_fitting(
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
        messages.push(row.into_stored(room)?);
    }
    Ok((messages, false))
}
