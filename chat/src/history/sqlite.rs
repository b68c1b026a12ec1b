//! [`History`] in the embedded SQLite file. The rows of `messages` are also the log: their primary key is the offset, and the order of
//! commits is the order of the log. [`journal`] reads it.

mod changes;
mod journal;

use std::sync::Arc;

use async_trait::async_trait;
use embedded::Database;
use proto::{
    RoomName, Timestamp,
    event::{Body, Message, Page},
};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Appended, Committed, Draft, History, Outcome, RoomHead, Slice, StoredMessage, weight};
use crate::{
    Error,
    column::{integer, number},
    config,
};

/// The columns that [`message`] reads.
const COLUMNS: &str = "id, seq, author, text, timestamp";

/// The messages of `chat.sqlite3`.
#[derive(Clone)]
pub struct SqliteHistory {
    database: Database,
}

impl SqliteHistory {
    /// A history in the database of a [`SqliteStore`](crate::sqlite_store::SqliteStore).
    pub fn new(database: Database) -> Self {
        Self { database }
    }
}

#[async_trait]
impl History for SqliteHistory {
    async fn append(
        &self,
        room: &RoomName,
        head: u64,
        drafts: Arc<[Draft]>,
        committed: Committed,
    ) -> Result<Appended, Error> {
        let room = room.clone();
        let job = move |conn: &Connection| append(conn, &room, head, &drafts);
        let on_commit = move |result: &Result<Appended, Error>| {
            if let Ok(appended) = result {
                committed(appended);
            }
        };
        self.database.write_then(job, on_commit).await?
    }

    async fn page(
        &self,
        room: &RoomName,
        before: Option<u64>,
        after: Option<u64>,
        limit: u32,
    ) -> Result<Page, Error> {
        let room = room.clone();
        Ok(self.database.read(move |conn| page(conn, &room, before, after, limit)).await?)
    }

    async fn since(&self, room: &RoomName, seq: u64, max: usize) -> Result<Slice, Error> {
        let room = room.clone();
        Ok(self.database.read(move |conn| since(conn, &room, seq, max)).await?)
    }

    async fn head(&self, room: &RoomName) -> Result<RoomHead, Error> {
        let room = room.clone();
        Ok(self.database.read(move |conn| head_of(conn, &room)).await?)
    }

    async fn first(&self, room: &RoomName) -> Result<u64, Error> {
        let room = room.clone();
        Ok(self.database.read(move |conn| first_of(conn, &room)).await?)
    }

    async fn trim(&self, room: &RoomName, keep: u64, oldest: Timestamp) -> Result<(), Error> {
        let room = room.clone();
        Ok(self.database.write(move |conn| trim(conn, &room, keep, oldest)).await?)
    }

    async fn is_empty(&self) -> Result<bool, Error> {
        Ok(self.database.read(journal::last_offset).await? == 0)
    }
}

/// Numbers and inserts a batch, unless the room has ended or its head is not at `head`. The unique keys enforce both the numbers and the
/// client ids, should a check fail.
fn append(
    conn: &Connection,
    room: &RoomName,
    head: u64,
    drafts: &[Draft],
) -> rusqlite::Result<Result<Appended, Error>> {
    let ended = "SELECT EXISTS (SELECT 1 FROM rooms WHERE name = ? AND archived = 1)";
    if conn.prepare_cached(ended)?.query_row([room.as_str()], |row| row.get(0))? {
        return Ok(Err(Error::NotFound));
    }
    let mut stored = head_of(conn, room)?;
    if stored.seq != head {
        return Ok(Err(Error::Fenced { head: stored }));
    }
    let (mut outcomes, now) = (Vec::with_capacity(drafts.len()), Timestamp::now());
    for draft in drafts {
        if let Some(first) = find_resend(conn, room, draft)? {
            outcomes.push(first);
            continue;
        }
        let timestamp = draft.timestamp.after(stored.timestamp, now);
        stored = RoomHead { seq: stored.seq + 1, timestamp };
        outcomes.push(Outcome::Stored { seq: stored.seq, offset: Some(insert(conn, room, stored, draft)?) });
    }
    Ok(Ok(Appended { outcomes, head: stored }))
}

/// The result of a draft whose author has used its `client_id` before. `None` when it is new.
fn find_resend(conn: &Connection, room: &RoomName, draft: &Draft) -> rusqlite::Result<Option<Outcome>> {
    let Some(client_id) = &draft.client_id else { return Ok(None) };
    let query = "SELECT id, seq, text FROM messages WHERE room = ?1 AND author = ?2 AND client_id = ?3";
    let keys = params![room.as_str(), draft.author.as_str(), client_id.as_str()];
    conn.prepare_cached(query)?
        .query_row(keys, |row| {
            let same = row.get_ref(2)?.as_str()? == draft.text.as_str();
            let first = Outcome::Duplicate { id: row.get(0)?, seq: number(row, 1)? };
            Ok(if same { first } else { Outcome::Conflict })
        })
        .optional()
}

fn insert(conn: &Connection, room: &RoomName, at: RoomHead, draft: &Draft) -> rusqlite::Result<u64> {
    let insert = "INSERT INTO messages (room, seq, id, author, client_id, text, timestamp, origin)
                  VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) RETURNING \"offset\"";
    let values = params![
        room.as_str(),
        integer(at.seq),
        draft.id,
        draft.author.as_str(),
        draft.client_id.as_ref().map(|id| id.as_str()),
        draft.text.as_str(),
        integer(at.timestamp.0),
        draft.origin.as_deref(),
    ];
    conn.prepare_cached(insert)?.query_row(values, |row| number(row, 0))
}

