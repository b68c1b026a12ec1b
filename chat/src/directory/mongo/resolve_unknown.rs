//! Completion of changes: a change runs to its end also when its caller is cancelled, and a commit whose answer was lost is repeated
//! afterwards.

use std::time::Duration;

use mongodb::{ClientSession, bson::doc};
use proto::RoomName;
use remote::mongo::{Operation, is_unknown_commit};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, timeout},
};

use super::MongoDirectory;
use crate::{
    Error,
    directory::{Committed, RoomChange},
    mongo::{DEADLINE, deadline_now, with_deadline},
};

/// Time after which the resolution of an unknown outcome is given up.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(600);

/// Delay between two attempts to resolve an unknown outcome.
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// The outcome of a change.
pub enum Outcome<T> {
    /// The change was written.
    Changed(T, RoomChange),
    /// There was nothing to change.
    Unchanged(T),
    /// Nothing was written.
    Refused(Error),
    /// The commit was sent and was not answered.
    Unknown(Box<Unknown>),
}

/// A commit without an answer.
pub struct Unknown {
    /// The session of the transaction. The commit can be repeated in it: MongoDB executes it at most once.
    pub session: ClientSession,
    /// The change.
    pub change: RoomChange,
    /// The error of the last attempt.
    pub error: Error,
}

impl MongoDirectory {
    /// Runs a change in a task of its own, so that it completes also when the caller is cancelled. A change without an outcome within the
    /// deadline is an error for the caller. `committed` is called when the change is committed, also if that is found out later.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        committed: Committed,
        work: impl Future<Output = Outcome<T>> + Send + 'static,
    ) -> Result<T, Error> {
        let (sender, receiver) = oneshot::channel();
        let this = self.clone();
        tokio::spawn(async move {
            let (result, unknown) = match work.await {
                Outcome::Changed(value, change) => {
                    committed(change);
                    (Ok(value), None)
                }
                Outcome::Unchanged(value) => (Ok(value), None),
                Outcome::Refused(error) => (Err(error), None),
                Outcome::Unknown(unknown) => (Err(unknown.error.clone()), Some((unknown, committed))),
            };
            // The caller may have been cancelled.
            let _ = sender.send(result);
            if let Some((unknown, committed)) = unknown {
                this.resolve_unknown(*unknown, committed).await;
            }
        });
        receiver.await.unwrap_or_else(|_| Err(Error::Store("a change ended without an outcome".to_owned())))
    }

    /// Repeats a commit until MongoDB answers it.
    async fn resolve_unknown(&self, unknown: Unknown, committed: Committed) {
        let Unknown { mut session, change, .. } = unknown;
        let (room, give_up_at) = (change.room.clone(), Instant::now() + RESOLVE_TIMEOUT);
        while Instant::now() < give_up_at {
            sleep(RETRY_DELAY).await;
            match timeout(DEADLINE, self.commit(&mut session)).await {
                Ok(Ok(())) => {
                    self.mark_changed(&room).await;
                    return committed(change);
                }
                Err(_) => {}
                Ok(Err(error)) if is_unknown_commit(&error) => {}
                Ok(Err(error)) => {
                    tracing::debug!(%room, %error, "a change of a room whose commit was not answered was not committed");
                    return;
                }
            }
        }
        tracing::warn!(%room, "gave up resolving the unknown outcome of a room change");
    }

    /// Makes the room one that has changed recently. Its change may have the time of its statement, which was long before the commit, and
    /// nodes read only rooms that have changed within seconds.
    async fn mark_changed(&self, room: &RoomName) {
        let now = doc! { "$currentDate": { "changed": true } };
        let write = self.rooms.write(Operation::Update, async |rooms| {
            rooms.update_one(doc! { "_id": room.as_str() }, now).await
        });
        if let Err(error) = with_deadline(deadline_now(), write).await {
            tracing::debug!(%room, %error, "the time of a change cannot be stored: nodes read it from the stream, or within a minute");
        }
    }
}
