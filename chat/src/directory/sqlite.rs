//! [`Directory`] in the embedded SQLite file, tables `rooms`, `members` and `departures`. Every change is one job of the writer thread.

mod limits;
mod renew;

use async_trait::async_trait;
use embedded::Database;
use proto::{RoomName, Username};
use rusqlite::{Connection, OptionalExtension, Row, params, types::Type};

use self::{
    limits::{check_addition, check_own_limit, store_departure},
    renew::renew,
};
use super::{Additions, Committed, Directory, Member, NewRoom, Role, RoomInfo, RoomRecord};
use crate::{
    Error,
    rows::{BAD_ROOM, bad_member, refuse_bad, refuse_bad_room, refuse_orphans, seal_room},
};

/// The rooms and members of `chat.sqlite3`.
#[derive(Clone)]
pub struct SqliteDirectory {
    database: Database,
}

/// The result of a job, besides SQLite's own errors: whether anything changed together with the answer, or the refusal.
type Job<T> = rusqlite::Result<Result<(bool, T), Error>>;

impl SqliteDirectory {
    /// A directory in a database that was opened with [`crate::sqlite_store::MIGRATIONS`].
    pub fn new(database: Database) -> Self {
        Self { database }
    }

    /// Runs a job on the writer thread. `committed` runs after the commit if the job changed something.
    async fn change<T: Send + 'static>(
        &self,
        committed: Committed,
        job: impl FnOnce(&Connection) -> Job<T> + Send + 'static,
    ) -> Result<T, Error> {
        let run_committed = move |result: &Result<(bool, T), Error>| {
            if matches!(result, Ok((true, _))) {
                committed();
            }
        };
        self.database.write_then(job, run_committed).await?.map(|(_, answer)| answer)
    }
}

#[async_trait]
impl Directory for SqliteDirectory {
    async fn create(&self, room: NewRoom, limit: usize, committed: Committed) -> Result<RoomInfo, Error> {
        self.change(committed, move |conn| create(conn, room, limit)).await
    }

    async fn find(&self, room: &RoomName) -> Result<Option<RoomRecord>, Error> {
        let room = room.clone();
        Ok(self.database.read(move |conn| find(conn, &room)).await?)
    }

    async fn rooms_of(&self, user: &Username) -> Result<Vec<RoomInfo>, Error> {
        let user = user.clone();
        Ok(self.database.read(move |conn| rooms_of(conn, &user)).await?)
    }

    async fn add(
        &self,
        room: &RoomName,
        user: &Username,
        limit: usize,
        committed: Committed,
    ) -> Result<Vec<Member>, Error> {
        let (room, user) = (room.clone(), user.clone());
        self.change(committed, move |conn| {
            add(conn, &room, &user, None, |conn| check_own_limit(conn, &user, limit))
        })
        .await
    }

    async fn add_by(
        &self,
        room: &RoomName,
        user: &Username,
        by: &Username,
        limits: Additions,
        committed: Committed,
    ) -> Result<Vec<Member>, Error> {
        let (room, user, by) = (room.clone(), user.clone(), by.clone());
        self.change(committed, move |conn| {
            add(conn, &room, &user, Some(&by), |conn| check_addition(conn, &room, &user, &by, limits))
        })
        .await
    }

    async fn leave(
        &self,
        room: &RoomName,
        user: &Username,
        committed: Committed,
    ) -> Result<Vec<Member>, Error> {
        let (room, user) = (room.clone(), user.clone());
        self.change(committed, move |conn| {
            store_departure(conn, &room, &user)?;
            remove(conn, &room, &user, None)
        })
        .await
    }

    async fn remove(
        &self,
        room: &RoomName,
        user: &Username,
        by: &Username,
        committed: Committed,
    ) -> Result<Vec<Member>, Error> {
        let (room, user, by) = (room.clone(), user.clone(), by.clone());
        self.change(committed, move |conn| remove(conn, &room, &user, Some(&by))).await
    }

