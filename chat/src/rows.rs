//! Checksums of rows of `rooms`, `members` and `departures`: the columns that they cover, and the errors of readers on a damaged row.
//! Called by the SQLite backends. The checksums of `messages`, `meta` and `tickets` are in the modules that read them.

use embedded::damaged_row;
use proto::RoomName;
use rusqlite::{Connection, OptionalExtension, Row};

/// SQL expression: whether the checksum of a row of `rooms` is wrong. Null for a row without a checksum.
pub const BAD_ROOM: &str = "rooms.sum <> row_sum(rooms.name, rooms.private, rooms.ephemeral, rooms.archived, rooms.trimmed, rooms.base, rooms.settings)";

/// A query whose value is whether the row with the last offset is missing, because another program has deleted it. Its number in the room
/// would be given to another message. A row stays until a later one replaces it, and the last message of a room is never trimmed. A new
/// epoch accepts the offset that was the last one then.
pub const IS_CUT: &str = "SELECT NOT (
        given = 0
        OR EXISTS (SELECT 1 FROM messages WHERE \"offset\" = given)
        OR EXISTS (SELECT 1 FROM changes WHERE \"offset\" = given)
        OR EXISTS (SELECT 1 FROM revs WHERE renewed = given)
        OR EXISTS (SELECT 1 FROM meta WHERE key = 'accepted' AND value = CAST(given AS TEXT)))
    FROM (SELECT coalesce(max(seq), 0) AS given FROM sqlite_sequence WHERE name = 'messages')";

/// SQL expression: whether the checksum of a row of `departures` is wrong.
pub const BAD_DEPARTURE: &str =
    "departures.sum <> row_sum(departures.room, departures.user, departures.adder, departures.at)";

/// SQL expression: whether the checksum of a row of `changes` is wrong.
pub const BAD_CHANGE: &str = "changes.sum <> row_sum(changes.room, changes.type, changes.key, changes.rev, changes.\"offset\", changes.since)";

/// SQL expression: whether the checksum of a row of `members` is wrong. `alias` is the table's alias in the query.
pub fn bad_member(alias: &str) -> String {
    let columns = ["room", "user", "owner", "added_by"].map(|column| format!("{alias}.{column}")).join(", ");
    format!("{alias}.sum <> row_sum({columns})")
}

/// Fails if `column` of the row, which is the value of one of the expressions above, is true. `what` names the row in the error.
pub fn refuse_bad(row: &Row<'_>, column: usize, what: impl FnOnce() -> String) -> rusqlite::Result<()> {
    match row.get::<_, Option<bool>>(column)? {
        Some(true) => Err(damaged_row(&what())),
        _ => Ok(()),
    }
}

/// Fails if the checksum of the room's row is wrong. Called before every change of the row, so that the new checksum does not cover damage.
pub fn refuse_bad_room(conn: &Connection, room: &RoomName) -> rusqlite::Result<()> {
    // The checksum is computed with the requested name, not with the name in the row.
    let query = "SELECT sum <> row_sum(?1, private, ephemeral, archived, trimmed, base, settings) FROM rooms WHERE name = ?1";
    let row = |row: &Row<'_>| refuse_bad(row, 0, || format!("the room {room}"));
    conn.prepare_cached(query)?.query_row([room.as_str()], row).optional().map(drop)
}

/// Updates the checksum of the room's row. Called after every change of the row.
pub fn seal_room(conn: &Connection, room: &RoomName) -> rusqlite::Result<()> {
    let update = "UPDATE rooms SET sum = row_sum(name, private, ephemeral, archived, trimmed, base, settings) WHERE name = ?";
    conn.prepare_cached(update)?.execute([room.as_str()]).map(drop)
}

/// Fails if members or messages refer to `room`, whose row was missing. The name in its row is damaged then, and must not be given to
/// another owner, who could read the messages.
pub fn refuse_orphans(conn: &Connection, room: &RoomName) -> rusqlite::Result<()> {
    let query = "SELECT EXISTS (SELECT 1 FROM members WHERE room = ?1) OR EXISTS (SELECT 1 FROM messages WHERE room = ?1)";
    match conn.prepare_cached(query)?.query_row([room.as_str()], |row| row.get(0))? {
        true => Err(damaged_row(&format!("the room {room}"))),
        false => Ok(()),
    }
}

/// Fails if the row with the last offset was deleted by another program. Called before an offset is given: the number of a deleted message
/// would be given to another one.
pub fn refuse_cut(conn: &Connection) -> rusqlite::Result<()> {
    match conn.prepare_cached(IS_CUT)?.query_row([], |row| row.get(0))? {
        true => Err(embedded::damage(
            "another program has deleted the newest rows; restart the server, which begins a new log, or restore a backup".to_owned(),
        )),
        false => Ok(()),
    }
}

/// Fails unless `found` is the next message number after `after` in the room. Numbers may be missing in ephemeral and trimmed rooms. A room
/// that reuses the name of an earlier one starts after the numbers of that room.
pub fn refuse_gap(conn: &Connection, room: &RoomName, after: u64, found: u64) -> rusqlite::Result<()> {
    if found == after.saturating_add(1) {
        return Ok(());
    }
    let query = "SELECT ephemeral OR trimmed > 0, base FROM rooms WHERE name = ?";
    let columns = |row: &Row<'_>| Ok((row.get::<_, bool>(0)?, row.get::<_, i64>(1)?));
    let (may_have_gaps, base) =
        conn.prepare_cached(query)?.query_row([room.as_str()], columns).optional()?.unwrap_or((true, 0));
    let is_first = u64::try_from(base).is_ok_and(|base| base > after && found == base.saturating_add(1));
    match may_have_gaps || is_first {
        true => Ok(()),
        false => Err(damaged_row(&format!("a message of the room {room} between {after} and {found}"))),
    }
}
