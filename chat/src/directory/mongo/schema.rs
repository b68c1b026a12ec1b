//! The form of the stored rooms. Version 1 has the members in the documents of rooms; version 2 has them in a collection of their own. The
//! collection `schema` has the version. A database without rooms gets version 2. Rooms of version 1 are changed by [`super::migration`].
//!
//! Chat nodes of earlier releases do not read the version. A unique index on the documents that have the field `version`, as every room of
//! version 1 has, admits one such document, and a document that is not a room takes this place. So these nodes can neither create rooms nor
//! put back rooms of version 1. While the index and this document exist, no room has the form of version 1. Another index has the name of
//! one that these nodes create at their start, and other keys, so their start waits.

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
use remote::mongo::{Documents, Operation, Store, is_duplicate_in};
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
const BLOCK: &str = "members";

/// The key of [`BLOCK`]. The log of a node of an earlier release shows it.
const BLOCK_KEY: &str = "stops_chat_nodes_of_earlier_releases";

/// The `_id` of the document that takes the place of a room of version 1. No room has a name like this.
pub const PLACEHOLDER: &str = "no room of version 1";

/// The indexes of members in the documents of rooms, with their keys, as earlier releases create them.
const EARLIER_INDEXES: [(&str, &str); 2] = [(BLOCK, "members.key"), ("adders", "members.by_key")];

/// The start of a chat node of this release is refused.
const UNMIGRATED: &str = "the rooms in MongoDB have the form of an earlier release: stop all chat nodes, run `godzilla migrate` with the addresses of MongoDB and Redis, and start the chat nodes of this release";

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
        match self.version(deadline).await? {
            Some(version) if version > VERSION => {
                return Ok(Some(format!(
                    "the rooms in MongoDB have the form {version} of a later release, and this release reads {VERSION}: use that release"
                )));
            }
            Some(version) if version == VERSION && self.is_guarded(deadline).await? => {}
            _ if self.has_rooms_of_version_1(deadline).await? => return Ok(Some(UNMIGRATED.to_owned())),
            _ if !self.record_version(deadline).await? => return Ok(Some(UNMIGRATED.to_owned())),
            _ => {}
        }
        self.schema.is_current.store(true, Ordering::Relaxed);
        Ok(None)
    }

    /// The recorded version. `None` for a database without rooms, and for one of an earlier release.
    pub(super) async fn version(&self, deadline: Instant) -> Result<Option<u64>, Error> {
        let found = self.schema.versions.find_one(doc! { "_id": ID }).max_time(DEADLINE);
        let found = with_deadline(deadline, found).await?;
        found.map(|found| number(found.get_i64("version").map_err(damaged)?)).transpose()
    }

    /// Whether a room has the form of version 1. Without the guard it reads all rooms.
    pub(super) async fn has_rooms_of_version_1(&self, deadline: Instant) -> Result<bool, Error> {
        let rooms = self.rooms.clone_with_type::<Document>();
        let found = rooms.find_one(rooms_of_version_1()).projection(doc! { "_id": 1 }).max_time(DEADLINE);
        Ok(with_deadline(deadline, found).await?.is_some())
    }

    /// Whether the guard and the placeholder exist.
    async fn is_guarded(&self, deadline: Instant) -> Result<bool, Error> {
        let rooms = self.rooms.clone_with_type::<Document>();
        let placeholder = rooms.find_one(doc! { "_id": PLACEHOLDER, "version": { "$exists": true } });
        if with_deadline(deadline, placeholder.max_time(DEADLINE)).await?.is_none() {
            return Ok(false);
        }
        let indexes = with_deadline(deadline, rooms.indexes()).await?;
        let names: Vec<_> =
            indexes.iter().filter_map(|index| index.options.as_ref()?.name.as_deref()).collect();
        Ok([GUARD, BLOCK].iter().all(|name| names.contains(name)))
    }

    /// Creates the placeholder and the guard, and records the version. Returns whether there are no rooms of version 1.
    pub(super) async fn record_version(&self, deadline: Instant) -> Result<bool, Error> {
        let create = self.rooms.clone_with_type::<Document>();
        let create = create.write(Operation::Update, async |rooms| {
            let set = doc! { "$setOnInsert": { "version": 0_i64, "archived": true } };
            rooms.update_one(doc! { "_id": PLACEHOLDER }, set).upsert(true).await
        });
        match with_deadline::<_, MongoError>(deadline, async { Ok(create.await) }).await? {
            Err(error) if is_duplicate_in(&error, GUARD) => return Ok(false),
            result => drop(result?),
        }
        self.block_earlier_releases(deadline).await?;
        if !self.create_guard(deadline).await? {
            return Ok(false);
        }
        let write = self.schema.versions.write(Operation::Update, async |versions| {
            let version = doc! { "$max": { "version": integer(VERSION) } };
            versions.update_one(doc! { "_id": ID }, version).upsert(true).await
        });
        with_deadline(deadline, write).await?;
        Ok(true)
    }

    /// Creates the guard. Returns whether there are no rooms of version 1.
    async fn create_guard(&self, deadline: Instant) -> Result<bool, Error> {
        let options = IndexOptions::builder()
            .name(GUARD.to_owned())
            .unique(true)
            .partial_filter_expression(doc! { "version": { "$exists": true } })
            .build();
        let guard = IndexModel::builder().keys(doc! { "version_1": 1 }).options(options).build();
        let create = self.rooms.write(Operation::Index, async |rooms| rooms.create_indexes([guard]).await);
        match with_deadline::<_, MongoError>(deadline, async { Ok(create.await) }).await? {
            Err(error) if is_duplicate_in(&error, GUARD) => Ok(false),
            created => created.map(|_| true).map_err(|error| unprepared(COLLECTION, error)),
        }
    }

    /// Creates the indexes that stop nodes of earlier releases again, if they were dropped after the start.
    pub(super) async fn restore_guard(&self) -> Result<(), Error> {
        if !self.schema.is_current.load(Ordering::Relaxed) {
            return Ok(());
        }
        let deadline = Instant::now() + PREPARATION;
        self.block_earlier_releases(deadline).await?;
        match self.create_guard(deadline).await? {
            true => Ok(()),
            false => Err(Error::Store(UNMIGRATED.to_owned())),
        }
    }

    /// Prevents the start of nodes of earlier releases.
    pub(super) async fn block_earlier_releases(&self, deadline: Instant) -> Result<(), Error> {
        let rooms = self.rooms.clone_with_type::<Document>();
        let indexes = with_deadline(deadline, rooms.indexes()).await?;
        let has = |name: &str, key: &str| {
            let is_it = |index: &IndexModel| {
                let options = index.options.as_ref();
                options.and_then(|options| options.name.as_deref()) == Some(name)
                    && index.keys.contains_key(key)
            };
            indexes.iter().any(is_it)
        };
        for (name, key) in EARLIER_INDEXES {
            if has(name, key) {
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
        let rooms = self.rooms.clone_with_type::<Document>();
        let found = rooms.find_one(doc! { "members.key": name.key() }).projection(doc! { "_id": 1 });
        Ok(with_deadline(deadline, found.max_time(DEADLINE)).await?.is_some())
    }
}

/// The filter for rooms of version 1.
pub(super) fn rooms_of_version_1() -> Document {
    doc! { "version": { "$exists": true }, "_id": { "$ne": PLACEHOLDER } }
}