fn head_of(conn: &Connection, room: &RoomName) -> rusqlite::Result<RoomHead> {
    let query = "SELECT seq, timestamp FROM messages WHERE room = ?1 ORDER BY seq DESC LIMIT 1";
    let head = |row: &Row<'_>| Ok(RoomHead { seq: number(row, 0)?, timestamp: Timestamp(number(row, 1)?) });
    Ok(conn.prepare_cached(query)?.query_row([room.as_str()], head).optional()?.unwrap_or_default())
}

fn first_of(conn: &Connection, room: &RoomName) -> rusqlite::Result<u64> {
    let query = "SELECT seq FROM messages WHERE room = ?1 ORDER BY seq LIMIT 1";
    let first = conn.prepare_cached(query)?.query_row([room.as_str()], |row| number(row, 0));
    match first.optional()? {
        Some(first) => Ok(first),
        None => Ok(head_of(conn, room)?.seq + 1),
    }
}

fn page(
    conn: &Connection,
    room: &RoomName,
    before: Option<u64>,
    after: Option<u64>,
    limit: u32,
) -> rusqlite::Result<Page> {
    let query = &format!(
        "SELECT {COLUMNS}, origin FROM messages WHERE room = ?1 AND seq < ?2 AND seq > ?3 ORDER BY seq DESC LIMIT ?4"
    );
    let (before, after) = (before.map_or(i64::MAX, integer), integer(after.unwrap_or(0)));
    // One row more than requested shows whether there is a next page.
    let keys = params![room.as_str(), before, after, i64::from(limit) + 1];
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let (stored, has_more) = read_fitting(conn.prepare_cached(query)?.query(keys)?, room, limit)?;
    let messages: Vec<Message> = stored.into_iter().map(|stored| stored.message).collect();
    let next = messages.last().filter(|_| has_more).map(|last| last.seq);
    Ok(Page { messages, next })
}

fn since(conn: &Connection, room: &RoomName, seq: u64, max: usize) -> rusqlite::Result<Slice> {
    // The messages and the head are read in one transaction. A later head would include messages that the slice lacks.
    let query =
        &format!("SELECT {COLUMNS}, origin FROM messages WHERE room = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3");
    let keys = params![room.as_str(), integer(seq), i64::try_from(max).unwrap_or(i64::MAX)];
    let (messages, _) = read_fitting(conn.prepare_cached(query)?.query(keys)?, room, max)?;
    Ok(Slice { messages, head: head_of(conn, room)?.seq })
}

fn trim(conn: &Connection, room: &RoomName, keep: u64, oldest: Timestamp) -> rusqlite::Result<()> {
    let head = head_of(conn, room)?.seq;
    let deleted = "room = ?1 AND seq < ?2 AND (seq <= ?3 OR timestamp < ?4)";
    let last_deleted = head.saturating_sub(keep);
    let keys = params![room.as_str(), integer(head), integer(last_deleted), integer(oldest.0)];
    let update = format!(
        "UPDATE rooms SET trimmed = max(trimmed, (SELECT coalesce(max(\"offset\"), 0) FROM messages WHERE {deleted}))
         WHERE name = ?1"
    );
    conn.prepare_cached(&update)?.execute(keys)?;
    conn.prepare_cached(&format!("DELETE FROM messages WHERE {deleted}"))?.execute(keys)?;
    Ok(())
}

/// Reads the rows that fit into one answer (at least one, at most `limit`). Also returns whether there are more rows.
fn read_fitting(
    mut rows: rusqlite::Rows<'_>,
    room: &RoomName,
    limit: usize,
) -> rusqlite::Result<(Vec<StoredMessage>, bool)> {
    let (mut messages, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let message = message(row, room)?;
        bytes += weight(&message.data.text);
        if messages.len() == limit || (bytes > config::ANSWER_BYTES && !messages.is_empty()) {
            return Ok((messages, true));
        }
        messages.push(StoredMessage { message, origin: row.get(5)? });
    }
    Ok((messages, false))
}

/// A message from a query of [`COLUMNS`].
fn message(row: &Row<'_>, room: &RoomName) -> rusqlite::Result<Message> {
    let author: String = row.get(2)?;
    let from = author.try_into().map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(2, rusqlite::types::Type::Text, Box::new(error))
    })?;
    Ok(Message {
        id: row.get(0)?,
        room: room.clone(),
        seq: number(row, 1)?,
        from,
        data: Body { text: row.get(3)? },
        timestamp: Timestamp(number(row, 4)?),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tempfile::TempDir;

    use super::SqliteHistory;
    use crate::{
        history::{conformance, journal_conformance},
        sqlite_store::SqliteStore,
    };

    fn fresh() -> (SqliteHistory, TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&dir.path().join("chat.sqlite3")).unwrap();
        (store.messages(), dir)
    }

    #[actix_rt::test]
    async fn passes_the_history_conformance_suite() {
        conformance::run(|| {
            let (history, dir) = fresh();
            (Arc::new(history), dir)
        })
        .await;
    }

    #[actix_rt::test]
    async fn passes_the_journal_conformance_suite() {
        journal_conformance::run(fresh).await;
    }
}
