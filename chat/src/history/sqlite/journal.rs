//! [`Journal`] in the embedded SQLite file: the rows of `messages` and `changes` in the order of their offsets.

use async_trait::async_trait;
use proto::RoomName;
use rusqlite::{Connection, OptionalExtension, params};

use super::{COLUMNS, SqliteHistory, changes, message};
use crate::{
    Error,
    column::{integer, number},
    config,
    history::{Journal, Missed, MissedBy, weight},
};

#[async_trait]
impl Journal for SqliteHistory {
    async fn missed(&self, client: MissedBy<'_>, after: u64) -> Result<Option<Missed>, Error> {
        let (user, rooms, socket) = (client.user.clone(), client.rooms.to_vec(), client.socket.to_owned());
        let read = move |conn: &Connection| {
            missed(conn, MissedBy { user: &user, rooms: &rooms, socket: &socket }, after)
        };
        Ok(self.database.read(read).await?)
    }

    async fn offset(&self) -> Result<u64, Error> {
        Ok(self.database.read(last_offset).await?)
    }

    async fn epoch(&self) -> Result<String, Error> {
        let query = "SELECT value FROM meta WHERE key = 'epoch'";
        Ok(self.database.read(move |conn| conn.query_row(query, [], |row| row.get(0))).await?)
    }
}

/// The offset of the last change or message, even if the message was deleted since.
pub(super) fn last_offset(conn: &Connection) -> rusqlite::Result<u64> {
    let query = "SELECT seq FROM sqlite_sequence WHERE name = 'messages'";
    Ok(conn.prepare_cached(query)?.query_row([], |row| number(row, 0)).optional()?.unwrap_or(0))
}

fn missed(conn: &Connection, client: MissedBy<'_>, after: u64) -> rusqlite::Result<Option<Missed>> {
    let MissedBy { rooms, socket, .. } = client;
    let reached = last_offset(conn)?;
    if after > reached || reached - after > config::RECOVERY_SCAN || is_trimmed(conn, rooms, after)? {
        return Ok(None);
    }
    let query = format!(
        "SELECT {COLUMNS}, room, \"offset\" FROM messages WHERE \"offset\" > ? AND origin IS NOT ? ORDER BY \"offset\""
    );
    let Some(changes) = changes::missed(conn, client, after)? else { return Ok(None) };
    let mut bytes: usize = changes.iter().map(|(_, missed)| changes::weight(missed)).sum();
    let (mut messages, most) = (Vec::new(), config::RECOVERY.saturating_sub(changes.len()));
    let mut statement = conn.prepare_cached(&query)?;
    let mut rows = statement.query(params![integer(after), socket])?;
    while let Some(row) = rows.next()? {
        let name = row.get_ref(5)?.as_str()?;
        let Some(room) = rooms.iter().find(|room| room.as_str() == name) else { continue };
        let message = message(row, room)?;
        bytes += weight(&message.data.text);
        if messages.len() == most || bytes > config::RECOVERY_BYTES {
            return Ok(None);
        }
        messages.push((number(row, 6)?, message));
    }
    let is_too_long = messages.len() > most || bytes > config::RECOVERY_BYTES;
    Ok((!is_too_long).then_some(Missed { messages, changes, reached }))
}

/// Whether a message after the offset `after` was deleted in one of the rooms.
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
