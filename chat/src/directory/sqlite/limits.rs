//! Limits on memberships: those that users create for themselves, and those that others create for them. Called inside the job
//! that inserts the member.

use proto::{RoomName, Timestamp, Username};
use rusqlite::{Connection, params};

use crate::{
    Error,
    column::{integer, name},
    directory::{Departure, oldest_departure, refusal},
};

/// The refusal when `user` may not create or join another room.
pub fn check_own_limit(conn: &Connection, user: &Username, limit: usize) -> rusqlite::Result<Option<Error>> {
    let own = count(
        conn,
        "members JOIN rooms ON name = room WHERE user = ? AND archived = 0 AND added_by IS NULL",
        [user.as_str()],
    )?;
    Ok((own >= limit).then(refusal::own_room_limit))
}

/// The refusal when `by` may not add another user to a room.
pub fn check_adder_limit(conn: &Connection, by: &Username, limit: usize) -> rusqlite::Result<Option<Error>> {
    let added =
        count(conn, "members JOIN rooms ON name = room WHERE archived = 0 AND added_by = ?", [by.as_str()])?;
    Ok((added >= limit).then(refusal::additions_limit))
}

/// The departures from a room that have not expired.
pub fn departures(conn: &Connection, room: &RoomName) -> rusqlite::Result<Vec<Departure>> {
    let query = "SELECT user, adder FROM departures WHERE room = ? AND at > ?";
    let keys = params![room.as_str(), integer(oldest_departure().0)];
    conn.prepare_cached(query)?
        .query_map(keys, |row| Ok(Departure { user: name(row, 0)?, adder: name(row, 1)? }))?
        .collect()
}

/// Stores a departure, and deletes expired ones.
pub fn store_departure(conn: &Connection, room: &RoomName, departure: &Departure) -> rusqlite::Result<()> {
    let delete = "DELETE FROM departures WHERE at <= ?";
    conn.prepare_cached(delete)?.execute([integer(oldest_departure().0)])?;
    let insert = "INSERT OR REPLACE INTO departures (room, user, adder, at) VALUES (?1, ?2, ?3, ?4)";
    let Departure { user, adder } = departure;
    let at = integer(Timestamp::now().0);
    conn.prepare_cached(insert)?.execute(params![room.as_str(), user.as_str(), adder.as_str(), at]).map(drop)
}

/// Deletes the record of a departure, because the user has joined the room themselves.
pub fn delete_departure(conn: &Connection, room: &RoomName, user: &Username) -> rusqlite::Result<()> {
    let delete = "DELETE FROM departures WHERE room = ? AND user = ?";
    conn.prepare_cached(delete)?.execute(params![room.as_str(), user.as_str()]).map(drop)
}

/// Counts the rows of `from`, the part of a query after `FROM`.
fn count(conn: &Connection, from: &str, keys: impl rusqlite::Params) -> rusqlite::Result<usize> {
    let query = format!("SELECT count(*) FROM {from}");
    let count: i64 = conn.prepare_cached(&query)?.query_row(keys, |row| row.get(0))?;
    Ok(usize::try_from(count).unwrap_or(usize::MAX))
}
