//! [`Changes`] in the documents of rooms. The field `recent` contains the latest changes, `changed` the time of the last one by
//! MongoDB's clock. Both are part of the write of the change itself.

use async_trait::async_trait;
use futures_util::TryStreamExt;
use mongodb::bson::{Bson, DateTime, Document, doc};
use proto::{
    RoomName, Username,
    event::{Item, ItemType},
};
use serde::{Deserialize, de::DeserializeOwned};

use super::{Change, MongoDirectory, items};
use crate::{
    Error,
    changes::{self, AT_ONCE, Changed, Changes, KEPT},
    directory::{
        ChangeKind, ChangesSince, Member, NewChange, NewRoom, Role, RoomChange, RoomInfo, RoomRecord, change,
    },
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
    /// The user that made the change. Absent in changes of earlier releases, and in empty changes.
    #[serde(default)]
    actor: Option<String>,
    /// The changed parts in their state after the change. Absent in changes of earlier releases, and in empty changes.
    #[serde(default)]
    items: Option<Vec<Document>>,
}

/// A change before it is written.
#[derive(Debug, Clone)]
pub struct ChangeEntry {
    what: ChangeKind,
    by: Option<Username>,
    /// The changed parts in their state after the change. `None` for an empty change.
    items: Option<Vec<Item>>,
    /// The members of a room that is archived.
    members: Vec<Username>,
}

impl ChangeEntry {
    /// A change without effect, which takes a version.
    pub fn empty() -> Self {
        Self { what: ChangeKind::Other, by: None, items: None, members: vec![] }
    }

    /// The creation of a room, or the reuse of the name of one that has ended.
    pub fn creation(room: &NewRoom, is_renewed: bool) -> Self {
        let owner = &room.owner;
        let what = if is_renewed { ChangeKind::Renewed } else { ChangeKind::Joined };
        let members = [Member { username: owner.clone(), role: Role::Owner, added_by: None }];
        Self::new(NewChange::new(what(owner.clone()), owner), &room.room_info(), &members)
    }

    /// `change` of `room`, after which it has these members.
    pub fn of(change: &Change, room: &RoomRecord, members: &[Member]) -> Self {
        let room_info = change.room_info_after(&room.room_info, members);
        let owner = |record: Option<&Username>| record.map(Username::key);
        let has_successor = owner(room.room_info.owner.as_ref()) != owner(room_info.owner.as_ref());
        let mut new = NewChange::new(change.kind(), change.by());
        new.successor = room_info.owner.as_ref().filter(|_| has_successor);
        new.ends = members.is_empty() && room_info.settings.private;
        let mut entry = Self::new(new, &room_info, members);
        if entry.what == ChangeKind::Archived {
            entry.members = members.iter().map(|member| member.username.clone()).collect();
        }
        entry
    }

    fn new(change: NewChange<'_>, room_info: &RoomInfo, members: &[Member]) -> Self {
        let items = Some(change.items(room_info, members));
        Self { what: change.what, by: Some(change.by.clone()), items, members: vec![] }
    }

    /// The committed change with the number `rev`.
    pub fn committed(self, room: &RoomName, rev: u64) -> RoomChange {
        let Self { what, by, items, members } = self;
        RoomChange {
            room: room.clone(),
            rev,
            what,
            by,
            items: items.unwrap_or_default(),
            members,
            offset: None,
        }
    }
}

impl MongoDirectory {
    /// The stored form of the change that results in `version`.
    pub(super) fn change_document(&self, version: i64, entry: &ChangeEntry) -> Document {
        let (what, user) = match &entry.what {
            ChangeKind::Joined(user) => ("joined", Some(user)),
            ChangeKind::Left(user) => ("left", Some(user)),
            ChangeKind::Renewed(user) => ("renewed", Some(user)),
            ChangeKind::Archived => ("archived", None),
            ChangeKind::Other => ("other", None),
        };
        let mut stored =
            doc! { "version": version, "at": DateTime::now(), "by": &*self.process, "what": what };
        let names = [("user", user), ("actor", entry.by.as_ref())];
        for (field, name) in names.into_iter().filter_map(|(field, name)| Some((field, name?))) {
            stored.insert(field, name.as_str());
        }
        if let Some(items) = &entry.items {
            stored.insert("items", items.iter().map(items::document).collect::<Vec<_>>());
        }
        stored
    }

    /// Adds the fields that every change writes to `update` of a room at `version`.
    pub(super) fn with_change(&self, mut update: Document, version: i64, entry: &ChangeEntry) -> Document {
        let latest = i32::try_from(KEPT).unwrap_or(i32::MAX);
        let push = doc! { "$each": [self.change_document(version + 1, entry)], "$slice": -latest };
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
        let mut found = Vec::with_capacity(rows.len());
        for row in rows {
            let mut changed = self.changed(row)?;
            self.complete(&mut changed).await?;
            found.push(changed);
        }
        Ok(found)
    }

    async fn since(&self, room: &RoomName, rev: u64) -> Result<Option<ChangesSince>, Error> {
        self.read_changes_since(room, rev, &ItemType::ALL).await
    }

    async fn members(&self, room: &RoomName) -> Result<Vec<Username>, Error> {
        let found = self.load(room, deadline_now()).await?;
        let members = found.map(|found| found.members()).transpose()?.unwrap_or_default();
        Ok(members.into_iter().map(|member| member.username).collect())
    }
}

impl MongoDirectory {
    /// The latest changes in a room's document, oldest first.
    pub(super) fn changes_of(&self, document: Document) -> Result<Vec<changes::Change>, Error> {
        let row: Row = mongodb::bson::deserialize_from_document(document).map_err(damaged)?;
        Ok(self.changed(row)?.changes)
    }

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
        let by = stored.actor.map(Username::try_from).transpose().map_err(damaged)?;
        let parts = stored.items.map(|items| {
            items
                .iter()
                .filter_map(|stored| items::item(stored, by.as_ref()).transpose())
                .collect::<Result<_, _>>()
        });
        let (version, at, items) = (number(stored.version)?, timestamp(stored.at)?, parts.transpose()?);
        Ok(changes::Change { version, at, what, by, items, is_own })
    }

    /// Adds the changed parts to changes of earlier releases, in their present state.
    async fn complete(&self, changed: &mut Changed) -> Result<(), Error> {
        if changed.changes.iter().all(|change| change.items.is_some()) {
            return Ok(());
        }
        let Some(found) = self.load(&changed.room, deadline_now()).await? else { return Ok(()) };
        let record = found.record(changed.room.clone())?;
        for change in changed.changes.iter_mut().filter(|change| change.items.is_none()) {
            change.items = Some(present_items(&change.what, &record, found.archived));
        }
        Ok(())
    }
}

/// The parts of the room that a change of an earlier release may have changed, in their present state.
pub(super) fn present_items(what: &ChangeKind, room: &RoomRecord, is_archived: bool) -> Vec<Item> {
    let settings = (!is_archived).then(|| change::settings(&room.room_info, &room.members));
    let mut items = vec![Item::Room { settings, by: None }];
    if let ChangeKind::Joined(user) | ChangeKind::Left(user) | ChangeKind::Renewed(user) = what {
        let owner = room.room_info.owner.as_ref().filter(|owner| owner.key() != user.key());
        let users = [Some(user), owner].into_iter().flatten();
        items.extend(
            users.map(|user| Item::Member { member: change::state_of(&room.members, user), by: None }),
        );
    }
    items
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
