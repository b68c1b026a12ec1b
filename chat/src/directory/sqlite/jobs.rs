//! The changes of rooms. Each function is a job of the writer thread: it checks the change against the stored state, writes it, and
//! records it in the change log.

use proto::{
    RoomName, Username,
    event::{Act, Settings, SettingsPatch},
};
use rusqlite::{Connection, params};

use super::{change_log, find, limits::check_own_limit, other_settings, renew::renew};
use crate::{
    Error,
    directory::{ChangeKind, Member, NewChange, NewRoom, Role, RoomChange, RoomInfo, RoomRecord},
    rows::{refuse_orphans, seal_room},
};

/// The result of a job, besides SQLite's own errors: the change, if there is one, together with the answer, or the refusal.
pub type Job<T> = rusqlite::Result<Result<(Option<RoomChange>, T), Error>>;

/// Creates a room, or takes the name of one that has ended.
pub fn create(conn: &Connection, room: NewRoom, limit: usize) -> Job<RoomInfo> {
    if let Some(refused) = check_own_limit(conn, &room.owner, limit)? {
        return Ok(Err(refused));
    }
    let insert = "INSERT INTO rooms (name, private, ephemeral, settings, sum)
                  VALUES (?1, ?2, ?3, ?4, row_sum(?1, ?2, ?3, 0, 0, 0, ?4)) ON CONFLICT DO NOTHING";
    let Settings { private, ephemeral, .. } = room.settings;
    let values = params![room.name.as_str(), private, ephemeral, other_settings(&room.settings)];
    let is_new = conn.prepare_cached(insert)?.execute(values)? > 0;
    if is_new {
        refuse_orphans(conn, &room.name)?;
    } else if let Some(refused) = renew(conn, &room)? {
        return Ok(Err(refused));
    }
    insert_member(conn, &room.name, &room.owner, Role::Owner, None)?;
    let (room_info, owner) = (room.room_info(), &room.owner);
    let members = [Member { username: owner.clone(), role: Role::Owner, added_by: None }];
    let what = if is_new { ChangeKind::Joined(owner.clone()) } else { ChangeKind::Renewed(owner.clone()) };
    let change = change_log::record(conn, NewChange::new(what, owner), &room_info, &members)?;
    Ok(Ok((Some(change), room_info)))
}

/// Makes `user` a member unless `check` returns a refusal. `by` is the user who adds, `None` when `user` joins.
pub fn add(
    conn: &Connection,
    room: &RoomName,
    user: &Username,
    by: Option<&Username>,
    check: impl FnOnce(&Connection) -> rusqlite::Result<Option<Error>>,
) -> Job<Vec<Member>> {
    let Some(record) = find(conn, room)? else { return Ok(Err(Error::NotFound)) };
    if !record.room_info.kind().lists_members() {
        return Ok(Ok((None, record.members)));
    }
    let allowed = by.map_or_else(|| record.check(user, Act::Enter), |by| record.check(by, Act::AddMember));
    if let Err(refused) = allowed {
        return Ok(Err(refused));
    }
    let RoomRecord { mut room_info, mut members, .. } = record;
    if members.iter().any(|member| member.username.key() == user.key()) {
        return Ok(Ok((None, members)));
    }
    if let Some(refused) = check(conn)? {
        return Ok(Err(refused));
    }
    if by.is_none() {
        let delete = "DELETE FROM departures WHERE room = ? AND user = ?";
        conn.prepare_cached(delete)?.execute(params![room.as_str(), user.as_str()])?;
    }
    let role = if members.is_empty() { Role::Owner } else { Role::Member };
    insert_member(conn, room, user, role, by)?;
    members.push(Member { username: user.clone(), role, added_by: by.cloned() });
    room_info.owner = owner_of(&members);
    let change = NewChange::new(ChangeKind::Joined(user.clone()), by.unwrap_or(user));
    let change = change_log::record(conn, change, &room_info, &members)?;
    Ok(Ok((Some(change), members)))
}

