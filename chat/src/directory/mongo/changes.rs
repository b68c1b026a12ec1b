//! [`Changes`] in the documents of rooms. The field `recent` contains the latest changes, `changed` the time of the last one by
//! MongoDB's clock. Both are part of the write of the change itself.

use async_trait::async_trait;
use futures_util::TryStreamExt;
use mongodb::bson::{Bson, DateTime, Document, doc};
use proto::{
    RoomName, Username,
    event::{Item, ItemType},
};

use super::{
    Change, MongoDirectory,
    document::{MemberDocument, member_id},
    items,
    stored_changes::{Row, note_damage, possible_parts, room_name, user_of},
};
use crate::{
    Error,
    changes::{self, AT_ONCE, Changed, Changes, KEPT},
    directory::{
        ChangeKind, ChangesSince, Member, NewChange, NewRoom, Role, RoomChange, RoomInfo, RoomRecord,
        change::{Part, PresentState, settings},
    },
    mongo::{DEADLINE, damaged, deadline_now, number, with_deadline},
};

/// Age of the changes that [`Changes::recent`] returns, in milliseconds. It must be longer than a write takes to reach a majority.
const WINDOW_MS: i64 = 15_000;

/// A change before it is written.
#[derive(Debug, Clone)]
pub struct ChangeEntry {
    what: ChangeKind,
    by: Username,
    /// The changed parts in their state after the change.
    items: Vec<Item>,
    /// The members of a room that is archived.
    members: Vec<Username>,
}

impl ChangeEntry {
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
        let items = change.items(room_info, members);
        Self { what: change.what, by: change.by.clone(), items, members: vec![] }
    }

    /// The kind of the change.
    pub fn what(&self) -> &ChangeKind {
        &self.what
    }

    /// The changed parts.
    pub fn parts(&self) -> Vec<Part> {
        self.items.iter().map(Part::of).collect()
    }

    /// The committed change with the number `rev`.
    pub fn committed(self, room: &RoomName, rev: u64) -> RoomChange {
        let Self { what, by, items, members } = self;
        RoomChange { room: room.clone(), rev, what, by: Some(by), items, members, offset: None }
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
        let items: Vec<Document> = entry.items.iter().map(items::document).collect();
        let mut stored = doc! {
            "version": version,
            "at": DateTime::now(),
            "by": &*self.process,
            "what": what,
            "actor": entry.by.as_str(),
            "items": items,
        };
        if let Some(user) = user {
            stored.insert("user", user.as_str());
        }
        stored
    }

    /// Adds the fields that every change writes to `update`. `before` is the number of the change before, and `raise` has the increments of
    /// the numbers of the change log.
    pub(super) fn with_change(
        &self,
        mut update: Document,
        before: i64,
        entry: &ChangeEntry,
        raise: Document,
    ) -> Document {
        let latest = i32::try_from(KEPT).unwrap_or(i32::MAX);
        let stored = self.change_document(before + 1, entry);
        let push = doc! { "$each": [stored], "$slice": -latest };
        match update.get_mut("$push").and_then(Bson::as_document_mut) {
            Some(pushed) => drop(pushed.insert("recent", push)),
            None => drop(update.insert("$push", doc! { "recent": push })),
        }
        let mut raised = doc! { "rev": 1_i64 };
        // A change that sets the numbers of the log has counted its rows.
        if !update.get_document("$set").is_ok_and(|set| set.contains_key("log")) {
            raised.extend(raise);
        }
        update.insert("$inc", raised);
        update.insert("$currentDate", doc! { "changed": true });
        update
    }

    async fn read(&self, filter: Document, fields: Document, latest: bool) -> Result<Vec<Document>, Error> {
        let rooms = self.rooms.clone_with_type::<Document>();
        let read = async {
            let mut find = rooms.find(filter).projection(fields).max_time(DEADLINE);
            if latest {
                find = find.sort(doc! { "changed": -1 }).limit(i64::try_from(AT_ONCE).unwrap_or(i64::MAX));
            }
            find.await?.try_collect::<Vec<Document>>().await
        };
        with_deadline(deadline_now(), read).await
    }

    async fn versions_where(&self, filter: Document, latest: bool) -> Result<Vec<(RoomName, u64)>, Error> {
        let rows = self.read(filter, doc! { "rev": 1 }, latest).await?;
        Ok(each_readable(rows, |row| {
            let name = row.get_str("_id").map_err(damaged)?.to_owned();
            Ok((room_name(name)?, number(row.get_i64("rev").map_err(damaged)?)?))
        }))
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
        let fields = doc! { "rev": 1, "archived": 1, "recent": 1 };
        let rows = self.read(names_filter(rooms), fields, false).await?;
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
        let members = found.map(|found| found.members).unwrap_or_default();
        Ok(members.into_iter().map(|member| member.username).collect())
    }
}

impl MongoDirectory {
    /// The latest changes in a room's document, oldest first.
    pub(super) fn changes_of(&self, document: Document) -> Result<Vec<changes::Change>, Error> {
        Ok(Row::read(document)?.changed(&self.process)?.changes)
    }

    /// Adds the changed parts to changes without them, in their present state. Of the members it reads those of these parts.
    async fn complete(&self, changed: &mut Changed) -> Result<(), Error> {
        let incomplete = || changed.changes.iter().filter(|change| change.items.is_none());
        if incomplete().next().is_none() {
            return Ok(());
        }
        let users = || incomplete().filter_map(|change| user_of(&change.what));
        let deadline = deadline_now();
        let room = doc! { "_id": changed.room.as_str() };
        let found = self.rooms.find_one(room).projection(doc! { "recent": 0 }).max_time(DEADLINE);
        let Some(found) = with_deadline(deadline, found).await? else { return Ok(()) };
        let (room_info, count) = (found.room_info()?, found.member_count()?);
        let ids: Vec<Document> = users()
            .chain(&room_info.owner)
            .map(|user| member_id(changed.room.as_str(), &user.key()))
            .collect();
        let members = async {
            let members = self.members.find(doc! { "_id": { "$in": ids } }).max_time(DEADLINE).await?;
            members.try_collect::<Vec<_>>().await
        };
        let members = with_deadline(deadline, members).await?;
        let members: Vec<Member> =
            members.into_iter().map(MemberDocument::member).collect::<Result<_, _>>()?;
        let state = PresentState::new((!found.archived).then(|| settings(&room_info, count)), &members);
        for change in changed.changes.iter_mut().filter(|change| change.items.is_none()) {
            let parts = possible_parts(&change.what, room_info.owner.as_ref());
            change.items = Some(parts.iter().map(|part| state.item(part)).collect());
        }
        Ok(())
    }
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