    async fn set_private(
        &self,
        room: &RoomName,
        by: &Username,
        private: bool,
        committed: Committed,
    ) -> Result<(), Error> {
        let (room, by) = (room.clone(), by.clone());
        self.change(committed, move |conn| update(conn, "private", private, (&room, &by))).await
    }

    async fn archive(&self, room: &RoomName, by: &Username, committed: Committed) -> Result<(), Error> {
        let (room, by) = (room.clone(), by.clone());
        self.change(committed, move |conn| update(conn, "archived", true, (&room, &by))).await
    }
}

fn create(conn: &Connection, room: NewRoom, limit: usize) -> Job<RoomInfo> {
    if let Some(refused) = check_own_limit(conn, &room.owner, limit)? {
        return Ok(Err(refused));
    }
    let insert = "INSERT INTO rooms (name, private, ephemeral, sum)
                  VALUES (?1, ?2, ?3, row_sum(?1, ?2, ?3, 0, 0, 0)) ON CONFLICT DO NOTHING";
    let values = params![room.name.as_str(), room.private, room.ephemeral];
    if conn.prepare_cached(insert)?.execute(values)? > 0 {
        refuse_orphans(conn, &room.name)?;
    } else if let Some(refused) = renew(conn, &room)? {
        return Ok(Err(refused));
    }
    insert_member(conn, &room.name, &room.owner, Role::Owner, None)?;
    Ok(Ok((true, room.room_info())))
}

