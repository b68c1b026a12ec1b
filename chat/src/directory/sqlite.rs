//! [`Directory`] in the embedded SQLite file, tables `rooms`, `members` and `departures`. Every change is one job of the writer thread.

pub(crate) mod change_log;
mod jobs;
mod limits;

use async_trait::async_trait;
use embedded::Database;
use proto::{
    RoomName, Username,
    event::{ItemType, Settings},
};
use rusqlite::{Connection, OptionalExtension, Row, types::Type};
use serde_json::Value;

use self::jobs::Job;
use super::{
    ChangesSince, Committed, Directory, Limits, Member, NewRoom, Request, Role, RoomChange, RoomInfo,
    RoomRecord, change::owner_of, stored_settings,
};
use crate::Error;

/// The rooms and members of `chat.sqlite3`.
#[derive(Clone)]
pub struct SqliteDirectory {
    database: Database,
}

impl SqliteDirectory {
    /// A directory in the database of a [`SqliteStore`](crate::sqlite_store::SqliteStore).
    pub fn new(database: Database) -> Self {
        Self { database }
    }

    /// Runs a job on the writer thread. `committed` runs after the commit if the job changed something.
    async fn run<T: Send + 'static>(
        &self,
        committed: Committed,
        job: impl FnOnce(&Connection) -> Job<T> + Send + 'static,
    ) -> Result<T, Error> {
        let run_committed = move |result: &Result<(Option<RoomChange>, T), Error>| {
            if let Ok((Some(change), _)) = result {
                committed(change.clone());
            }
        };
        self.database.write_then(job, run_committed).await?.map(|(_, answer)| answer)
    }
}

#[async_trait]
impl Directory for SqliteDirectory {
    async fn create(&self, room: NewRoom, limit: usize, committed: Committed) -> Result<RoomInfo, Error> {
        self.run(committed, move |conn| jobs::create(conn, room, limit)).await
    }

    async fn find(&self, room: &RoomName) -> Result<Option<RoomRecord>, Error> {
        let room = room.clone();
        Ok(self.database.read(move |conn| find(conn, &room)).await?)
    }

    async fn rooms_of(&self, user: &Username) -> Result<Vec<RoomInfo>, Error> {
        let user = user.clone();
        Ok(self.database.read(move |conn| rooms_of(conn, &user)).await?)
    }

    async fn change(
        &self,
        room: &RoomName,
        request: Request,
        limits: Limits,
        committed: Committed,
    ) -> Result<Option<RoomRecord>, Error> {
        let room = room.clone();
        self.run(committed, move |conn| jobs::change(conn, &room, &request, limits)).await
    }

    async fn changes_since(
        &self,
        room: &RoomName,
        rev: u64,
        types: &[ItemType],
    ) -> Result<Option<ChangesSince>, Error> {
        let (room, types) = (room.clone(), types.to_vec());
        let read = move |conn: &Connection| {
            // Most clients that reconnect have missed nothing. The members are not read for them.
            if is_open(conn, &room)? && change_log::last_rev(conn, &room)? == rev {
                return Ok(Some(ChangesSince::page(rev, vec![])));
            }
            let record = find(conn, &room)?;
            record.map(|record| change_log::since(conn, &record, rev, &types)).transpose()
        };
        Ok(self.database.read(read).await?)
    }
}

pub(crate) fn find(conn: &Connection, room: &RoomName) -> rusqlite::Result<Option<RoomRecord>> {
    let query = "SELECT name, private, ephemeral, settings, NULL FROM rooms WHERE name = ? AND archived = 0";
    let found = conn.prepare_cached(query)?.query_row([room.as_str()], room_info).optional()?;
    let Some(mut room_info) = found else { return Ok(None) };
    let query = "SELECT user, owner, added_by FROM members WHERE room = ?1 ORDER BY place";
    let members: Vec<Member> =
        conn.prepare_cached(query)?.query_map([room.as_str()], member)?.collect::<Result<_, _>>()?;
    room_info.owner = owner_of(&members);
    let (departures, rev) = (limits::departures(conn, room)?, change_log::last_rev(conn, room)?);
    Ok(Some(RoomRecord { room_info, members, departures, rev }))
}

fn is_open(conn: &Connection, room: &RoomName) -> rusqlite::Result<bool> {
    let query = "SELECT EXISTS (SELECT 1 FROM rooms WHERE name = ? AND archived = 0)";
    conn.prepare_cached(query)?.query_row([room.as_str()], |row| row.get(0))
}

