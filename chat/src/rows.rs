//! The checksums of the rows of `rooms`, `members`, `departures` and `meta`: which columns they protect, and what a reader does with
//! a row that is not what was written. Used by the SQLite backends. Rows of `messages` and `recovery_sessions` have theirs where they are
//! written.

use embedded::damaged_row;
use proto::RoomName;
use rusqlite::{Connection, OptionalExtension, Row};

/// Whether a row of `rooms` is not what was written. Null for a row without a checksum.
pub const BAD_ROOM: &str = "rooms.sum <> row_sum(rooms.name, rooms.private, rooms.ephemeral, rooms.archived, rooms.trimmed, rooms.base)";

/// The same for a row of `departures`.
pub const BAD_DEPARTURE: &str =
    "departures.sum <> row_sum(departures.room, departures.user, departures.adder, departures.at)";

/// The same for a row of `members` under an alias.
pub fn bad_member(alias: &str) -> String {
    let columns = ["room", "user", "owner", "added_by"].map(|column| format!("{alias}.{column}")).join(", ");
    format!("{alias}.sum <> row_sum({columns})")
}

/// Fails when the column of a row, one of the expressions above, is true.
pub fn refuse_bad(row: &Row<'_>, column: usize, what: impl FnOnce() -> String) -> rusqlite::Result<()> {
    match row.get::<_, Option<bool>>(column)? {
        Some(true) => Err(damaged_row(&what())),
        _ => Ok(()),
    }
}

/// Fails when the room's row is not what was written. Called before it is changed, so that a new checksum covers no damage.
pub fn refuse_bad_room(conn: &Connection, room: &RoomName) -> rusqlite::Result<()> {
    // The checksum is that of the name that was asked for.
    let query =
        "SELECT sum <> row_sum(?1, private, ephemeral, archived, trimmed, base) FROM rooms WHERE name = ?1";
    let row = |row: &Row<'_>| refuse_bad(row, 0, || format!("the room {room}"));
    conn.prepare_cached(query)?.query_row([room.as_str()], row).optional().map(drop)
}

/// Gives the room's row, which was just changed, its checksum.
pub fn seal_room(conn: &Connection, room: &RoomName) -> rusqlite::Result<()> {
    let update =
        "UPDATE rooms SET sum = row_sum(name, private, ephemeral, archived, trimmed, base) WHERE name = ?";
    conn.prepare_cached(update)?.execute([room.as_str()]).map(drop)
}

/// Fails when anything refers to a name that no room has: the room's own row cannot be found by its name, and the name must not
/// be given to another owner, who could read what was said.
pub fn refuse_orphans(conn: &Connection, room: &RoomName) -> rusqlite::Result<()> {
    let query = "SELECT EXISTS (SELECT 1 FROM members WHERE room = ?1) OR EXISTS (SELECT 1 FROM messages WHERE room = ?1)";
    match conn.prepare_cached(query)?.query_row([room.as_str()], |row| row.get(0))? {
        true => Err(damaged_row(&format!("the room {room}"))),
        false => Ok(()),
    }
}

/// Fails unless `found` is the number behind `after` in the room. Rooms that forget may lack numbers in between, and a room with the
/// name of an earlier one begins behind the numbers of that.
pub fn refuse_gap(conn: &Connection, room: &RoomName, after: u64, found: u64) -> rusqlite::Result<()> {
    if found == after.saturating_add(1) {
        return Ok(());
    }
    let query = "SELECT ephemeral OR trimmed > 0, base FROM rooms WHERE name = ?";
    let shape = |row: &Row<'_>| Ok((row.get::<_, bool>(0)?, row.get::<_, i64>(1)?));
    let (forgets, base) =
        conn.prepare_cached(query)?.query_row([room.as_str()], shape).optional()?.unwrap_or((true, 0));
    let begins = u64::try_from(base).is_ok_and(|base| base > after && found == base.saturating_add(1));
    match forgets || begins {
        true => Ok(()),
        false => Err(damaged_row(&format!("a message of the room {room} between {after} and {found}"))),
    }
}
