//! [`History`] in the embedded SQLite file: the rows of `messages` are the log, their primary key is the offset, and commit
//! order is the order of everything.

use std::sync::Arc;

use async_trait::async_trait;
use embedded::Database;
use proto::{
    RoomName, Timestamp,
    event::{Body, Message, Page},
};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Appended, Committed, Draft, Head, History, Missed, Outcome, Slice, weight};
use crate::{
    Error,
    column::{integer, number},
    config,
};

/// The messages of `chat.sqlite3`.
#[derive(Clone)]
pub struct SqliteHistory {
    database: Database,
}

impl SqliteHistory {
    /// On a database that was opened with [`crate::store::MIGRATIONS`].
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
        let after = move |result: &Result<Appended, Head>| {
            if let Ok(appended) = result {
                committed(appended);
            }
        };
        self.database.write_then(job, after).await?.map_err(|head| Error::Fenced { head })
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

    async fn head(&self, room: &RoomName) -> Result<Head, Error> {
        let room = room.clone();
        Ok(self.database.read(move |conn| head_of(conn, &room)).await?)
    }

    async fn missed(&self, rooms: &[RoomName], after: u64, origin: &str) -> Result<Option<Missed>, Error> {
        let (rooms, origin) = (rooms.to_vec(), origin.to_owned());
        Ok(self.database.read(move |conn| missed(conn, &rooms, after, &origin)).await?)
    }

    async fn trim(&self, room: &RoomName, keep: u64, oldest: Timestamp) -> Result<(), Error> {
        let room = room.clone();
        Ok(self.database.write(move |conn| trim(conn, &room, keep, oldest)).await?)
    }

    async fn offset(&self) -> Result<u64, Error> {
        Ok(self.database.read(last_offset).await?)
    }

    async fn epoch(&self) -> Result<String, Error> {
        let query = "SELECT value FROM meta WHERE key = 'epoch'";
        Ok(self.database.read(move |conn| conn.query_row(query, [], |row| row.get(0))).await?)
    }
}

/// Numbers and inserts a batch, or answers with the head that it did not expect. The unique keys stand behind both checks.
fn append(
    conn: &Connection,
    room: &RoomName,
    head: u64,
    drafts: &[Draft],
) -> rusqlite::Result<Result<Appended, Head>> {
    let mut stored = head_of(conn, room)?;
    if stored.seq != head {
        return Ok(Err(stored));
    }
    let mut outcomes = Vec::with_capacity(drafts.len());
    for draft in drafts {
        if let Some(first) = first_of(conn, room, draft)? {
            outcomes.push(first);
            continue;
        }
        stored = Head { seq: stored.seq + 1, timestamp: draft.timestamp.max(stored.timestamp) };
        outcomes.push(Outcome::Stored { seq: stored.seq, offset: insert(conn, room, stored, draft)? });
    }
    Ok(Ok(Appended { outcomes, head: stored }))
}

/// What the author has said under this draft's `client_id` before.
fn first_of(conn: &Connection, room: &RoomName, draft: &Draft) -> rusqlite::Result<Option<Outcome>> {
    let Some(client_id) = &draft.client_id else { return Ok(None) };
    let query = "SELECT id, seq, text FROM messages WHERE room = ? AND author = ? AND client_id = ?";
    let keys = params![room.as_str(), draft.author.as_str(), client_id.as_str()];
    conn.prepare_cached(query)?
        .query_row(keys, |row| {
            let same = row.get_ref(2)?.as_str()? == draft.text.as_str();
            let first = Outcome::Duplicate { id: row.get(0)?, seq: number(row, 1)? };
            Ok(if same { first } else { Outcome::Conflict })
        })
        .optional()
}

