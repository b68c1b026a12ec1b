//! The migration of rooms from version 1 to version 2. The members of a room are written first. Then one update of the room's document removes
//! them there, so that a room has version 1 or version 2 completely. It can be interrupted at any time and started again, also twice at the
//! same time: each write has the same result again. No chat node may run meanwhile: one of an earlier release cannot read rooms of version
//! 2, and would accept posts of members that were removed.

use std::collections::HashMap;

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt, stream};
use mongodb::{
    bson::{Document, deserialize_from_document, doc},
    error::{Error as MongoError, ErrorKind},
};
use remote::mongo::{DUPLICATE_KEY, Operation};
use tokio::time::Instant;

use super::{
    MongoDirectory,
    membership::Membership,
    schema::{VERSION, rooms_of_version_1},
    version_1::Room,
};
use crate::{
    Error,
    migration::{Caller, Migration, MigrationError, Status},
    mongo::{PREPARATION, damaged, with_deadline},
};

/// The number of rooms that are migrated at the same time.
const AT_ONCE: usize = 8;

/// The number of names that are read at once. The nodes are checked, and the progress is reported, after each.
const BATCH: i64 = 256;

/// Maximum number of attempts to write the members of a room.
const MAX_ROUNDS: usize = 3;

/// The number of members in one answer of MongoDB.
const BATCH_SIZE: u32 = 20_000;

/// The number of documents in one statement.
const STATEMENT: usize = 1_000;

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
            let why =
                "a room of version 1 was created during the migration: run `godzilla migrate --up` again";
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
        let read = async {
            let found = self.rooms.find(filter).projection(doc! { "_id": 1 }).limit(BATCH);
            found.max_time(PREPARATION).await?.try_collect::<Vec<Document>>().await
        };
        let found = with_deadline(Instant::now() + PREPARATION, read).await?;
        Ok(found.iter().filter_map(|room| Some(room.get_str("_id").ok()?.to_owned())).collect())
    }

    /// Migrates one room. Does nothing when another process has migrated it.
    pub(super) async fn migrate_room(&self, name: &str) -> Result<(), Error> {
        let deadline = Instant::now() + PREPARATION;
        let found = self.rooms.find_one(doc! { "_id": name, "members": { "$exists": true } });
        let Some(found) = with_deadline(deadline, found).await? else { return Ok(()) };
        let room: Room = deserialize_from_document(found).map_err(damaged)?;
        let members = room.members()?;
        self.write_members_of(name, &room, &members, deadline).await?;
        let update = self.rooms.write(Operation::Update, async |rooms| {
            let at = doc! { "_id": name, "version": room.version, "members": { "$exists": true } };
            rooms.update_one(at, room.update(&members)).await
        });
        with_deadline(deadline, update).await.map(drop)
    }

    /// Writes the members of a room of version 1 to their collection. Other documents of the room are deleted: a migration that did not end
    /// has left them, or an older state of the rooms was restored.
    pub(super) async fn write_members_of(
        &self,
        name: &str,
        room: &Room,
        members: &[Membership],
        deadline: Instant,
    ) -> Result<(), Error> {
        let expected: HashMap<&str, &Membership> =
            members.iter().map(|membership| (&*membership.key, membership)).collect();
        for _ in 0..MAX_ROUNDS {
            self.insert_members(name, members, deadline).await?;
            let stored = async {
                let found = self.members.find(doc! { "room": name }).batch_size(BATCH_SIZE).await?;
                found.try_collect::<Vec<Membership>>().await
            };
            let stored = with_deadline(deadline, stored).await?;
            let (right, others): (Vec<_>, Vec<_>) =
                stored.iter().partition(|stored| expected.get(&*stored.key) == Some(stored));
            if others.is_empty() && right.len() == members.len() {
                return Ok(());
            }
            // After another migration has ended, these can be documents of later changes.
            let at = doc! { "_id": name, "version": room.version, "members": { "$exists": true } };
            if with_deadline(deadline, self.rooms.find_one(at)).await?.is_none() {
                break;
            }
            let ids: Vec<Document> = others.iter().map(|other| other.id(name)).collect();
            let delete = self.members.write(Operation::Delete, async |members| {
                members.delete_many(doc! { "_id": { "$in": ids } }).await
            });
            with_deadline(deadline, delete).await?;
        }
        Err(Error::Store(format!("the members of the room {name} were changed during the migration")))
    }

    /// Inserts the members that their collection lacks.
    async fn insert_members(
        &self,
        name: &str,
        members: &[Membership],
        deadline: Instant,
    ) -> Result<(), Error> {
        let documents = self.members.clone_with_type::<Document>();
        let new: Vec<Document> = members.iter().map(|membership| document(name, membership)).collect();
        for new in new.chunks(STATEMENT) {
            let insert = documents.write(Operation::Insert, async |members| {
                match members.insert_many(new).ordered(false).await {
                    Err(error) if are_present(&error) => Ok(()),
                    result => result.map(drop),
                }
            });
            with_deadline(deadline, insert).await?;
        }
        Ok(())
    }
}

fn document(room: &str, membership: &Membership) -> Document {
    let mut document = membership.document(room);
    document.insert("_id", membership.id(room));
    document
}

/// Whether documents were not inserted only because they exist already.
fn are_present(error: &MongoError) -> bool {
    let ErrorKind::InsertMany(failed) = &*error.kind else { return false };
    let mut errors = failed.write_errors.iter().flatten();
    failed.write_concern_error.is_none() && errors.all(|error| error.code == DUPLICATE_KEY)
}

fn is_damaged(error: &Error) -> bool {
    error.to_string().contains("damaged")
}

async fn refuse_nodes(caller: &dyn Caller) -> Result<(), MigrationError> {
    let nodes = caller.running_nodes().await.map_err(MigrationError::Nodes)?;
    if nodes.is_empty() { Ok(()) } else { Err(MigrationError::NodesRun(nodes)) }
}
