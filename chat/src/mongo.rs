//! How MongoDB is asked: durable writes, reads of what a majority has, and never for long. Called by the MongoDB backends.

use std::{
    future::{Future, IntoFuture},
    time::Duration,
};

use mongodb::{
    Collection, Database,
    bson::DateTime,
    error::{Error as MongoError, ErrorKind},
    options::{
        Acknowledgment, CollectionOptions, IndexOptions, ReadConcern, ReadPreference, SelectionCriteria,
        WriteConcern,
    },
};
use proto::Timestamp;
use tokio::time::{Instant, timeout_at};

use crate::{Error, column::integer};

/// How long one call may take, the choice of a server included; shorter than [`crate::config::STORE_DEADLINE`], so that the
/// refusal is the store's own.
pub(crate) const DEADLINE: Duration = Duration::from_millis(3500);

/// How long creating the indexes of what is there already may take.
pub(crate) const PREPARATION: Duration = Duration::from_secs(60);

/// How long a write may wait for the majority; what takes longer has no known outcome.
const MAJORITY: Duration = Duration::from_secs(3);

/// What a write says that would make a second document under a unique key.
pub(crate) const DUPLICATE_KEY: i32 = 11_000;

/// What the creation of an index says when there is another one of its name or its keys.
const ANOTHER_INDEX: [i32; 2] = [85, 86];

/// A collection whose writes are on a majority's disks before they are answered. It is read at the primary, and only what a
/// majority has, whatever the address says.
pub(crate) fn collection<T: Send + Sync>(database: &Database, name: &str) -> Collection<T> {
    let durable =
        WriteConcern::builder().w(Acknowledgment::Majority).journal(true).w_timeout(MAJORITY).build();
    let options = CollectionOptions::builder()
        .write_concern(durable)
        .read_concern(ReadConcern::majority())
        .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary))
        .build();
    database.collection_with_options(name, options)
}

/// A unique index by its name.
pub(crate) fn unique(name: &str) -> IndexOptions {
    IndexOptions::builder().name(name.to_owned()).unique(true).build()
}

/// When a call that begins now is over.
pub(crate) fn due() -> Instant {
    Instant::now() + DEADLINE
}

/// What `work` comes to, if it does in time. Afterwards a write has no known outcome.
pub(crate) async fn within<T, E: Into<Error>>(
    due: Instant,
    work: impl IntoFuture<Output = Result<T, E>, IntoFuture: Future>,
) -> Result<T, Error> {
    let late = |_| Error::Store("MongoDB does not answer in time".to_owned());
    timeout_at(due, work.into_future()).await.map_err(late)?.map_err(Into::into)
}

impl From<MongoError> for Error {
    fn from(error: MongoError) -> Self {
        match &*error.kind {
            ErrorKind::Bson(_) | ErrorKind::BsonDeserialization(_) => damaged(error),
            _ => Self::Store(error.to_string()),
        }
    }
}

/// A document is not as this code wrote it.
pub(crate) fn damaged(why: impl std::fmt::Display) -> Error {
    Error::Store(format!("a document is damaged: {why}"))
}

/// Why the indexes of `collection` cannot be.
pub(crate) fn unprepared(collection: &str, error: MongoError) -> Error {
    let ErrorKind::Command(refused) = &*error.kind else { return error.into() };
    let why = match refused.code {
        DUPLICATE_KEY => "holds two documents where one must be",
        code if ANOTHER_INDEX.contains(&code) => "has another index in the place of one that is needed",
        _ => return error.into(),
    };
    Error::Store(format!("the collection {collection} {why}: {}", refused.message))
}

/// A number that was stored with [`integer`].
pub(crate) fn number(value: i64) -> Result<u64, Error> {
    u64::try_from(value).map_err(|_| damaged(format_args!("{value} is not a number of ours")))
}

/// A time as MongoDB has it.
pub(crate) fn date(timestamp: Timestamp) -> DateTime {
    DateTime::from_millis(integer(timestamp.0))
}

/// A time that was stored with [`date`].
pub(crate) fn timestamp(date: DateTime) -> Result<Timestamp, Error> {
    number(date.timestamp_millis()).map(Timestamp)
}
