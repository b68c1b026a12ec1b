//! The migration of rooms from version 1 to version 2, one room in one transaction. It can be interrupted at any time and started again, and
//! it changes nothing when all rooms have version 2. No chat node of an earlier release may run meanwhile or afterwards: it would drop rooms
//! of version 2 from its reads, and so accept posts of members that were removed.

use std::{collections::HashMap, time::Duration};

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt, stream};
use mongodb::{
    ClientSession,
    bson::{Document, deserialize_from_document, doc},
};
use proto::RoomName;
use remote::mongo::Operation;
use tokio::time::Instant;

use super::{
    MongoDirectory,
    change_log::{RowWrites, row_id, totals},
    document::Log,
    resolve_unknown::Outcome,
    rounds::{Decision, Fault, Work},
    schema::{VERSION, rooms_of_version_1},
    stored_changes::{Row, possible_parts, without_gaps},
    version_1::Room,
};
use crate::{
    Error,
    changes::Change,
    column::integer,
    directory::{ChangeKind, change::Part},
    migration::{Caller, Migration, MigrationError, Status},
    mongo::{PREPARATION, damaged, number, with_deadline},
    room_change::RoomChange,
};

/// The number of rooms that are migrated at the same time.
const AT_ONCE: usize = 8;

/// The number of names that are read at once. The nodes are checked, and the progress is reported, after each.
const BATCH: i64 = 256;

/// How long a room is tried that another transaction has written and not committed.
const ABANDONED: Duration = Duration::from_secs(120);

/// The number of documents in one statement.
const STATEMENT: usize = 1_000;

/// The migration of one room. It does nothing when another process has migrated the room.
struct MigratedRoom<'a>(&'a str);

#[async_trait]
impl Work for MigratedRoom<'_> {
    type Output = ();

    fn room(&self) -> &str {
        self.0
    }

    async fn run(
        &self,
        directory: &MongoDirectory,
        session: &mut ClientSession,
    ) -> Result<Decision<()>, Fault> {
        let rooms = directory.rooms.clone_with_type::<Document>();
        let found = rooms.find_one(doc! { "_id": self.0, "version": { "$exists": true } });
        let Some(document) = found.session(&mut *session).await? else {
            return Ok(Decision::Unchanged(()));
        };
        let room: Room = deserialize_from_document(document.clone()).map_err(damaged)?;
        let (name, members) = (room.name()?, room.members()?);
        let log = directory.migrate_log(session, &name, &room, document).await?;
        let at = doc! { "_id": self.0, "version": room.version };
        let update = room.update(&members, log.document());
        let update = rooms.write(Operation::Update, async |rooms| {
            rooms.update_one(at, update).session(&mut *session).await
        });
        update.await?;
        let stored = directory.members.clone_with_type::<Document>();
        let of_room = doc! { "_id.room": self.0 };
        let delete = stored.write(Operation::Delete, async |members| {
            members.delete_many(of_room).session(&mut *session).await
        });
        delete.await?;
        for documents in room.member_documents(&members).chunks(STATEMENT) {
            let insert = stored.write(Operation::Insert, async |members| {
                members.insert_many(documents).session(&mut *session).await
            });
            insert.await?;
        }
        Ok(Decision::Written((), unpublished(name)))
    }
}

#[async_trait]
impl Migration for MongoDirectory {
    async fn status(&self) -> Result<Status, MigrationError> {
        let deadline = Instant::now() + PREPARATION;
        let version = self.version(deadline).await?;
        if let Some(later) = version.filter(|version| *version > VERSION) {
            return Err(MigrationError::Later(later));
        }
        let left = self.rooms.count_documents(rooms_of_version_1()).max_time(PREPARATION);
        let left = with_deadline(deadline, left).await?;
        Ok(Status { is_done: version == Some(VERSION) && left == 0, left })
    }

    async fn migrate(&self, caller: &dyn Caller) -> Result<u64, MigrationError> {
        let status = self.status().await?;
        if status.is_done {
            return Ok(0);
        }
        refuse_nodes(caller).await?;
        self.block_earlier_releases(Instant::now() + PREPARATION).await?;
        // A node of an earlier release holds its lease before it creates its indexes. So each node that starts between these two steps is found.
        if let Err(refused) = refuse_nodes(caller).await {
            if status.left > 0 {
                self.admit_earlier_releases(Instant::now() + PREPARATION).await?;
            }
            return Err(refused);
        }
        self.prepare().await?;
        let migrated = self.migrate_rooms(caller, status.left).await?;
        if !self.record_version(Instant::now() + PREPARATION).await? {
            let why = "a room of version 1 was created during the migration: run `godzilla migrate` again";
            return Err(Error::Store(why.to_owned()).into());
        }
        Ok(migrated)
    }
}

impl MongoDirectory {
    async fn migrate_rooms(&self, caller: &dyn Caller, all: u64) -> Result<u64, MigrationError> {
        let (mut migrated, mut failed) = (0, Vec::<(String, Error)>::new());
        loop {
            let names = self.next_names(&failed).await?;
            if names.is_empty() {
                break;
            }
            let results = stream::iter(names).map(|name| async move {
                let result = self.migrate_room(&name).await;
                (name, result)
            });
            let results: Vec<_> = results.buffer_unordered(AT_ONCE).collect().await;
            for (name, result) in results {
                match result {
                    Ok(()) => migrated += 1,
                    Err(error) if is_damaged(&error) => failed.push((name, error)),
                    Err(error) => return Err(error.into()),
                }
            }
            caller.report(migrated, all.saturating_sub(migrated));
            refuse_nodes(caller).await?;
        }
        match failed.into_iter().next() {
            None => Ok(migrated),
            Some((room, error)) => {
                let count = self.status().await?.left;
                Err(MigrationError::Rooms { count, room, reason: error.to_string() })
            }
        }
    }

