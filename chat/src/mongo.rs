//! How the MongoDB backends ask: several calls under one deadline, refusals in the chat's own words, numbers and times as BSON has
//! them. Durability is [`remote::mongo`]'s.

use std::{
    future::{Future, IntoFuture},
    time::Duration,
};

use mongodb::{
    bson::DateTime,
    error::{Error as MongoError, ErrorKind},
    options::IndexOptions,
};
use proto::Timestamp;
pub(crate) use remote::mongo::{DEADLINE, DUPLICATE_KEY, collection, is_duplicate};
use tokio::time::{Instant, timeout_at};

use crate::{Error, column::integer};

// So that the refusal is the store's own.
const _: () = assert!(DEADLINE.as_millis() < crate::config::STORE_DEADLINE.as_millis());

/// How long creating the indexes of what is there already may take.
pub(crate) const PREPARATION: Duration = Duration::from_secs(60);

/// What the creation of an index says when there is another one of its name or its keys.
const ANOTHER_INDEX: [i32; 2] = [85, 86];

/// What is said of a collection that contradicts a unique index.
pub(crate) const TWICE: &str = "holds two documents where one must be";

/// A unique index by its name.
pub(crate) fn unique(name: &str) -> IndexOptions {
    IndexOptions::builder().name(name.to_owned()).unique(true).build()
}

/// When a call that begins now is over.
pub(crate) fn deadline_now() -> Instant {
    Instant::now() + DEADLINE
}

/// What `work` comes to, if it does in time. Afterwards a write has no known outcome.
pub(crate) async fn with_deadline<T, E: Into<Error>>(
    deadline_now: Instant,
    work: impl IntoFuture<Output = Result<T, E>, IntoFuture: Future>,
) -> Result<T, Error> {
    let late = |_| Error::Store("MongoDB does not answer in time".to_owned());
    timeout_at(deadline_now, work.into_future()).await.map_err(late)?.map_err(Into::into)
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
        DUPLICATE_KEY => TWICE,
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