/// Ends a membership at the request of `by`, who must own the room. `None` when `user` leaves.
pub fn remove(
    conn: &Connection,
    room: &RoomName,
    user: &Username,
    by: Option<&Username>,
) -> Job<Vec<Member>> {
    let Some(record) = find(conn, room)? else { return Ok(Err(Error::NotFound)) };
    if !record.room_info.kind().lists_members() {
        return Ok(Ok((None, record.members)));
    }
    if let Some(by) = by
        && let Err(refused) = record.check(by, Act::RemoveMember)
    {
        return Ok(Err(refused));
    }
    let RoomRecord { mut room_info, mut members, .. } = record;
    let Some(index) = members.iter().position(|member| member.username.key() == user.key()) else {
        return Ok(Ok((None, members)));
    };
    let removed = members.remove(index);
    let mut change =
        NewChange::new(ChangeKind::Left(removed.username.clone()), by.unwrap_or(&removed.username));
    let keys = params![room.as_str(), user.as_str()];
    conn.prepare_cached("DELETE FROM members WHERE room = ? AND user = ?")?.execute(keys)?;
    match members.first_mut() {
        Some(successor) if removed.role == Role::Owner => {
            successor.role = Role::Owner;
            let update = "UPDATE members SET owner = ?3, sum = row_sum(room, user, ?3, added_by)
                          WHERE room = ?1 AND user = ?2";
            let values = params![room.as_str(), successor.username.as_str(), successor.role.number()];
            conn.prepare_cached(update)?.execute(values)?;
        }
        None if room_info.settings.private => {
            set_archived(conn, room)?;
            change.ends = true;
        }
        _ => (),
    }
    room_info.owner = owner_of(&members);
    change.successor = room_info.owner.as_ref().filter(|_| removed.role == Role::Owner);
    let change = change_log::record(conn, change.clone(), &room_info, &members)?;
    Ok(Ok((Some(change), members)))
}

/// Changes settings of a room at the request of `by`.
pub fn change_settings(conn: &Connection, room: &RoomName, by: &Username, patch: &SettingsPatch) -> Job<()> {
    let RoomRecord { mut room_info, members, .. } =
        match find_changeable(conn, room, by, Act::ChangeSettings)? {
            Ok(record) => record,
            Err(refused) => return Ok(Err(refused)),
        };
    if patch.is_empty() {
        return Ok(Ok((None, ())));
    }
    let settings = patch.applied_to(&room_info.settings);
    let update = "UPDATE rooms SET private = ?2, ephemeral = ?3, settings = ?4 WHERE name = ?1";
    let values = params![room.as_str(), settings.private, settings.ephemeral, other_settings(&settings)];
    conn.prepare_cached(update)?.execute(values)?;
    seal_room(conn, room)?;
    room_info.settings = settings;
    let change = NewChange::new(ChangeKind::Other, by);
    Ok(Ok((Some(change_log::record(conn, change, &room_info, &members)?), ())))
}

/// Archives a room at the request of its owner `by`.
pub fn archive(conn: &Connection, room: &RoomName, by: &Username) -> Job<()> {
    let RoomRecord { room_info, members, .. } = match find_changeable(conn, room, by, Act::Archive)? {
        Ok(record) => record,
        Err(refused) => return Ok(Err(refused)),
    };
    set_archived(conn, room)?;
    let change = NewChange::new(ChangeKind::Archived, by);
    Ok(Ok((Some(change_log::record(conn, change, &room_info, &members)?), ())))
}

/// The room, or the refusal if `by` may not do `act`. A built-in room is refused.
fn find_changeable(
    conn: &Connection,
    room: &RoomName,
    by: &Username,
    act: Act,
) -> rusqlite::Result<Result<RoomRecord, Error>> {
    let found = find(conn, room)?.filter(|found| !found.room_info.kind().is_built_in());
    let Some(found) = found else { return Ok(Err(Error::NotFound)) };
    Ok(found.check(by, act).map(|()| found))
}

fn set_archived(conn: &Connection, room: &RoomName) -> rusqlite::Result<()> {
    conn.prepare_cached("UPDATE rooms SET archived = 1 WHERE name = ?")?.execute([room.as_str()])?;
    seal_room(conn, room)
}

/// The owner among `members`.
pub fn owner_of(members: &[Member]) -> Option<Username> {
    members.iter().find(|member| member.role == Role::Owner).map(|member| member.username.clone())
}

fn insert_member(
    conn: &Connection,
    room: &RoomName,
    user: &Username,
    role: Role,
    by: Option<&Username>,
) -> rusqlite::Result<()> {
    let insert = "INSERT INTO members (room, user, owner, added_by, sum)
                  VALUES (?1, ?2, ?3, ?4, row_sum(?1, ?2, ?3, ?4))";
    let values = params![room.as_str(), user.as_str(), role.number(), by.map(Username::as_str)];
    conn.prepare_cached(insert)?.execute(values).map(drop)
}
