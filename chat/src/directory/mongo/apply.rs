//! Memberships of committed changes are written to the collection of members after the commit. Each write has the complete membership and the
//! version of its change, and replaces earlier versions only. So any number of processes may write them at any time and in any order, and a
//! process that dies in between leaves work that every other process can do.
//!
//! The document of a room has the changes that are not applied yet: `applied` is the version up to which they are, and `pending` the keys
//! of the users that later changes concern. Other processes apply them when they read the room, or within a minute ([`SWEEP`]).

use std::{
    sync::PoisonError,
    time::{Duration, Instant as StdInstant},
};

use futures_util::{TryStreamExt, future::join_all};
use mongodb::{
    bson::{DateTime, Document, doc},
    error::Error as MongoError,
};
use proto::RoomName;
use remote::mongo::Operation;
use tokio::time::{Instant, sleep};

use super::{
    MongoDirectory,
    document::Pending,
    membership::{Membership, latest},
};
use crate::{
    Error,
    changes::KEPT,
    mongo::{DEADLINE, deadline_now, with_deadline},
};

/// The number of changes that may wait. A room with more accepts no change before they are applied. A change is dropped from the room's
/// document after twice that number, so it is applied before.
pub const MAX_PENDING: i64 = KEPT as i64 / 2;

/// The age at which a change is applied by a process that did not make it, in milliseconds.
const ABANDONED_MS: i64 = 10_000;

/// The time between the commit of a change and its application. Changes in quick succession share one application.
const DELAY: Duration = Duration::from_millis(100);

/// The interval between two searches of rooms with changes that are not applied.
const SWEEP: Duration = Duration::from_secs(60);

/// The number of memberships of a room that are written at the same time.
const AT_ONCE: usize = 8;

/// The maximum number of rooms of one search.
const SWEPT: i64 = 1_000;

impl MongoDirectory {
    /// Applies the changes of a room in the background. One task runs for each room; changes that are committed meanwhile are applied by the
    /// same task.
    pub(super) fn apply_later(&self, room: &RoomName) {
        let mut applying = self.applying.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(is_requested) = applying.get_mut(room) {
            *is_requested = true;
            return;
        }
        applying.insert(room.clone(), false);
        drop(applying);
        let (this, room) = (self.clone(), room.clone());
        tokio::spawn(async move {
            loop {
                sleep(DELAY).await;
                let applied = this.apply(&room, deadline_now()).await;
                if let Err(error) = &applied {
                    tracing::warn!(%room, %error, "the members of a room are not up to date in their collection and are read from its latest changes; retrying with its next change or within a minute");
                }
                let mut applying = this.applying.lock().unwrap_or_else(PoisonError::into_inner);
                match applying.get_mut(&room) {
                    Some(is_requested) if *is_requested && applied.is_ok() => *is_requested = false,
                    _ => {
                        applying.remove(&room);
                        return;
                    }
                }
            }
        });
    }

    /// Applies the changes of a room if the process that made them has not done so in time.
    pub(super) fn apply_abandoned(&self, room: &RoomName, pending: &Pending) {
        let now = DateTime::now().timestamp_millis();
        if pending.since.is_some_and(|since| now.saturating_sub(since.timestamp_millis()) >= ABANDONED_MS) {
            self.apply_later(room);
        }
    }

    /// Writes memberships again in the background.
    pub(super) fn apply_again(&self, room: &RoomName, writes: Vec<Membership>) {
        let (this, room) = (self.clone(), room.clone());
        tokio::spawn(async move {
            if let Err(error) = this.write_members(&room, writes, deadline_now()).await {
                tracing::warn!(%room, %error, "the members of a room cannot be written; the next read of the room retries");
            }
        });
    }

