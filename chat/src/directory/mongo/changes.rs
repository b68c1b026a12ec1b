//! [`Changes`] in the documents of rooms. The field `recent` contains the latest changes, `changed` the time of the last one by
//! MongoDB's clock. Both are part of the write of the change itself. A client that lacks earlier changes loads the room anew.

use std::collections::HashMap;

use async_trait::async_trait;
use futures_util::TryStreamExt;
use mongodb::bson::{Document, doc};
use proto::{
    RoomName, Username,
    event::{Item, ItemType, RoomKind},
};
use serde::{Deserialize, de::DeserializeOwned};

use super::{
    MongoDirectory,
    document::{RoomDocument, StoredChange},
};
use crate::{
    Error,
    changes::{AT_ONCE, Changed, Changes},
    column::integer,
    directory::{
        ChangesSince,
        change::{Part, PresentState},
    },
    mongo::{DEADLINE, deadline_now, number, with_deadline},
};

/// Age of the changes that [`Changes::recent`] returns, in milliseconds. It must be longer than a write takes to reach a majority.
const WINDOW_MS: i64 = 15_000;

/// A room's version.
#[derive(Debug, Deserialize)]
struct VersionRow {
    #[serde(rename = "_id")]
    room: RoomName,
    version: i64,
}

/// A room's version and latest changes.
#[derive(Debug, Deserialize)]
struct ChangedRow {
    #[serde(rename = "_id")]
    room: RoomName,
    version: i64,
    archived: bool,
    recent: Vec<StoredChange>,
}

impl MongoDirectory {
    async fn read<T>(&self, filter: Document, fields: Document, latest: bool) -> Result<Vec<T>, Error>
    where
        T: DeserializeOwned + Send + Sync + Unpin,
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
        let rows: Vec<VersionRow> = self.read(filter, doc! { "version": 1 }, latest).await?;
        rows.into_iter().map(|row| Ok((row.room, number(row.version)?))).collect()
    }

    /// See [`crate::directory::Directory::changes_since`].
    pub(super) async fn read_changes_since(
        &self,
        room: &RoomName,
        rev: u64,
        types: &[ItemType],
    ) -> Result<Option<ChangesSince>, Error> {
        if RoomKind::of(room).is_built_in() {
            let changes = if rev > 0 { ChangesSince::reset(0) } else { ChangesSince::page(0, vec![]) };
            return Ok(Some(changes));
        }
        // Most clients that reconnect have missed nothing. The members are not read for them.
        let same = doc! { "_id": room.as_str(), "version": integer(rev), "archived": false };
        if !self.versions_where(same, false).await?.is_empty() {
            return Ok(Some(ChangesSince::page(rev, vec![])));
        }
        let found = self.rooms.find_one(doc! { "_id": room.as_str(), "archived": false }).max_time(DEADLINE);
        let found = with_deadline(deadline_now(), found).await?;
        found.map(|found| since(found, rev, types)).transpose()
    }
}

/// The parts of a room that have changed after `rev`, of these types.
fn since(mut document: RoomDocument, rev: u64, types: &[ItemType]) -> Result<ChangesSince, Error> {
    let recent = std::mem::take(&mut document.recent);
    let record = document.record()?;
    let (last, after) = (record.rev, integer(rev));
    if rev > last || recent.first().is_none_or(|first| after + 1 < first.version) {
        return Ok(ChangesSince::reset(last));
    }
    let mut parts: HashMap<(ItemType, String), (u64, Part)> = HashMap::new();
    for change in recent.iter().filter(|change| change.version > after) {
        for part in change.items.iter().map(Part::of).filter(|part| types.contains(&part.kind())) {
            parts.insert((part.kind(), part.key()), (number(change.version)?, part));
        }
    }
    let mut parts: Vec<(u64, Part)> = parts.into_values().collect();
    parts.sort_by_cached_key(|(rev, part)| (*rev, *part != Part::Room, part.name()));
    let state = PresentState::of(&record);
    let items: Vec<(u64, Item)> = parts.into_iter().map(|(rev, part)| (rev, state.item(&part))).collect();
    Ok(ChangesSince::page(last, items))
}

#[async_trait]
impl Changes for MongoDirectory {
    async fn recent(&self) -> Result<Vec<(RoomName, u64)>, Error> {
        self.versions_where(recent_filter(), true).await
    }

    async fn versions(&self, rooms: &[RoomName]) -> Result<Vec<(RoomName, u64)>, Error> {
        self.versions_where(names_filter(rooms), false).await
    }

    async fn of(&self, rooms: &[RoomName]) -> Result<Vec<Changed>, Error> {
        let fields = doc! { "version": 1, "archived": 1, "recent": 1 };
        let rows: Vec<ChangedRow> = self.read(names_filter(rooms), fields, false).await?;
        let changed = rows.into_iter().map(|ChangedRow { room, version, archived, recent }| {
            let changes = recent.into_iter().map(|change| change.read(&self.process));
            let changes = changes.collect::<Result<_, _>>()?;
            Ok(Changed { room, version: number(version)?, is_open: !archived, changes })
        });
        changed.collect()
    }

    async fn since(&self, room: &RoomName, rev: u64) -> Result<Option<ChangesSince>, Error> {
        self.read_changes_since(room, rev, &ItemType::ALL).await
    }

    async fn members(&self, room: &RoomName) -> Result<Vec<Username>, Error> {
        let members = self.load(room, deadline_now()).await?.map(|found| found.members()).unwrap_or_default();
        Ok(members.into_iter().map(|member| member.username).collect())
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
