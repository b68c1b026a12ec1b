//! [`Changes`] in the documents of rooms. The field `recent` contains the latest changes, `changed` the time of the last one by
//! MongoDB's clock. Both are part of the write of the change itself.

use async_trait::async_trait;
use futures_util::TryStreamExt;
use mongodb::bson::{Bson, DateTime, Document, doc, oid::ObjectId};
use proto::{RoomName, Username, event::ItemType};

use super::{
    MongoDirectory,
    change::RoomUpdate,
    items, membership,
    stored_changes::{Row, note_damage, possible_parts, room_name},
};
use crate::{
    Error,
    changes::{self, AT_ONCE, Changed, Changes, KEPT},
    directory::{
        ChangeKind, ChangesSince, Decision,
        change::{PresentState, settings},
    },
    mongo::{DEADLINE, damaged, deadline_now, number, with_deadline},
};

/// Age of the changes that [`Changes::recent`] returns, in milliseconds. It must be longer than a write takes to reach a majority.
const WINDOW_MS: i64 = 15_000;

impl MongoDirectory {
    /// The stored form of the change that results in `version`. Without a `decision` it is a change without effect, which takes a version.
    /// `attempt` is unique to the write, `update` has the memberships.
    pub(super) fn change_document(
        &self,
        version: i64,
        attempt: ObjectId,
        decision: Option<&Decision>,
        update: &RoomUpdate,
    ) -> Document {
        let mut stored =
            doc! { "version": version, "at": DateTime::now(), "by": &*self.process, "attempt": attempt };
        let Some(decision) = decision else {
            stored.insert("what", "other");
            return stored;
        };
        let (what, user) = match &decision.what {
            ChangeKind::Joined(user) => ("joined", Some(user)),
            ChangeKind::Left(user) => ("left", Some(user)),
            ChangeKind::Renewed(user) => ("renewed", Some(user)),
            ChangeKind::Archived => ("archived", None),
            ChangeKind::Other => ("other", None),
        };
        stored.extend(doc! { "what": what, "actor": decision.by.as_str() });
        if let Some(user) = user {
            stored.insert("user", user.as_str());
        }
        stored.insert("items", decision.items().iter().map(items::document).collect::<Vec<_>>());
        if !update.members.is_empty() {
            let members: Vec<_> = update.members.iter().map(membership::Membership::fields).collect();
            stored.extend(doc! { "members": members, "keys": &update.keys });
        }
        stored
    }

    async fn read_rows(
        &self,
        filter: Document,
        fields: Document,
        latest: bool,
    ) -> Result<Vec<Document>, Error> {
        let read = async {
            let mut find = self.rooms.find(filter).projection(fields).max_time(DEADLINE);
            if latest {
                find = find.sort(doc! { "changed": -1 }).limit(i64::try_from(AT_ONCE).unwrap_or(i64::MAX));
            }
            find.await?.try_collect::<Vec<Document>>().await
        };
        with_deadline(deadline_now(), read).await
    }

    async fn versions_where(&self, filter: Document, latest: bool) -> Result<Vec<(RoomName, u64)>, Error> {
        let rows = self.read_rows(filter, doc! { "version": 1 }, latest).await?;
        Ok(each_readable(rows, |row| {
            let name = row.get_str("_id").map_err(damaged)?.to_owned();
            Ok((room_name(name)?, number(row.get_i64("version").map_err(damaged)?)?))
        }))
    }
}

#[async_trait]
impl Changes for MongoDirectory {
    async fn recent(&self) -> Result<Vec<(RoomName, u64)>, Error> {
        self.restore_indexes();
        self.sweep();
        self.versions_where(recent_filter(), true).await
    }

    async fn versions(&self, rooms: &[RoomName]) -> Result<Vec<(RoomName, u64)>, Error> {
        self.versions_where(names_filter(rooms), false).await
    }

    async fn of(&self, rooms: &[RoomName]) -> Result<Vec<Changed>, Error> {
        let fields = doc! { "version": 1, "archived": 1, "recent": 1 };
        let rows = self.read_rows(names_filter(rooms), fields, false).await?;
        let mut found = each_readable(rows, |row| Row::read(row)?.changed(&self.process));
        for changed in &mut found {
            self.complete(changed).await?;
        }
        Ok(found)
    }

    async fn since(&self, room: &RoomName, rev: u64) -> Result<Option<ChangesSince>, Error> {
        self.read_changes_since(room, rev, &ItemType::ALL).await
    }

    async fn members(&self, room: &RoomName) -> Result<Vec<Username>, Error> {
        let found = self.load(room, deadline_now()).await?;
        let members = found.map(|found| membership::members(&found.members)).transpose()?.unwrap_or_default();
        Ok(members.into_iter().map(|member| member.username).collect())
    }
}

impl MongoDirectory {
    /// The latest changes in a room's document, oldest first.
    pub(super) fn changes_of(&self, document: Document) -> Result<Vec<changes::Change>, Error> {
        Ok(Row::read(document)?.changed(&self.process)?.changes)
    }

    /// Adds the changed parts to changes without them, in their present state.
    async fn complete(&self, changed: &mut Changed) -> Result<(), Error> {
        if changed.changes.iter().all(|change| change.items.is_some()) {
            return Ok(());
        }
        let Some(found) = self.load(&changed.room, deadline_now()).await? else { return Ok(()) };
        let (is_archived, record) = (found.document.archived, found.record()?);
        let (room_info, count) = (&record.room_info, record.members.len() as u64);
        let state = PresentState::new((!is_archived).then(|| settings(room_info, count)), &record.members);
        for change in changed.changes.iter_mut().filter(|change| change.items.is_none()) {
            let parts = possible_parts(&change.what, room_info.owner.as_ref());
            change.items = Some(parts.iter().map(|part| state.item(part)).collect());
        }
        Ok(())
    }
}

/// Adds the fields that every change writes to `update`. `change` is the stored form of the change.
pub(super) fn with_change(mut update: Document, change: Document) -> Document {
    let latest = i32::try_from(KEPT).unwrap_or(i32::MAX);
    let push = doc! { "$each": [change], "$slice": -latest };
    match update.get_mut("$push").and_then(Bson::as_document_mut) {
        Some(pushed) => drop(pushed.insert("recent", push)),
        None => drop(update.insert("$push", doc! { "recent": push })),
    }
    update.insert("$inc", doc! { "version": 1_i64 });
    update.insert("$currentDate", doc! { "changed": true });
    update
}

/// The result of `read` for each document of a room that is not damaged. One damaged room does not prevent that the changes of others are
/// applied.
fn each_readable<T>(rows: Vec<Document>, read: impl Fn(Document) -> Result<T, Error>) -> Vec<T> {
    let each = rows.into_iter().filter_map(|row| {
        let room = row.get("_id").map(Bson::to_string).unwrap_or_default();
        read(row).inspect_err(|error| note_damage(&room, error)).ok()
    });
    each.collect()
}

/// The filter for rooms that have changed within [`WINDOW_MS`] by MongoDB's clock.
pub(super) fn recent_filter() -> Document {
    doc! { "$expr": { "$gt": ["$changed", { "$subtract": ["$$NOW", WINDOW_MS] }] } }
}

fn names_filter(rooms: &[RoomName]) -> Document {
    let names: Vec<&str> = rooms.iter().map(RoomName::as_str).collect();
    doc! { "_id": { "$in": names } }
}