    /// Applies the changes of a room.
    ///
    /// # Errors
    /// When MongoDB does not answer or refuses, or a change is damaged.
    pub(super) async fn apply(&self, room: &RoomName, deadline: Instant) -> Result<(), Error> {
        let Some(document) = self.load_document(room, deadline).await? else { return Ok(()) };
        if document.applied >= document.version {
            return Ok(());
        }
        self.write_members(room, document.pending()?.writes, deadline).await?;
        let version = document.version;
        let write = self.rooms.write(Operation::Update, async |rooms| {
            let at =
                doc! { "_id": room.as_str(), "applied": { "$lt": version }, "version": { "$gte": version } };
            rooms.update_one(at, vec![applied(version)]).await
        });
        with_deadline(deadline, write).await.map(drop)
    }

    /// Writes the latest of these memberships of each user, unless the collection has a later one.
    pub(super) async fn write_members(
        &self,
        room: &RoomName,
        writes: Vec<Membership>,
        deadline: Instant,
    ) -> Result<(), Error> {
        let writes = latest([], writes);
        for writes in writes.chunks(AT_ONCE) {
            // An error cancels no other write, because the driver closes the connection of a cancelled one.
            let all = join_all(writes.iter().map(|membership| self.write_member(room.as_str(), membership)));
            let results = with_deadline(deadline, async { Ok::<_, MongoError>(all.await) }).await?;
            results.into_iter().collect::<Result<(), _>>()?;
        }
        Ok(())
    }

    async fn write_member(&self, room: &str, membership: &Membership) -> Result<(), MongoError> {
        let earlier = doc! { "_id": membership.id(room), "rev": { "$lt": membership.rev } };
        let set = membership.document(room);
        let absent = ["by", "by_key"].into_iter().filter(|field| !set.contains_key(field));
        let unset: Document = absent.map(|field| (field.to_owned(), "".into())).collect();
        let mut update = doc! { "$set": set };
        if !unset.is_empty() {
            update.insert("$unset", unset);
        }
        let write = self
            .members
            .write(Operation::Update, async |members| members.update_one(earlier, update).upsert(true).await);
        match write.await {
            // The collection has this membership, or a later one.
            Err(error) if self.members.is_duplicate(&error) => Ok(()),
            result => result.map(drop),
        }
    }

    /// Applies the changes of all rooms whose process has died, at most every [`SWEEP`]. Called often.
    pub(super) fn sweep(&self) {
        let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        if swept.is_some_and(|at| at.elapsed() < SWEEP) {
            return;
        }
        *swept = Some(StdInstant::now());
        drop(swept);
        let this = self.clone();
        tokio::spawn(async move {
            match this.rooms_with_pending().await {
                Ok(rooms) => rooms.iter().for_each(|room| this.apply_later(room)),
                Err(error) => {
                    tracing::debug!(%error, "rooms with changes to apply cannot be searched; retrying within a minute")
                }
            }
        });
    }

    /// Rooms with changes that are older than [`ABANDONED_MS`] and not applied.
    pub(super) async fn rooms_with_pending(&self) -> Result<Vec<RoomName>, Error> {
        let is_old = doc! { "$lt": ["$changed", { "$subtract": ["$$NOW", ABANDONED_MS] }] };
        let filter = doc! { "pending": { "$exists": true }, "$expr": is_old };
        let read = async {
            let found = self.rooms.find(filter).projection(doc! { "_id": 1 }).limit(SWEPT).max_time(DEADLINE);
            found.await?.try_collect::<Vec<Document>>().await
        };
        let found = with_deadline(deadline_now(), read).await?;
        Ok(found.iter().filter_map(|room| room.get_str("_id").ok()?.parse().ok()).collect())
    }
}

/// The update that marks the changes up to `version` as applied.
fn applied(version: i64) -> Document {
    let later = doc! { "$filter": {
        "input": { "$ifNull": ["$recent", []] }, "as": "change", "cond": { "$gt": ["$$change.version", version] },
    } };
    let keys = doc! { "$setUnion": ["$$value", { "$ifNull": ["$$this.keys", []] }] };
    let pending = doc! { "$reduce": { "input": later, "initialValue": [], "in": keys } };
    let pending = doc! { "$cond": [{ "$eq": ["$version", version] }, "$$REMOVE", pending] };
    doc! { "$set": { "applied": version, "pending": pending } }
}