fn insert(conn: &Connection, room: &RoomName, at: Head, draft: &Draft) -> rusqlite::Result<u64> {
    let insert = "INSERT INTO messages (room, seq, id, author, client_id, text, timestamp, origin)
                  VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING \"offset\"";
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

fn head_of(conn: &Connection, room: &RoomName) -> rusqlite::Result<Head> {
    let query = "SELECT seq, timestamp FROM messages WHERE room = ? ORDER BY seq DESC LIMIT 1";
    let head = conn
        .prepare_cached(query)?
        .query_row([room.as_str()], |row| {
            Ok(Head { seq: number(row, 0)?, timestamp: Timestamp(number(row, 1)?) })
        })
        .optional()?;
    Ok(head.unwrap_or_default())
}

fn page(
    conn: &Connection,
    room: &RoomName,
    before: Option<u64>,
    after: Option<u64>,
    limit: u32,
) -> rusqlite::Result<Page> {
    let query = "SELECT id, seq, author, text, timestamp FROM messages
                 WHERE room = ? AND seq < ? AND seq > ? ORDER BY seq DESC LIMIT ?";
    let (before, after) = (before.map_or(i64::MAX, integer), integer(after.unwrap_or(0)));
    // One more than asked for tells whether there is a next page.
    let keys = params![room.as_str(), before, after, i64::from(limit) + 1];
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let (messages, more) = fitting(conn.prepare_cached(query)?.query(keys)?, room, limit)?;
    let next = messages.last().filter(|_| more).map(|last| last.seq);
    Ok(Page { messages, next })
}

fn since(conn: &Connection, room: &RoomName, seq: u64, max: usize) -> rusqlite::Result<Slice> {
    // A read sees one state: a head from after the messages would promise what they lack.
    let query = "SELECT id, seq, author, text, timestamp FROM messages
                 WHERE room = ? AND seq > ? ORDER BY seq LIMIT ?";
    let keys = params![room.as_str(), integer(seq), i64::try_from(max).unwrap_or(i64::MAX)];
    let (messages, _) = fitting(conn.prepare_cached(query)?.query(keys)?, room, max)?;
    Ok(Slice { messages, head: head_of(conn, room)?.seq })
}

fn trim(conn: &Connection, room: &RoomName, keep: u64, oldest: Timestamp) -> rusqlite::Result<()> {
    let head = head_of(conn, room)?.seq;
    let which = "room = ?1 AND seq < ?2 AND (seq <= ?3 OR timestamp < ?4)";
    let last_gone = head.saturating_sub(keep);
    let keys = params![room.as_str(), integer(head), integer(last_gone), integer(oldest.0)];
    let note = format!(
        "UPDATE rooms SET trimmed = max(trimmed, (SELECT coalesce(max(\"offset\"), 0) FROM messages WHERE {which}))
         WHERE name = ?1"
    );
    conn.prepare_cached(&note)?.execute(keys)?;
    conn.prepare_cached(&format!("DELETE FROM messages WHERE {which}"))?.execute(keys)?;
    Ok(())
}

fn last_offset(conn: &Connection) -> rusqlite::Result<u64> {
    let query = "SELECT seq FROM sqlite_sequence WHERE name = 'messages'";
    Ok(conn.query_row(query, [], |row| number(row, 0)).optional()?.unwrap_or(0))
}

fn missed(
    conn: &Connection,
    rooms: &[RoomName],
    after: u64,
    origin: &str,
) -> rusqlite::Result<Option<Missed>> {
    let reached = last_offset(conn)?;
    if after > reached || reached - after > config::RECOVERY_SCAN || is_trimmed(conn, rooms, after)? {
        return Ok(None);
    }
    let query = "SELECT id, seq, author, text, timestamp, room, \"offset\" FROM messages
                 WHERE \"offset\" > ? AND origin IS NOT ? ORDER BY \"offset\"";
    let (mut messages, mut bytes) = (Vec::new(), 0);
    let mut statement = conn.prepare_cached(query)?;
    let mut rows = statement.query(params![integer(after), origin])?;
    while let Some(row) = rows.next()? {
        let name = row.get_ref(5)?.as_str()?;
        let Some(room) = rooms.iter().find(|room| room.as_str() == name) else { continue };
        let message = message(row, room)?;
        bytes += weight(&message.data.text);
        if messages.len() == config::RECOVERY || bytes > config::RECOVERY_BYTES {
            return Ok(None);
        }
        messages.push((number(row, 6)?, message));
    }
    Ok(Some(Missed { messages, reached }))
}

/// Whether one of the rooms has forgotten something from after `after`.
fn is_trimmed(conn: &Connection, rooms: &[RoomName], after: u64) -> rusqlite::Result<bool> {
    let mut statement = conn.prepare_cached("SELECT trimmed FROM rooms WHERE name = ?")?;
    for room in rooms {
        let trimmed = statement.query_row([room.as_str()], |row| number(row, 0)).optional()?;
        if trimmed.unwrap_or(0) > after {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The rows that fit into one answer (always at least one), at most `limit`, and whether one was left.
fn fitting(
    mut rows: rusqlite::Rows<'_>,
    room: &RoomName,
    limit: usize,
) -> rusqlite::Result<(Vec<Message>, bool)> {
    let (mut messages, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let message = message(row, room)?;
        bytes += weight(&message.data.text);
        if messages.len() == limit || (bytes > config::ANSWER_BYTES && !messages.is_empty()) {
            return Ok((messages, true));
        }
        messages.push(message);
    }
    Ok((messages, false))
}

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
    use crate::{history::conformance, store::Store};

    #[actix_rt::test]
    async fn keeps_what_every_history_promises() {
        conformance::run(|| {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::open(&dir.path().join("chat.sqlite3")).unwrap();
            (store.history(), dir)
        })
        .await;
    }
}
