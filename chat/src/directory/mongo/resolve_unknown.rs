//! Completion of changes. A change runs to its end even if its caller is cancelled. If the answer of MongoDB is lost, the unknown outcome
//! is resolved afterwards.

use std::time::Duration;

use mongodb::bson::{doc, oid::ObjectId};
use proto::RoomName;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};

use super::{MongoDirectory, change::RoomUpdate};
use crate::{
    Error,
    directory::{Committed, Decision, RoomChange},
    mongo::{DEADLINE, damaged, deadline_now, with_deadline},
};

/// Time after which the resolution of an unknown outcome is given up.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(600);

/// Delay between two attempts to resolve an unknown outcome.
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// Number of reads that find no room after which the creation of a room is considered not executed.
const MAX_ABSENT_READS: u32 = 60;

/// The outcome of a change.
pub enum Outcome<T> {
    /// The change was written.
    Changed(T, RoomChange),
    /// There was nothing to change.
    Unchanged(T),
    /// Nothing was written.
    Refused(Error),
    /// The write was sent and was not answered. It can still change the room.
    Unknown { write: Unanswered, error: Error },
}

/// A write without an answer. It can change the room only while the room has this version.
pub struct Unanswered {
    /// The version of the room before it.
    pub version: i64,
    /// The id of the write in the room's latest changes.
    pub attempt: ObjectId,
    /// The change.
    pub decision: Decision,
}

impl MongoDirectory {
    /// Runs a change in a task of its own, so that it completes even if the caller is cancelled. A change without an outcome within the
    /// deadline is an error for the caller. `committed` is called when the change is written, even if that is found out later.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        room: RoomName,
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
                Outcome::Unknown { write, error } => (Err(error), Some((write, committed))),
            };
            // The caller may have been cancelled.
            let _ = sender.send(result);
            if let Some((write, committed)) = unknown {
                this.resolve_unknown(&room, write, committed).await;
            }
        });
        receiver.await.unwrap_or_else(|_| Err(Error::Store("a change ended without an outcome".to_owned())))
    }

    /// Resolves the outcome of a write. It first writes an empty change to the version of the write: if this succeeds, the original write
    /// can no longer apply, because it requires that version. Otherwise the room's latest changes contain the write if it was applied.
    pub(super) async fn resolve_unknown(&self, room: &RoomName, write: Unanswered, committed: Committed) {
        let Unanswered { version, attempt, decision } = write;
        let (give_up_at, mut absent_reads) = (Instant::now() + RESOLVE_TIMEOUT, 0);
        while Instant::now() < give_up_at {
            sleep(RETRY_DELAY).await;
            let empty = RoomUpdate::default();
            match self.write(room, version, (&empty, ObjectId::new(), None), deadline_now()).await {
                Ok(true) => return self.apply_later(room),
                Ok(false) => (),
                Err(_) => continue,
            }
            match self.applied(room, version, attempt).await {
                // The write that changed the version is not on a majority yet.
                Ok(Some(Applied::Unknown)) => (),
                Ok(Some(Applied::Yes)) => {
                    let rev = u64::try_from(version).unwrap_or(0) + 1;
                    self.apply_later(room);
                    return committed(decision.committed(rev, None));
                }
                Ok(Some(Applied::No)) => return,
                Ok(None) if absent_reads == MAX_ABSENT_READS => return,
                Ok(None) => absent_reads += 1,
                Err(_) => (),
            }
        }
        tracing::warn!(%room, "gave up resolving the unknown outcome of a room change");
    }

    /// Whether the write `attempt` has changed the room at `version`. `None` when the room does not exist.
    async fn applied(
        &self,
        room: &RoomName,
        version: i64,
        attempt: ObjectId,
    ) -> Result<Option<Applied>, Error> {
        let latest = doc! { "$elemMatch": { "version": version + 1 } };
        let found = self
            .rooms
            .find_one(doc! { "_id": room.as_str() })
            .projection(doc! { "version": 1, "recent": latest })
            .max_time(DEADLINE);
        let Some(found) = with_deadline(deadline_now(), found).await? else { return Ok(None) };
        if found.get_i64("version").map_err(damaged)? <= version {
            return Ok(Some(Applied::Unknown));
        }
        let change = found.get_array("recent").ok().and_then(|recent| recent.first()?.as_document());
        let is_own =
            change.is_some_and(|change| change.get_object_id("attempt").is_ok_and(|id| id == attempt));
        Ok(Some(if is_own { Applied::Yes } else { Applied::No }))
    }
}

/// Whether a write without an answer was applied.
enum Applied {
    Yes,
    No,
    /// The room still has the version at which the write applies.
    Unknown,
}
