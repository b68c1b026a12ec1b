//! Seeing a change through: also when whoever asked for it does not wait any more, and when MongoDB's answer was lost.

use std::time::Duration;

use mongodb::bson::doc;
use proto::RoomName;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};

use super::{Change, MongoDirectory, Noted};
use crate::{Error, directory::Committed, mongo::deadline_now};

/// How long it is tried to learn what became of a change whose answer was lost.
const SETTLING: Duration = Duration::from_secs(600);

/// How long it rests between two tries.
const REST: Duration = Duration::from_millis(500);

/// How often a room that was to be made may be found absent before it is believed that it will not be made any more.
const ABSENCES: u32 = 60;

/// What became of a change.
pub enum Done<T> {
    /// It was made.
    Changed(T),
    /// There was nothing to change.
    Unchanged(T),
    /// Nothing was written.
    Refused(Error),
    /// The write was sent and there was no answer: it takes the room from this version on, or never does.
    Unknown { version: i64, error: Error },
}

impl MongoDirectory {
    /// Carries a change through even if whoever asked for it does not wait any more. One that has no outcome in time is an
    /// error for them; `committed` is called when it turns out to have been made.
    pub(super) async fn carry<T: Send + 'static>(
        &self,
        room: RoomName,
        change: Change,
        committed: Committed,
        work: impl Future<Output = Done<T>> + Send + 'static,
    ) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        let this = self.clone();
        tokio::spawn(async move {
            let (said, lost) = match work.await {
                Done::Changed(value) => {
                    committed();
                    (Ok(value), None)
                }
                Done::Unchanged(value) => (Ok(value), None),
                Done::Refused(error) => (Err(error), None),
                Done::Unknown { version, error } => (Err(error), Some((version, committed))),
            };
            // Whoever asked may have given up.
            let _ = answer.send(said);
            if let Some((version, committed)) = lost {
                this.settle(&room, version, &change, committed).await;
            }
        });
        answered.await.unwrap_or_else(|_| Err(Error::Store("a change was broken off".to_owned())))
    }

    /// Finds out whether a change was made, and sees to it that it is not made later: what would have taken the room from
    /// `version` on finds another version.
    pub(super) async fn settle(&self, room: &RoomName, version: i64, change: &Change, committed: Committed) {
        let (over, mut absent) = (Instant::now() + SETTLING, 0);
        while Instant::now() < over {
            sleep(REST).await;
            match self.write(room, version, (doc! {}, Noted::Other), deadline_now()).await {
                Ok(true) => return,
                Ok(false) => (),
                Err(_) => continue,
            }
            match self.stored(room, deadline_now()).await {
                // What took it from there is not on a majority yet.
                Ok(Some(found)) if found.version == version => (),
                Ok(Some(found)) if found.shows(change) => return committed(),
                Ok(Some(_)) => return,
                Ok(None) if absent == ABSENCES => return,
                Ok(None) => absent += 1,
                Err(_) => (),
            }
        }
        tracing::warn!(%room, "what became of a change of a room was never learnt");
    }
}
