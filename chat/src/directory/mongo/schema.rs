//! The form of the stored rooms. Version 1 has the members in the documents of rooms; version 2 has them in a collection of their own. The
//! collection `schema` has the version. A database without rooms gets version 2. Rooms of version 1 are changed by [`super::migration`].
//!
//! Chat nodes of earlier releases do not read the version. Two indexes of the collection of rooms stop them. [`BLOCK`] has the name of an
//! index that they create at their start, and other keys, so their start waits. [`GUARD`] is unique for all documents with the field
//! `members`, as every room of version 1 has; the [`PLACEHOLDER`] takes the only place, so that no such room can be created. They need no
//! right beyond readWrite, which the validator of a collection needs.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use mongodb::{
    IndexModel,
    bson::{Document, doc},
    error::Error as MongoError,
    options::IndexOptions,
};
use proto::Username;
use remote::mongo::{Documents, Operation, Store};
use tokio::time::Instant;

use super::{COLLECTION, MongoDirectory};
use crate::{
    Error,
    column::integer,
    mongo::{DEADLINE, PREPARATION, collection, damaged, deadline_now, number, unprepared, with_deadline},
};

/// The version that this release reads and writes.
pub const VERSION: u64 = 2;

/// The `_id` of the document.
const ID: &str = "chat";

/// The name of the unique index. The log of a node of an earlier release shows it when the index refuses a room.
pub const GUARD: &str = "stop_chat_nodes_of_earlier_releases";

/// The name of the index that prevents the start of nodes of earlier releases, which create an index of this name for the members in
/// the documents of rooms.
pub const BLOCK: &str = "members";

/// The key of [`BLOCK`]. The log of a node of an earlier release shows it.
const BLOCK_KEY: &str = "stops_chat_nodes_of_earlier_releases";

/// The `_id` of the document that takes the place of a room of version 1. No room has a name like this.
const PLACEHOLDER: &str = "no room of version 1";

/// The indexes of members in the documents of rooms, with their keys, as earlier releases create them.
const EARLIER_INDEXES: [(&str, &str); 2] = [(BLOCK, "members.key"), ("adders", "members.by_key")];

/// Why the start of a chat node of this release is refused.
const UNMIGRATED: &str = "the rooms in MongoDB have the form of an earlier release: stop all chat nodes, run `godzilla migrate --up` with the addresses of MongoDB and Redis, and start the chat nodes of this release";

/// The form of the stored rooms. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Schema {
    versions: Documents<Document>,
    /// Whether the rooms have had [`VERSION`].
    is_current: Arc<AtomicBool>,
}

impl Schema {
    /// The form of the rooms in `store`.
    pub fn new(store: &Store) -> Self {
        Self { versions: collection(store, "schema"), is_current: Arc::default() }
    }
}

impl MongoDirectory {
    /// Why a chat node of this release must not start on this database, as a sentence. `None` when its rooms have the form of this release,
    /// or there are no rooms; then the version is recorded.
    ///
    /// # Errors
    /// When MongoDB does not answer or refuses.
    pub async fn refusal(&self) -> Result<Option<String>, Error> {
        let deadline = deadline_now();
        let refusal = self.refusal_without_writes().await?;
        if refusal.is_none() {
            let is_recorded =
                self.version(deadline).await? == Some(VERSION) && self.is_guarded(deadline).await?;
            if !is_recorded && !self.record_version(deadline).await? {
                return Ok(Some(UNMIGRATED.to_owned()));
            }
            self.schema.is_current.store(true, Ordering::Relaxed);
        }
        Ok(refusal)
    }

    /// Why a chat node of this release must not start on this database, as a sentence. `None` when it may. For the doctor.
    ///
    /// # Errors
    /// When MongoDB does not answer or refuses.
    pub async fn refusal_without_writes(&self) -> Result<Option<String>, Error> {
        let deadline = deadline_now();
        let is_migrated = match self.version(deadline).await? {
            Some(version) if version > VERSION => {
                return Ok(Some(format!(
                    "the rooms in MongoDB have the form {version} of a later release, and this release reads {VERSION}: use that release"
                )));
            }
            Some(version) if version == VERSION => self.is_guarded(deadline).await?,
            _ => false,
        };
        let is_refused = !is_migrated && self.has_rooms_of_version_1(deadline).await?;
        Ok(is_refused.then(|| UNMIGRATED.to_owned()))
    }

    /// The recorded version. `None` for a database without rooms, and for one of an earlier release.
    pub(super) async fn version(&self, deadline: Instant) -> Result<Option<u64>, Error> {
        let found = self.schema.versions.find_one(doc! { "_id": ID }).max_time(DEADLINE);
        let found = with_deadline(deadline, found).await?;
        found.map(|found| number(found.get_i64("version").map_err(damaged)?)).transpose()
    }

    /// Whether a room has the form of version 1. Reads all rooms when no room has it.
    async fn has_rooms_of_version_1(&self, deadline: Instant) -> Result<bool, Error> {
        let found =
            self.rooms.find_one(rooms_of_version_1()).projection(doc! { "_id": 1 }).max_time(DEADLINE);
        Ok(with_deadline(deadline, found).await?.is_some())
    }

    /// Whether the indexes and the placeholder exist.
    async fn is_guarded(&self, deadline: Instant) -> Result<bool, Error> {
        let placeholder = self.rooms.find_one(doc! { "_id": PLACEHOLDER, "members": { "$exists": true } });
        if with_deadline(deadline, placeholder.max_time(DEADLINE)).await?.is_none() {
            return Ok(false);
        }
        let indexes = with_deadline(deadline, self.rooms.indexes()).await?;
        Ok(has_index(&indexes, GUARD, "version_1") && has_index(&indexes, BLOCK, BLOCK_KEY))
    }

