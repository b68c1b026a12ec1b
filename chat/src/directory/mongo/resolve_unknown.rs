//! Completion of changes. A change runs to its end even if its caller is cancelled. If the answer of MongoDB is lost, the unknown outcome
//! is resolved afterwards.

use std::time::Duration;

use mongodb::bson::doc;
use proto::RoomName;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};

use super::{Change, MongoDirectory, changes::ChangeEntry};
use crate::{
    Error,
    directory::{Committed, RoomChange, RoomRecord},
    mongo::deadline_now,
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
    /// The write was sent and was not answered. It can still change the room, but only while the room has this version.
    Unknown { version: i64, error: Error },
}

impl MongoDirectory {
    /// Runs a change in a task of its own, so that it completes even if the caller is cancelled. A change without an outcome within the
    /// deadline is an error for the caller. `committed` is called when the change is written, even if that is found out later.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        room: RoomName,
        change: Change,
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
                Outcome::Unknown { version, error } => (Err(error), Some((version, committed))),
            };
            // The caller may have been cancelled.
            let _ = sender.send(result);
            if let Some((version, committed)) = unknown {
                this.resolve_unknown(&room, version, &change, committed).await;
            }
        });
        receiver.await.unwrap_or_else(|_| Err(Error::Store("a change ended without an outcome".to_owned())))
    }

    /// Resolves the outcome of a change of the room at `version`. It first writes an empty change to that version: if this succeeds, the
    /// original write can no longer apply, because it requires `version`.
    pub(super) async fn resolve_unknown(
        &self,
        room: &RoomName,
        version: i64,
        change: &Change,
        committed: Committed,
    ) {
        let (give_up_at, mut absent_reads) = (Instant::now() + RESOLVE_TIMEOUT, 0);
        while Instant::now() < give_up_at {
            sleep(RETRY_DELAY).await;
            match self.write(room, version, (doc! {}, &ChangeEntry::empty()), deadline_now()).await {
                Ok(true) => return,
                Ok(false) => (),
                Err(_) => continue,
            }
            match self.load(room, deadline_now()).await {
                // The write that changed the version is not on a majority yet.
                Ok(Some(found)) if found.version == version => (),
                Ok(Some(found)) if found.reflects(change) => {
                    return match found.record(room.clone()) {
                        Ok(record) => committed(resolved(room, version, change, &record)),
                        Err(error) => tracing::warn!(%room, %error, "a room that was changed cannot be read"),
                    };
                }
                Ok(Some(_)) => return,
                Ok(None) if absent_reads == MAX_ABSENT_READS => return,
                Ok(None) => absent_reads += 1,
                Err(_) => (),
            }
        }
        tracing::warn!(%room, "gave up resolving the unknown outcome of a room change");
    }
}

/// The change that was written to the room at `version`, with the changed parts in their present state.
fn resolved(room: &RoomName, version: i64, change: &Change, record: &RoomRecord) -> RoomChange {
    let rev = u64::try_from(version).unwrap_or(0) + 1;
    ChangeEntry::of(change, record, &record.members).committed(room, rev)
}
