//! [`Changes`] in the documents of rooms. The field `recent` contains the latest changes, `changed` the time of the last one by
//! MongoDB's clock. Both are part of the write of the change itself.

use async_trait::async_trait;
use futures_util::TryStreamExt;
use mongodb::bson::{Bson, DateTime, Document, doc};
use proto::{RoomName, Username};
use serde::{Deserialize, de::DeserializeOwned};

use super::{Change, MongoDirectory};
use crate::{
    Error,
    changes::{self, AT_ONCE, ChangeKind, Changed, Changes, KEPT},
    mongo::{DEADLINE, damaged, deadline_now, number, timestamp, with_deadline},
};

/// Age of the changes that [`Changes::recent`] returns, in milliseconds. It must be longer than a write takes to reach a majority.
const WINDOW_MS: i64 = 15_000;

/// The version of a room, as it is read.
#[derive(Debug, Deserialize)]
struct Version {
    #[serde(rename = "_id")]
    room: String,
    version: i64,
}

/// The version and latest changes of a room, as they are read.
#[derive(Debug, Deserialize)]
struct Row {
    #[serde(rename = "_id")]
    room: String,
    version: i64,
    archived: bool,
    /// Absent in rooms that only earlier releases have changed.
    #[serde(default)]
    recent: Vec<StoredChange>,
}

/// A stored change.
#[derive(Debug, Deserialize)]
struct StoredChange {
    version: i64,
    at: DateTime,
    /// Id of the process that made the change.
    by: String,
    what: String,
    #[serde(default)]
    user: Option<String>,
}

/// The kind of a change, as it is stored.
#[derive(Debug, Clone, Copy)]
pub enum RecordedChange<'a> {
    Joined(&'a Username),
    Left(&'a Username),
    Renewed(&'a Username),
    Archived,
    Other,
}

impl<'a> From<&'a Change> for RecordedChange<'a> {
    fn from(change: &'a Change) -> Self {
        match change {
            Change::Add { user, .. } | Change::AddBy { user, .. } => Self::Joined(user),
            Change::Remove { user, .. } | Change::Leave { user } => Self::Left(user),
            Change::SetPrivate { .. } => Self::Other,
            Change::Archive { .. } => Self::Archived,
        }
    }
}

impl MongoDirectory {
    /// The stored form of the change that results in `version`.
    pub(super) fn change_document(&self, version: i64, kind: RecordedChange<'_>) -> Document {
        let (what, user) = match kind {
            RecordedChange::Joined(user) => ("joined", Some(user)),
            RecordedChange::Left(user) => ("left", Some(user)),
            RecordedChange::Renewed(user) => ("renewed", Some(user)),
            RecordedChange::Archived => ("archived", None),
            RecordedChange::Other => ("other", None),
        };
        let mut stored =
            doc! { "version": version, "at": DateTime::now(), "by": &*self.process, "what": what };
        if let Some(user) = user {
            stored.insert("user", user.as_str());
        }
        stored
    }

    /// Adds the fields that every change writes to `update` of a room at `version`.
    pub(super) fn with_change(
        &self,
        mut update: Document,
        version: i64,
        kind: RecordedChange<'_>,
    ) -> Document {
        let latest = i32::try_from(KEPT).unwrap_or(i32::MAX);
        let push = doc! { "$each": [self.change_document(version + 1, kind)], "$slice": -latest };
        match update.get_mut("$push").and_then(Bson::as_document_mut) {
            Some(pushed) => drop(pushed.insert("recent", push)),
            None => drop(update.insert("$push", doc! { "recent": push })),
        }
        update.insert("$inc", doc! { "version": 1_i64 });
        update.insert("$currentDate", doc! { "changed": true });
        update
    }

    async fn read<T>(&self, filter: Document, fields: Document, latest: bool) -> Result<Vec<T>, Error>
    where
        T: DeserializeOwned + Send + Sync + Unpin + 'static,
    {
        let rooms = self.rooms.clone_with_type::<T>();
        let read = async {
            let mut find = rooms.find(filter).projection(fields).max_time(DEADLINE);
            if latest {
                find = find.sort(doc! { "changed": -1 }).limit(i64::try_from(AT_ONCE).unwrap_or(i64::MAX));
            }
            find.await?.try_collect::<Vec<T>>().await
        };
        with_deadline(deadline_now(), read).await
    }

    async fn versions_where(&self, filter: Document, latest: bool) -> Result<Vec<(RoomName, u64)>, Error> {
        let rows: Vec<Version> = self.read(filter, doc! { "version": 1 }, latest).await?;
        rows.into_iter().map(|row| Ok((room_name(row.room)?, number(row.version)?))).collect()
    }
}

#[async_trait]
impl Changes for MongoDirectory {
    async fn recent(&self) -> Result<Vec<(RoomName, u64)>, Error> {
        self.restore_indexes();
        self.versions_where(recent_filter(), true).await
    }

    async fn versions(&self, rooms: &[RoomName]) -> Result<Vec<(RoomName, u64)>, Error> {
        self.versions_where(names_filter(rooms), false).await
    }

    async fn of(&self, rooms: &[RoomName]) -> Result<Vec<Changed>, Error> {
        let fields = doc! { "version": 1, "archived": 1, "recent": 1 };
        let rows: Vec<Row> = self.read(names_filter(rooms), fields, false).await?;
        rows.into_iter().map(|row| self.changed(row)).collect()
    }

    async fn members(&self, room: &RoomName) -> Result<Vec<Username>, Error> {
        let found = self.load(room, deadline_now()).await?;
        let members = found.map(|found| found.members()).transpose()?.unwrap_or_default();
        Ok(members.into_iter().map(|member| member.username).collect())
    }
}

impl MongoDirectory {
    fn changed(&self, row: Row) -> Result<Changed, Error> {
        let mut changes =
            row.recent.into_iter().map(|stored| self.change_from(stored)).collect::<Result<Vec<_>, _>>()?;
        changes.sort_by_key(|change| change.version);
        Ok(Changed {
            room: room_name(row.room)?,
            version: number(row.version)?,
            is_open: !row.archived,
            changes,
        })
    }

    fn change_from(&self, stored: StoredChange) -> Result<changes::Change, Error> {
        let user = stored.user.map(Username::try_from).transpose().map_err(damaged)?;
        let what = match (&*stored.what, user) {
            ("joined", Some(user)) => ChangeKind::Joined(user),
            ("left", Some(user)) => ChangeKind::Left(user),
            ("renewed", Some(user)) => ChangeKind::Renewed(user),
            ("archived", _) => ChangeKind::Archived,
            // Includes kinds that a later release stores.
            _ => ChangeKind::Other,
        };
        let is_own = *stored.by == *self.process;
        Ok(changes::Change { version: number(stored.version)?, at: timestamp(stored.at)?, what, is_own })
    }
}

/// The filter for rooms that have changed within [`WINDOW_MS`] by MongoDB's clock.
pub(super) fn recent_filter() -> Document {
    doc! { "$expr": { "$gt": ["$changed", { "$subtract": ["$$NOW", WINDOW_MS] }] } }
}

fn names_filter(rooms: &[RoomName]) -> Document {
    let names: Vec<&str> = rooms.iter().map(RoomName::as_str).collect();
    doc! { "_id": { "$in": names } }
}

fn room_name(name: String) -> Result<RoomName, Error> {
    RoomName::try_from(name).map_err(damaged)
}