    /// Stops nodes of earlier releases, and records the version. Returns whether there are no rooms of version 1.
    pub(super) async fn record_version(&self, deadline: Instant) -> Result<bool, Error> {
        self.block_earlier_releases(deadline).await?;
        if !self.create_guard(deadline).await? {
            return Ok(false);
        }
        let write = self.schema.versions.write(Operation::Update, async |versions| {
            let version = doc! { "$max": { "version": integer(VERSION) } };
            versions.update_one(doc! { "_id": ID }, version).upsert(true).await
        });
        with_deadline(deadline, write).await?;
        self.schema.is_current.store(true, Ordering::Relaxed);
        Ok(true)
    }

    /// Creates the guard. Returns whether there are no rooms of version 1.
    async fn create_guard(&self, deadline: Instant) -> Result<bool, Error> {
        let options = IndexOptions::builder()
            .name(GUARD.to_owned())
            .unique(true)
            .partial_filter_expression(doc! { "members": { "$exists": true } })
            .build();
        let guard = IndexModel::builder().keys(doc! { "version_1": 1 }).options(options).build();
        let create = self.rooms.write(Operation::Index, async |rooms| rooms.create_indexes([guard]).await);
        match with_deadline::<_, MongoError>(deadline, async { Ok(create.await) }).await? {
            Err(error) if self.rooms.is_duplicate(&error) => Ok(false),
            created => created.map(|_| true).map_err(|error| unprepared(COLLECTION, error)),
        }
    }

    /// Creates the indexes that stop nodes of earlier releases again, if they were dropped after the start.
    pub(super) async fn restore_guard(&self) -> Result<(), Error> {
        let deadline = Instant::now() + PREPARATION;
        if !self.schema.is_current.load(Ordering::Relaxed) || self.is_guarded(deadline).await? {
            return Ok(());
        }
        self.block_earlier_releases(deadline).await?;
        match self.create_guard(deadline).await? {
            true => Ok(()),
            false => Err(Error::Store(UNMIGRATED.to_owned())),
        }
    }

    /// Prevents the start of nodes of earlier releases.
    pub(super) async fn block_earlier_releases(&self, deadline: Instant) -> Result<(), Error> {
        let create = self.rooms.write(Operation::Update, async |rooms| {
            let set = doc! { "$setOnInsert": { "archived": true, "members": [] } };
            rooms.update_one(doc! { "_id": PLACEHOLDER }, set).upsert(true).await
        });
        match with_deadline::<_, MongoError>(deadline, async { Ok(create.await) }).await? {
            // A room of version 1 has the place, which the guard reports.
            Err(error) if self.rooms.is_duplicate(&error) => {}
            result => drop(result?),
        }
        let indexes = with_deadline(deadline, self.rooms.indexes()).await?;
        for (name, key) in EARLIER_INDEXES {
            if has_index(&indexes, name, key) {
                let drop = self.rooms.write(Operation::Index, async |rooms| rooms.drop_index(name).await);
                with_deadline(deadline, drop).await?;
            }
        }
        let options = IndexOptions::builder().name(BLOCK.to_owned());
        let options = options.partial_filter_expression(doc! { "_id": PLACEHOLDER }).build();
        let block = IndexModel::builder().keys(doc! { BLOCK_KEY: 1 }).options(options).build();
        let create = self.rooms.write(Operation::Index, async |rooms| rooms.create_indexes([block]).await);
        let created = with_deadline::<_, MongoError>(deadline, async { Ok(create.await) }).await?;
        created.map(drop).map_err(|error| unprepared(COLLECTION, error))
    }

    /// Admits nodes of earlier releases again, because a migration does not begin.
    pub(super) async fn admit_earlier_releases(&self, deadline: Instant) -> Result<(), Error> {
        let drop = self.rooms.write(Operation::Index, async |rooms| rooms.drop_index(BLOCK).await);
        with_deadline(deadline, drop).await?;
        let delete = self
            .rooms
            .write(Operation::Delete, async |rooms| rooms.delete_one(doc! { "_id": PLACEHOLDER }).await);
        with_deadline(deadline, delete).await?;
        let indexes = EARLIER_INDEXES.map(|(name, key)| {
            let options = IndexOptions::builder().name(name.to_owned()).build();
            IndexModel::builder().keys(doc! { key: 1 }).options(options).build()
        });
        let create = self.rooms.write(Operation::Index, async |rooms| rooms.create_indexes(indexes).await);
        with_deadline(deadline, create).await.map(std::mem::drop)
    }

    /// Whether a user of this name is a member of a room of version 1. Such rooms exist until they are migrated.
    pub(super) async fn is_member_in_version_1(&self, name: &Username) -> Result<bool, Error> {
        let deadline = deadline_now();
        if self.schema.is_current.load(Ordering::Relaxed) {
            return Ok(false);
        }
        if self.version(deadline).await? == Some(VERSION) {
            self.schema.is_current.store(true, Ordering::Relaxed);
            return Ok(false);
        }
        let found = self.rooms.find_one(doc! { "members.key": name.key() }).projection(doc! { "_id": 1 });
        Ok(with_deadline(deadline, found.max_time(DEADLINE)).await?.is_some())
    }
}

fn has_index(indexes: &[IndexModel], name: &str, key: &str) -> bool {
    indexes.iter().any(|index| {
        let options = index.options.as_ref();
        options.and_then(|options| options.name.as_deref()) == Some(name) && index.keys.contains_key(key)
    })
}

/// The filter for rooms of version 1.
pub(super) fn rooms_of_version_1() -> Document {
    doc! { "members": { "$exists": true }, "_id": { "$ne": PLACEHOLDER } }
}
