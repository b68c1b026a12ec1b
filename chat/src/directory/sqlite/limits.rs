//! Limits on memberships: those that users create for themselves, and those that others create for them. Called inside the job
//! that inserts the member.

use proto::{RoomName, Timestamp, Username};
use rusqlite::{Connection, params};

use crate::{
    Error,
    column::integer,
    directory::{Additions, DEPARTURES, oldest_departure, refusal},
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

/// The refusal when `by` may not add `user` to `room`.
pub fn check_addition(
    conn: &Connection,
    room: &RoomName,
    user: &Username,
    by: &Username,
    limits: Additions,
) -> rusqlite::Result<Option<Error>> {
    let (user_name, adder, oldest) = (user.as_str(), by.as_str(), integer(oldest_departure().0));
    let departed = "departures WHERE user = ? AND at > ? AND room = ?";
    if count(conn, departed, params![user_name, oldest, room.as_str()])? > 0 {
        return Ok(Some(refusal::left_room()));
    }
    let departed_from_adder = "departures WHERE user = ? AND at > ? AND adder = ?";
    if count(conn, departed_from_adder, params![user_name, oldest, adder])? >= DEPARTURES {
        return Ok(Some(refusal::left_several_rooms()));
    }
    let active_members = "members JOIN rooms ON name = room WHERE archived = 0 AND added_by";
    if count(conn, &format!("{active_members} IS NOT NULL AND user = ?"), [user_name])? >= limits.per_user {
        return Ok(Some(refusal::added_room_limit()));
    }
    Ok((count(conn, &format!("{active_members} = ?"), [adder])? >= limits.per_adder)
        .then(refusal::additions_limit))
}

/// Records that `user` has left a room to which `adder` had added them, and deletes expired departures.
pub fn store_departure(
    conn: &Connection,
    room: &RoomName,
    user: &Username,
    adder: &Username,
) -> rusqlite::Result<()> {
    let delete = "DELETE FROM departures WHERE at <= ?";
    conn.prepare_cached(delete)?.execute([integer(oldest_departure().0)])?;
    let insert = "INSERT OR REPLACE INTO departures (room, user, adder, at) VALUES (?1, ?2, ?3, ?4)";
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