    /// Names of rooms of version 1, without those that cannot be migrated.
    async fn next_names(&self, failed: &[(String, Error)]) -> Result<Vec<String>, Error> {
        let failed: Vec<&str> = failed.iter().map(|(name, _)| &**name).collect();
        let filter = doc! { "$and": [rooms_of_version_1(), { "_id": { "$nin": failed } }] };
        let rooms = self.rooms.clone_with_type::<Document>();
        let read = async {
            let found = rooms.find(filter).projection(doc! { "_id": 1 }).limit(BATCH).max_time(PREPARATION);
            found.await?.try_collect::<Vec<Document>>().await
        };
        let found = with_deadline(Instant::now() + PREPARATION, read).await?;
        Ok(found.iter().filter_map(|room| Some(room.get_str("_id").ok()?.to_owned())).collect())
    }

    /// Migrates one room in one transaction. The transaction of a migration that was killed conflicts until MongoDB aborts it, by default
    /// after 60 s.
    async fn migrate_room(&self, name: &str) -> Result<(), Error> {
        let give_up_at = Instant::now() + ABANDONED;
        loop {
            match self.in_rounds(Instant::now() + PREPARATION, &MigratedRoom(name)).await {
                Outcome::Changed((), _) | Outcome::Unchanged(()) => return Ok(()),
                Outcome::Refused(Error::Unavailable(_)) if Instant::now() < give_up_at => {}
                Outcome::Refused(error) => return Err(error),
                Outcome::Unknown(unknown) => return Err(unknown.error),
            }
        }
    }

    /// Completes the rows of a room with its latest changes. Returns the numbers of its log.
    async fn migrate_log(
        &self,
        session: &mut ClientSession,
        name: &RoomName,
        room: &Room,
        mut document: Document,
    ) -> Result<Log, Fault> {
        document.insert("rev", room.version);
        let recent = Row::read(document)?.changed("")?.changes;
        let changes = without_gaps(recent, number(room.version)?);
        let renewed = changes.iter().rev().find(|change| matches!(change.what, ChangeKind::Renewed(_)));
        let renewed = renewed.map_or(0, |change| integer(change.version.saturating_sub(1)));
        let first = changes.first().map_or(room.version + 1, |change| integer(change.version));
        let gap = if first > room.logged + 1 { first - 1 } else { 0 };
        let stored = self.totals_in(session, name).await?;
        let last = doc! { "room": name.as_str(), "rev": { "$gte": room.logged } };
        let has_last = self.changes.find_one(last).session(&mut *session).await?.is_some();
        // Rows were deleted, or an older state of their collection was restored. Rooms of early releases have no number of rows.
        let is_lost = room.log_parts > 0 && (stored.rows < room.log_parts || !has_last);
        let lost = if is_lost { room.logged } else { 0 };
        let parts = latest_parts(&changes, room.logged.max(renewed));
        let mut by_rev: HashMap<i64, Vec<Part>> = HashMap::new();
        for (part, rev) in parts {
            by_rev.entry(rev).or_default().push(part);
        }
        for (rev, parts) in by_rev {
            let ids: Vec<Document> = parts.iter().map(|part| row_id(name, part)).collect();
            let mut rows = self.changes.find(doc! { "_id": { "$in": ids } }).session(&mut *session).await?;
            let rows: Vec<Document> = rows.stream(session).try_collect().await?;
            let found = rows.iter().filter_map(|row| Some((row.get_document("_id").ok()?.clone(), 0)));
            let found: Vec<(Document, i64)> = found.collect();
            self.write_rows(session, RowWrites::of(name, &parts, rev, &found)).await?;
        }
        let floor = room.log_floor.max(renewed).max(gap).max(lost);
        Ok(Log { floor, ..self.totals_in(session, name).await? })
    }

    /// The rows of a room in the snapshot of a transaction.
    async fn totals_in(&self, session: &mut ClientSession, room: &RoomName) -> Result<Log, Fault> {
        let mut totals = self.changes.aggregate(totals(room.as_str())).session(&mut *session).await?;
        let totals: Vec<Document> = totals.stream(session).try_collect().await?;
        match totals.into_iter().next() {
            Some(totals) => Ok(deserialize_from_document(totals).map_err(damaged)?),
            None => Ok(Log::default()),
        }
    }
}

/// The number of the last change of each part that has changed after `after`.
fn latest_parts(changes: &[Change], after: i64) -> Vec<(Part, i64)> {
    let mut latest: HashMap<(proto::event::ItemType, String), (Part, i64)> = HashMap::new();
    for change in changes.iter().filter(|change| integer(change.version) > after) {
        let parts = match &change.items {
            Some(items) => items.iter().map(Part::of).collect(),
            None => possible_parts(&change.what, None),
        };
        for part in parts {
            latest.insert((part.kind(), part.key()), (part, integer(change.version)));
        }
    }
    latest.into_values().collect()
}

/// A migration of a room is no change for clients.
fn unpublished(room: RoomName) -> RoomChange {
    RoomChange {
        room,
        rev: 0,
        what: ChangeKind::Other,
        by: None,
        items: vec![],
        members: vec![],
        offset: None,
    }
}

fn is_damaged(error: &Error) -> bool {
    error.to_string().contains("damaged")
}

async fn refuse_nodes(caller: &dyn Caller) -> Result<(), MigrationError> {
    let nodes = caller.running_nodes().await.map_err(MigrationError::Nodes)?;
    if nodes.is_empty() { Ok(()) } else { Err(MigrationError::NodesRun(nodes)) }
}
