//! The jobs of the writer thread that create and change rooms. A request is decided on the stored state, written, and recorded in the
//! change log.

use proto::{RoomName, Username, event::Settings};
use rusqlite::{Connection, params};

use super::{
    change_log, find,
    limits::{check_adder_limit, check_own_limit, delete_departure, store_departure},
    other_settings,
};
use crate::{
    Error,
    directory::{
        Decision, DepartureChange, Limits, Member, MemberChange, NewRoom, Request, RoomChange, RoomInfo,
        RoomRecord, refusal,
    },
};

/// The result of a job, besides SQLite's own errors: the change, if there is one, together with the answer, or the refusal.
pub type Job<T> = rusqlite::Result<Result<(Option<RoomChange>, T), Error>>;

/// Creates a room.
pub fn create(conn: &Connection, room: NewRoom, limit: usize) -> Job<RoomInfo> {
    if let Some(refused) = check_own_limit(conn, &room.owner, limit)? {
        return Ok(Err(refused));
    }
    let insert = "INSERT INTO rooms (name, private, ephemeral, settings) VALUES (?1, ?2, ?3, ?4)
                  ON CONFLICT DO NOTHING";
    let Settings { private, ephemeral, .. } = room.settings;
    let values = params![room.name.as_str(), private, ephemeral, other_settings(&room.settings)];
    let is_new = conn.prepare_cached(insert)?.execute(values)? > 0;
    if !is_new {
        return Ok(Err(refusal::taken()));
    }
    let decision = Decision::creation(&room);
    let change = write(conn, &decision)?;
    Ok(Ok((Some(change), decision.room_info)))
}

/// Changes a room by a request, if the limits allow it. Returns the room after the change, as
/// [`Directory::change`](crate::directory::Directory::change).
pub fn change(
    conn: &Connection,
    room: &RoomName,
    request: &Request,
    limits: Limits,
) -> Job<Option<RoomRecord>> {
    let Some(record) = find(conn, room)? else { return Ok(Err(Error::NotFound)) };
    let decision = match request.decide(&record) {
        Ok(Some(decision)) => decision,
        Ok(None) => return Ok(Ok((None, Some(record)))),
        Err(refused) => return Ok(Err(refused)),
    };
    let refused = match request {
        Request::Join { user } => check_own_limit(conn, user, limits.rooms_per_user)?,
        Request::Add { by, .. } => check_adder_limit(conn, by, limits.additions_per_user)?,
        _ => None,
    };
    if let Some(refused) = refused {
        return Ok(Err(refused));
    }
    let change = write(conn, &decision)?;
    let rev = change.rev;
    Ok(Ok((Some(change), decision.record(rev))))
}

/// Writes what was decided, and records it in the change log.
fn write(conn: &Connection, decision: &Decision) -> rusqlite::Result<RoomChange> {
    let room = &decision.room_info.name;
    match &decision.departure {
        None => (),
        Some(DepartureChange::Clear(user)) => delete_departure(conn, room, user)?,
        Some(DepartureChange::Record(departure)) => store_departure(conn, room, departure)?,
    }
    decision.members.iter().try_for_each(|member| write_member(conn, room, member))?;
    if decision.settings.is_some() {
        let settings = &decision.room_info.settings;
        let update = "UPDATE rooms SET private = ?2, ephemeral = ?3, settings = ?4 WHERE name = ?1";
        let values = params![room.as_str(), settings.private, settings.ephemeral, other_settings(settings)];
        conn.prepare_cached(update)?.execute(values)?;
    }
    if decision.ends {
        conn.prepare_cached("UPDATE rooms SET archived = 1 WHERE name = ?")?.execute([room.as_str()])?;
    }
    change_log::record(conn, decision)
}

fn write_member(conn: &Connection, room: &RoomName, change: &MemberChange) -> rusqlite::Result<()> {
    let room = room.as_str();
    match change {
        MemberChange::Joined(Member { username, role, added_by }) => {
            let insert = "INSERT INTO members (room, user, owner, added_by) VALUES (?1, ?2, ?3, ?4)";
            let adder = added_by.as_ref().map(Username::as_str);
            let values = params![room, username.as_str(), role.number(), adder];
            conn.prepare_cached(insert)?.execute(values)?;
        }
        MemberChange::Role(member) => {
            let update = "UPDATE members SET owner = ?3 WHERE room = ?1 AND user = ?2";
            let values = params![room, member.username.as_str(), member.role.number()];
            conn.prepare_cached(update)?.execute(values)?;
        }
        MemberChange::Left(user) => {
            let delete = "DELETE FROM members WHERE room = ? AND user = ?";
            conn.prepare_cached(delete)?.execute(params![room, user.as_str()])?;
        }
    }
    Ok(())
}
