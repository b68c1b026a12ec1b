//! Shared code of the MongoDB backends: a deadline for several calls, conversion of errors, and conversion of numbers and times to BSON.
//! [`remote::mongo`] defines write and read concerns.

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
pub(crate) use remote::mongo::DEADLINE;
use tokio::time::{Instant, timeout_at};

use crate::{Error, column::integer};

// The MongoDB backend must report its own timeout before the caller's deadline expires.
const _: () = assert!(DEADLINE.as_millis() < crate::config::STORE_DEADLINE.as_millis());

/// Name of the collection of messages.
pub(crate) const MESSAGES: &str = "messages";

/// Name of the collection of rooms.
pub(crate) const ROOMS: &str = "rooms";

/// Deadline of the creation of indexes of existing collections at start.
pub(crate) const PREPARATION: Duration = Duration::from_secs(60);

/// Options of a unique index with this name.
pub(crate) fn unique(name: &str) -> IndexOptions {
    IndexOptions::builder().name(name.to_owned()).unique(true).build()
}

/// The deadline of a call that starts now.
pub(crate) fn deadline_now() -> Instant {
    Instant::now() + DEADLINE
}

/// Runs `work` until the deadline. The outcome of a write that exceeds it is unknown.
pub(crate) async fn with_deadline<T, E: Into<Error>>(
    deadline: Instant,
    work: impl IntoFuture<Output = Result<T, E>, IntoFuture: Future>,
) -> Result<T, Error> {
    let timed_out = |_| Error::Store("MongoDB does not answer in time".to_owned());
    timeout_at(deadline, work.into_future()).await.map_err(timed_out)?.map_err(Into::into)
}

impl From<MongoError> for Error {
    fn from(error: MongoError) -> Self {
        match &*error.kind {
            ErrorKind::Bson(_) | ErrorKind::BsonDeserialization(_) => damaged(error),
            _ => Self::Store(format!("MongoDB: {error}")),
        }
    }
}

/// Counts a failed write of `data` without which the chat works.
pub(crate) fn count_failure(data: &'static str) {
    metrics::counter!("godzilla_chat_optional_writes_failed_total", "data" => data).increment(1);
}

/// The error of a document that this code cannot have written.
pub(crate) fn damaged(why: impl std::fmt::Display) -> Error {
    Error::Store(format!("a document is damaged: {why}"))
}

/// A number that was stored with [`integer`].
pub(crate) fn number(value: i64) -> Result<u64, Error> {
    u64::try_from(value).map_err(|_| damaged(format_args!("{value} is negative")))
}

/// A time as BSON.
pub(crate) fn date(timestamp: Timestamp) -> DateTime {
    DateTime::from_millis(integer(timestamp.0))
}

/// A time that was stored with [`date`].
pub(crate) fn timestamp(date: DateTime) -> Result<Timestamp, Error> {
    number(date.timestamp_millis()).map(Timestamp)
}
