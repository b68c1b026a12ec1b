//! The change log of rooms: tables `revs` (the number of the last change of each room) and `changes` (the last change of each part of a
//! room). Called inside the jobs that change rooms, and by readers.

use proto::{RoomName, event::ItemType};
use rusqlite::{Connection, OptionalExtension, Row, params, types::Type};

use crate::{
    column::{integer, number},
    directory::{
        ChangesSince, Decision, MemberChange, RoomChange, RoomRecord,
        change::{Part, PresentState},
    },
    room_change::MAX_CHANGED,
};

/// A part of a room that has changed.
#[derive(Debug)]
pub struct ChangedPart {
    /// The number of its last change.
    pub rev: u64,
    /// The offset of its last change in the log.
    pub offset: u64,
    /// For a member: the offset at which the membership last began or ended.
    pub since: u64,
    /// The part.
    pub part: Part,
}

/// The columns that [`changed_part`] reads.
pub const COLUMNS: &str =
    "changes.type, changes.key, changes.rev, changes.\"offset\", changes.since, changes.room";

/// Numbers a change and records the changed parts. To be called in the transaction of the change.
pub fn record(conn: &Connection, decision: &Decision) -> rusqlite::Result<RoomChange> {
    let room = &decision.room_info.name;
    let (rev, offset) = (next_rev(conn, room)?, next_offset(conn)?);
    let change = decision.committed(rev, Some(offset));
    for item in &change.items {
        let part = Part::of(item);
        let (kind, key) = (part.kind(), part.name());
        let keeps_membership = |member: &MemberChange| matches!(member, MemberChange::Role(member) if member.username.as_str() == key);
        // The membership of a successor neither begins nor ends.
        let since = match decision.members.iter().any(keeps_membership) {
            true => since_of(conn, room, &key)?,
            false => offset,
        };
        let insert = "INSERT OR REPLACE INTO changes (room, type, key, rev, \"offset\", since)
                      VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let values = params![room.as_str(), kind.name(), key, integer(rev), integer(offset), integer(since)];
        conn.prepare_cached(insert)?.execute(values)?;
    }
    Ok(change)
}

/// The number of the last change of a room. Zero for a room that was never changed.
pub fn last_rev(conn: &Connection, room: &RoomName) -> rusqlite::Result<u64> {
    let query = "SELECT rev FROM revs WHERE room = ?1";
    let found = conn.prepare_cached(query)?.query_row([room.as_str()], |row| number(row, 0));
    Ok(found.optional()?.unwrap_or(0))
}

/// The parts of an existing room that have changed after `rev`.
pub fn since(
    conn: &Connection,
    record: &RoomRecord,
    rev: u64,
    types: &[ItemType],
) -> rusqlite::Result<ChangesSince> {
    let room = &record.room_info.name;
    let last = last_rev(conn, room)?;
    if rev > last {
        return Ok(ChangesSince::reset(last));
    }
    let query = format!(
        "SELECT {COLUMNS} FROM changes WHERE room = ? AND rev > ? ORDER BY rev, type DESC, key LIMIT ?"
    );
    let keys = params![room.as_str(), integer(rev), integer(MAX_CHANGED as u64 + 1)];
    let mut statement = conn.prepare_cached(&query)?;
    let parts = statement.query_map(keys, changed_part)?.collect::<rusqlite::Result<Vec<_>>>()?;
    if parts.len() > MAX_CHANGED {
        return Ok(ChangesSince::reset(last));
    }
    let present = PresentState::of(record);
    let parts = parts.into_iter().flatten().filter(|part| types.contains(&part.part.kind()));
    Ok(ChangesSince::page(last, parts.map(|part| (part.rev, present.item(&part.part))).collect()))
}

/// Reads a row of [`COLUMNS`]. `None` for a type that a later release stores.
pub fn changed_part(row: &Row<'_>) -> rusqlite::Result<Option<ChangedPart>> {
    let (kind, name): (String, String) = (row.get(0)?, row.get(1)?);
    let part = Part::stored(&kind, name)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(1, Type::Text, Box::new(error)))?;
    let (rev, offset, since) = (number(row, 2)?, number(row, 3)?, number(row, 4)?);
    Ok(part.map(|part| ChangedPart { rev, offset, since, part }))
}

fn next_rev(conn: &Connection, room: &RoomName) -> rusqlite::Result<u64> {
    let update = "INSERT INTO revs (room, rev) VALUES (?1, 1)
                  ON CONFLICT (room) DO UPDATE SET rev = rev + 1 RETURNING rev";
    conn.prepare_cached(update)?.query_row([room.as_str()], |row| number(row, 0))
}

/// Takes the next offset of the log, which messages and changes share.
fn next_offset(conn: &Connection) -> rusqlite::Result<u64> {
    let update = "UPDATE sqlite_sequence SET seq = seq + 1 WHERE name = 'messages' RETURNING seq";
    let next = conn.prepare_cached(update)?.query_row([], |row| number(row, 0)).optional()?;
    if let Some(next) = next {
        return Ok(next);
    }
    conn.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('messages', 1)", [])?;
    Ok(1)
}

/// The offset at which the membership of `user` began or ended, as far as it was recorded.
fn since_of(conn: &Connection, room: &RoomName, user: &str) -> rusqlite::Result<u64> {
    let query = format!("SELECT {COLUMNS} FROM changes WHERE room = ? AND type = 'member' AND key = ?");
    let found = conn.prepare_cached(&query)?.query_row([room.as_str(), user], changed_part).optional()?;
    Ok(found.flatten().map_or(0, |part| part.since))
}
