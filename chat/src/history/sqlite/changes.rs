//! The changes that a client has missed, from the change log of rooms.

use proto::{
    RoomName,
    event::{Change, Item, MemberState},
};
use rusqlite::{Connection, OptionalExtension, params};

use crate::{
    column::{integer, number},
    config,
    directory::{
        Member, RoomRecord,
        change::Part,
        sqlite::{
            change_log::{COLUMNS, ChangedPart, changed_part},
            find,
        },
    },
    history::{MissedBy, MissedChange},
};

/// The bytes of an item as it is sent, approximately: two names and the names of the fields.
const ITEM_BYTES: usize = 256;

/// The approximate size of a change as it is sent.
pub fn weight(missed: &MissedChange) -> usize {
    missed.change.items.len() * ITEM_BYTES
}

/// The changes after the offset `after`, in the order of the log. `None` when they are more than [`config::RECOVERY`], or when a membership of the client has
/// begun or ended since its rooms were read: the change is before the offset that the client recovers to, so it is not delivered live.
pub fn missed(
    conn: &Connection,
    client: MissedBy<'_>,
    after: u64,
) -> rusqlite::Result<Option<Vec<(u64, MissedChange)>>> {
    let query =
        format!("SELECT {COLUMNS} FROM changes WHERE \"offset\" > ? ORDER BY \"offset\", type DESC, key");
    let mut changes: Vec<(u64, MissedChange)> = Vec::new();
    let mut records: Vec<RoomRecord> = Vec::new();
    let (mut statement, mut items) = (conn.prepare_cached(&query)?, 0);
    let mut rows = statement.query(params![integer(after)])?;
    while let Some(row) = rows.next()? {
        let (Some(changed), name): (_, String) = (changed_part(row)?, row.get(5)?) else { continue };
        let room = client.rooms.iter().find(|room| room.as_str() == name);
        let item = match room {
            Some(room) => {
                let Some(record) = record_of(conn, &mut records, room)? else { return Ok(None) };
                Some(changed.part.present(record))
            }
            None => ended(conn, client, &name, &changed)?,
        };
        let Some(item) = item else { continue };
        let Ok(room) = RoomName::try_from(name) else { continue };
        if has_other_membership(conn, client, &room, &item)? {
            return Ok(None);
        }
        let membership = match &item {
            Item::Member { member, .. } if changed.since > after => Some(member.clone()),
            Item::Room { settings: None, .. } => {
                Some(MemberState { username: client.user.clone(), role: None })
            }
            _ => None,
        };
        items += 1;
        match changes.last_mut() {
            Some((_, last)) if last.change.room == room && last.change.rev == changed.rev => {
                last.change.items.push(item);
                last.memberships.extend(membership);
            }
            _ => {
                let previous = previous_rev(conn, &room, &changed, after, &changes)?;
                let change = Change { room, rev: changed.rev, after: previous, items: vec![item] };
                let memberships = membership.into_iter().collect();
                let missed = MissedChange { change, memberships, is_last: true };
                changes.push((changed.offset, missed));
            }
        }
        if items > config::RECOVERY {
            return Ok(None);
        }
    }
    Ok(Some(changes))
}

/// A room that the client was in. `None` when it has ended. `records` are the rooms that were read before.
fn record_of<'a>(
    conn: &Connection,
    records: &'a mut Vec<RoomRecord>,
    room: &RoomName,
) -> rusqlite::Result<Option<&'a RoomRecord>> {
    if !records.iter().any(|record| record.room_info.name == *room) {
        records.extend(find(conn, room)?);
    }
    Ok(records.iter().find(|record| record.room_info.name == *room))
}

/// Whether `item` is about the client's own membership, and the membership is not what it was when the client's rooms were read.
fn has_other_membership(
    conn: &Connection,
    client: MissedBy<'_>,
    room: &RoomName,
    item: &Item,
) -> rusqlite::Result<bool> {
    let Some(member) = item.member_named(client.user) else { return Ok(false) };
    if client.rooms.contains(room) {
        return Ok(member.role.is_none());
    }
    let is_user = |member: &Member| member.username.key() == client.user.key();
    Ok(find(conn, room)?.is_some_and(|record| record.members.iter().any(is_user)))
}

/// The item by which the client's own membership of a room has ended. `None` for other changes.
fn ended(
    conn: &Connection,
    client: MissedBy<'_>,
    room: &str,
    changed: &ChangedPart,
) -> rusqlite::Result<Option<Item>> {
    match &changed.part {
        Part::Member(user) if user.key() == client.user.key() => Ok(Some(Item::Member {
            member: MemberState { username: client.user.clone(), role: None },
            by: None,
        })),
        Part::Room => {
            let query = "SELECT 1 FROM rooms JOIN members ON room = name WHERE name = ? AND archived = 1 AND user = ?";
            let keys = params![room, client.user.as_str()];
            let is_member = conn.prepare_cached(query)?.query_row(keys, |_| Ok(())).optional()?.is_some();
            Ok(is_member.then_some(Item::Room { settings: None, by: None }))
        }
        _ => Ok(None),
    }
}

/// The number of the room's last recorded change before `changed`: of the previous one in `changes`, or of the last one that the client
/// has not missed.
fn previous_rev(
    conn: &Connection,
    room: &RoomName,
    changed: &ChangedPart,
    after: u64,
    changes: &[(u64, MissedChange)],
) -> rusqlite::Result<u64> {
    if let Some((_, last)) = changes.iter().rev().find(|(_, missed)| missed.change.room == *room) {
        return Ok(last.change.rev);
    }
    let query = "SELECT coalesce(max(rev), 0) FROM changes WHERE room = ? AND rev < ? AND \"offset\" <= ?";
    let keys = params![room.as_str(), integer(changed.rev), integer(after)];
    conn.prepare_cached(query)?.query_row(keys, |row| number(row, 0))
}