/// Makes `user` a member unless `check` returns a refusal. `by` is the user who adds, `None` when `user` joins.
fn add(
    conn: &Connection,
    room: &RoomName,
    user: &Username,
    by: Option<&Username>,
    check: impl FnOnce(&Connection) -> rusqlite::Result<Option<Error>>,
) -> Job<Vec<Member>> {
    let Some(record) = find(conn, room)? else { return Ok(Err(Error::NotFound)) };
    if !room.is_lobby()
        && let Err(refused) = by.map_or_else(|| record.check_join(user), |by| record.check_owner(by))
    {
        return Ok(Err(refused));
    }
    let mut members = record.members;
    if room.is_lobby() || members.iter().any(|member| member.username.key() == user.key()) {
        return Ok(Ok((false, members)));
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
    Ok(Ok((true, members)))
}

/// Ends a membership at the request of `by`, who must own the room. `None` when `user` leaves.
fn remove(conn: &Connection, room: &RoomName, user: &Username, by: Option<&Username>) -> Job<Vec<Member>> {
    let Some(record) = find(conn, room)? else { return Ok(Err(Error::NotFound)) };
    if let Some(by) = by.filter(|_| !room.is_lobby())
        && let Err(refused) = record.check_owner(by)
    {
        return Ok(Err(refused));
    }
    let RoomRecord { room_info, mut members } = record;
    let Some(index) = members.iter().position(|member| member.username.key() == user.key()) else {
        return Ok(Ok((false, members)));
    };
    let removed = members.remove(index);
    let keys = params![room.as_str(), user.as_str()];
    conn.prepare_cached("DELETE FROM members WHERE room = ? AND user = ?")?.execute(keys)?;
    match members.first_mut() {
        Some(successor) if removed.role == Role::Owner => {
            successor.role = Role::Owner;
            let update = "UPDATE members SET owner = 1, sum = row_sum(room, user, 1, added_by)
                          WHERE room = ? AND user = ?";
            conn.prepare_cached(update)?.execute(params![room.as_str(), successor.username.as_str()])?;
        }
        None if room_info.private => {
            conn.prepare_cached("UPDATE rooms SET archived = 1 WHERE name = ?")?.execute([room.as_str()])?;
            seal_room(conn, room)?;
        }
        _ => (),
    }
    Ok(Ok((true, members)))
}

/// Sets one column of a room at the request of its owner `by`. The lobby is refused.
fn update(conn: &Connection, column: &str, value: bool, (room, by): (&RoomName, &Username)) -> Job<()> {
    let Some(found) = find(conn, room)?.filter(|_| !room.is_lobby()) else { return Ok(Err(Error::NotFound)) };
    if let Err(refused) = found.check_owner(by) {
        return Ok(Err(refused));
    }
    let update = format!("UPDATE rooms SET {column} = ?2 WHERE name = ?1");
    conn.prepare_cached(&update)?.execute(params![room.as_str(), value])?;
    seal_room(conn, room)?;
    Ok(Ok((true, ())))
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
    let values = params![room.as_str(), user.as_str(), role == Role::Owner, by.map(Username::as_str)];
    conn.prepare_cached(insert)?.execute(values).map(drop)
}

fn find(conn: &Connection, room: &RoomName) -> rusqlite::Result<Option<RoomRecord>> {
    refuse_bad_room(conn, room)?;
    let query = "SELECT name, private, ephemeral, NULL, 0 FROM rooms WHERE name = ? AND archived = 0";
    let found = conn.prepare_cached(query)?.query_row([room.as_str()], room_info).optional()?;
    let Some(mut room_info) = found else { return Ok(None) };
    let query = "SELECT user, owner, added_by, sum <> row_sum(?1, user, owner, added_by) FROM members
                 WHERE room = ?1 ORDER BY place";
    let members: Vec<Member> =
        conn.prepare_cached(query)?.query_map([room.as_str()], member)?.collect::<Result<_, _>>()?;
    room_info.owner =
        members.iter().find(|member| member.role == Role::Owner).map(|member| member.username.clone());
    Ok(Some(RoomRecord { room_info, members }))
}

fn rooms_of(conn: &Connection, user: &Username) -> rusqlite::Result<Vec<RoomInfo>> {
    let query = format!(
        "SELECT name, private, ephemeral,
                (SELECT user FROM members AS owners WHERE owners.room = name AND owners.owner = 1),
                {BAD_ROOM} OR {} OR EXISTS (SELECT 1 FROM members AS owners WHERE owners.room = name AND owners.owner = 1 AND {})
         FROM members AS mine JOIN rooms ON name = mine.room
         WHERE mine.user = ? AND archived = 0 ORDER BY name",
        bad_member("mine"),
        bad_member("owners"),
    );
    let mut room_infos = vec![RoomInfo::lobby()];
    for room_info in conn.prepare_cached(&query)?.query_map([user.as_str()], room_info)? {
        room_infos.push(room_info?);
    }
    Ok(room_infos)
}

fn room_info(row: &Row<'_>) -> rusqlite::Result<RoomInfo> {
    let owner: Option<String> = row.get(3)?;
    let name: String = row.get(0)?;
    refuse_bad(row, 4, || format!("the room {name}, or its owner or member,"))?;
    Ok(RoomInfo {
        name: name.try_into().map_err(|error| conversion_error(0, error))?,
        private: row.get(1)?,
        ephemeral: row.get(2)?,
        owner: owner.map(Username::try_from).transpose().map_err(|error| conversion_error(3, error))?,
    })
}

fn member(row: &Row<'_>) -> rusqlite::Result<Member> {
    let (username, added_by): (String, Option<String>) = (row.get(0)?, row.get(2)?);
    refuse_bad(row, 3, || format!("the member {username} of a room"))?;
    let role = if row.get(1)? { Role::Owner } else { Role::Member };
    Ok(Member {
        username: username.try_into().map_err(|error| conversion_error(0, error))?,
        role,
        added_by: added_by.map(Username::try_from).transpose().map_err(|error| conversion_error(2, error))?,
    })
}

fn conversion_error(column: usize, error: proto::NameError) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
}

#[cfg(test)]
mod tests {
    use crate::{directory::conformance, sqlite_store::SqliteStore};

    #[actix_rt::test]
    async fn passes_the_conformance_suite() {
        conformance::run(|| {
            let dir = tempfile::tempdir().unwrap();
            let store = SqliteStore::open(&dir.path().join("chat.sqlite3")).unwrap();
            (store.directory(), dir)
        })
        .await;
    }
}