fn rooms_of(conn: &Connection, user: &Username) -> rusqlite::Result<Vec<RoomInfo>> {
    let query = "SELECT name, private, ephemeral, settings,
                (SELECT user FROM members AS owners WHERE owners.room = name AND owners.owner = 1)
         FROM members AS mine JOIN rooms ON name = mine.room
         WHERE mine.user = ? AND archived = 0 ORDER BY name";
    let mut room_infos = vec![RoomInfo::lobby()];
    for room_info in conn.prepare_cached(query)?.query_map([user.as_str()], room_info)? {
        room_infos.push(room_info?);
    }
    Ok(room_infos)
}

fn room_info(row: &Row<'_>) -> rusqlite::Result<RoomInfo> {
    let owner: Option<String> = row.get(4)?;
    let name: String = row.get(0)?;
    Ok(RoomInfo {
        name: name.try_into().map_err(|error| conversion_error(0, error))?,
        settings: settings(row)?,
        owner: owner.map(Username::try_from).transpose().map_err(|error| conversion_error(4, error))?,
    })
}

fn settings(row: &Row<'_>) -> rusqlite::Result<Settings> {
    let (private, ephemeral, others): (_, _, String) = (row.get(1)?, row.get(2)?, row.get(3)?);
    let read = serde_json::from_str(&others)
        .and_then(|others| stored_settings::settings(private, ephemeral, others));
    read.map_err(|error| rusqlite::Error::FromSqlConversionFailure(3, Type::Text, Box::new(error)))
}

/// The column `settings`: the settings that have no column of their own.
fn other_settings(settings: &Settings) -> String {
    Value::Object(stored_settings::others(settings)).to_string()
}

fn member(row: &Row<'_>) -> rusqlite::Result<Member> {
    let (username, added_by): (String, Option<String>) = (row.get(0)?, row.get(2)?);
    Ok(Member {
        username: username.try_into().map_err(|error| conversion_error(0, error))?,
        role: role(row)?,
        added_by: added_by.map(Username::try_from).transpose().map_err(|error| conversion_error(2, error))?,
    })
}

/// The column `owner`: the number of the role.
fn role(row: &Row<'_>) -> rusqlite::Result<Role> {
    let number = row.get(1)?;
    Role::numbered(number).ok_or(rusqlite::Error::IntegralValueOutOfRange(1, number))
}

fn conversion_error(column: usize, error: proto::NameError) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;
    use proto::event::{ItemType, Settings};

    use crate::{
        directory::{ChangesSince, NewRoom, conformance, shorthand::Shorthand},
        sqlite_store::SqliteStore,
    };

    /// 2,000 changed parts are returned in pages of 500, and 2,001 make a client load the room anew.
    #[actix_rt::test]
    async fn more_than_2000_changed_parts_are_a_reset() {
        let dir = tempfile::tempdir().unwrap();
        let directory = SqliteStore::open(&dir.path().join("chat.sqlite3")).unwrap().directory();
        let (tea, alice) = ("tea".parse().unwrap(), "alice".parse().unwrap());
        let settings = Settings { private: false, ephemeral: false };
        let new = NewRoom { name: "tea".parse().unwrap(), owner: alice, settings };
        directory.create(new, 10, Box::new(drop)).await.unwrap();
        let add = async |numbers: std::ops::Range<u64>| {
            for numbers in numbers.collect::<Vec<_>>().chunks(100) {
                let names: Vec<_> = numbers.iter().map(|n| format!("user{n}").parse().unwrap()).collect();
                let added = names.iter().map(|name| directory.add(&tea, name, 10, Box::new(drop)));
                join_all(added).await.into_iter().for_each(|added| assert!(added.is_ok(), "{added:?}"));
            }
        };
        add(0..2_000).await;
        let since = async |rev| directory.changes_since(&tea, rev, &ItemType::ALL).await.unwrap().unwrap();
        let (mut rev, mut pages) = (1, vec![]);
        loop {
            let page = since(rev).await;
            assert!(!page.reset);
            pages.push(page.changes.len());
            rev = page.rev;
            if !page.more {
                break;
            }
        }
        assert_eq!((rev, pages), (2_001, vec![500; 4]));
        add(2_000..2_001).await;
        assert_eq!(since(1).await, ChangesSince::reset(2_002));
        assert_eq!(since(2).await.changes.len(), 500);
    }

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
