//! Reuse of the name of an archived room. It takes several writes. After a failure in between, the old room stays archived, and the next
//! attempt continues.

use std::time::Duration;

use mongodb::bson::{DateTime, Document, doc, oid::ObjectId};
use remote::mongo::Operation;
use tokio::time::Instant;

use super::{
    MongoDirectory,
    change::RoomUpdate,
    change_log::COLLECTION,
    document::{RoomDocument, owner},
    resolve_unknown::{Outcome, Unanswered},
};
use crate::{
    Error,
    directory::{Decision, NewRoom, RoomInfo, refusal},
    mongo::{DEADLINE, count_failure, with_deadline},
};

/// Minimum time between the archiving of a room and the reuse of its name. After this time a batch that was in flight when the room was
/// archived is stored or refused, and every node has reloaded the room, see `SWEEP` in [`crate::room`].
pub(super) const REUSE_DELAY: Duration = Duration::from_secs(120);

impl MongoDirectory {
    /// A directory that reuses names without delay. For tests.
    #[cfg(test)]
    pub fn without_reuse_delay(mut self) -> Self {
        self.reuse_delay = Duration::ZERO;
        self
    }

    /// Replaces the room of the same name by a new one, if its name may be reused.
    pub(super) async fn renew(&self, room: &NewRoom, deadline: Instant) -> Outcome<RoomInfo> {
        let renewed = async {
            let old = self.load_document(&room.name, deadline).await?;
            let Some(old) = old else { return Err(refusal::taken(false)) };
            if !old.is_name_free() {
                return Err(refusal::taken(old.archived && !old.private));
            }
            if old.ended.is_some_and(|ended| is_recent(ended, self.reuse_delay)) {
                return Err(Error::Conflict(
                    "the room of this name has just ended: try again in two minutes",
                ));
            }
            Ok((old.version, self.clear(room, &old, deadline).await?))
        };
        let (version, base) = match renewed.await {
            Ok(cleared) => cleared,
            Err(error) => return Outcome::Refused(error),
        };
        let update = RoomUpdate {
            update: RoomDocument::renewal(room, version, base),
            members: vec![owner(room, version + 1)],
            keys: vec![room.owner.key()],
        };
        let (decision, attempt) = (Decision::creation(room, true), ObjectId::new());
        match self.write(&room.name, version, (&update, attempt, Some(&decision)), deadline).await {
            Ok(true) => {
                self.apply_later(&room.name);
                let rev = u64::try_from(version).unwrap_or(0) + 1;
                Outcome::Changed(room.room_info(), decision.committed(rev, None))
            }
            Ok(false) => Outcome::Refused(refusal::taken(false)),
            Err(error) => Outcome::Unknown { write: Unanswered { version, attempt, decision }, error },
        }
    }

    /// Deletes the messages and members of the old room and returns the number of its last one. The number is stored in the room's document before
    /// anything is deleted.
    async fn clear(&self, room: &NewRoom, old: &RoomDocument, deadline: Instant) -> Result<i64, Error> {
        let of_room = doc! { "room": room.name.as_str() };
        let last = self.messages.find_one(of_room.clone()).sort(doc! { "seq": -1 }).max_time(DEADLINE);
        let last = with_deadline(deadline, last).await?.and_then(|last: Document| last.get_i64("seq").ok());
        let base = last.unwrap_or(0).max(old.base);
        let note = self.rooms.write(Operation::Update, async |rooms| {
            rooms.update_one(doc! { "_id": room.name.as_str() }, doc! { "$max": { "base": base } }).await
        });
        with_deadline(deadline, note).await?;
        let delete = self
            .messages
            .write(Operation::Delete, async |messages| messages.delete_many(of_room.clone()).await);
        with_deadline(deadline, delete).await?;
        // All changes are applied, so that the room's document needs no member of the old room.
        self.apply(&room.name, deadline).await?;
        let delete =
            self.members.write(Operation::Delete, async |members| members.delete_many(of_room.clone()).await);
        with_deadline(deadline, delete).await?;
        let delete =
            self.changes.write(Operation::Delete, async |changes| changes.delete_many(of_room.clone()).await);
        // Their numbers are before the floor of the new room, so its members never receive them.
        if let Err(error) = with_deadline(deadline, delete).await {
            count_failure(COLLECTION);
            tracing::warn!(room = %room.name, %error, "the changes of an ended room cannot be deleted and are kept");
        }
        Ok(base)
    }
}

fn is_recent(ended: DateTime, reuse_delay: Duration) -> bool {
    let since = DateTime::now().timestamp_millis().saturating_sub(ended.timestamp_millis());
    u128::try_from(since).is_ok_and(|since| since < reuse_delay.as_millis())
}
