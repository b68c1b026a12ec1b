//! Reuse of the name of an archived room. Messages are deleted before the transaction that replaces the room. After a failure in between, the old room stays archived, and the next
//! attempt continues.

use std::time::Duration;

use async_trait::async_trait;
use mongodb::{
    ClientSession,
    bson::{DateTime, Document, doc},
};
use remote::mongo::Operation;
use tokio::time::Instant;

use super::{
    MongoDirectory,
    change::Edit,
    changes::ChangeEntry,
    document::{Log, RoomDocument, StoredRoom},
    numbered::Numbered,
    resolve_unknown::Outcome,
    rounds::{Decision, Fault, Work},
};
use crate::{
    Error,
    directory::{NewRoom, RoomInfo, refusal},
    mongo::{DEADLINE, number, with_deadline},
};

/// Minimum time between the archiving of a room and the reuse of its name. After this time a batch that was in flight when the room was
/// archived is stored or refused, and every node has reloaded the room, see `SWEEP` in [`crate::room`].
pub(super) const REUSE_DELAY: Duration = Duration::from_secs(120);

/// The replacement of an archived room by another. `base` is the number of its last message.
struct Renewal<'a> {
    room: &'a NewRoom,
    base: i64,
}

#[async_trait]
impl Work for Renewal<'_> {
    type Output = RoomInfo;

    fn room(&self) -> &str {
        self.room.name.as_str()
    }

    async fn run(
        &self,
        directory: &MongoDirectory,
        session: &mut ClientSession,
    ) -> Result<Decision<RoomInfo>, Fault> {
        let Self { room, base } = *self;
        let old = directory.reusable(directory.load_in(session, &room.name).await??)?;
        let (before, entry) = (old.document.rev, ChangeEntry::creation(room, true));
        let members = directory.members.clone_with_type();
        for (documents, field) in [(&members, "_id.room"), (&directory.changes, "room")] {
            let of_room = doc! { field: room.name.as_str() };
            let delete = documents.write(Operation::Delete, async |documents| {
                documents.delete_many(of_room).session(&mut *session).await
            });
            delete.await?;
        }
        let mut edit = Edit::creation(room, base);
        edit.room = doc! { "$set": edit.room, "$unset": { "ended": "" } };
        let rows = i64::try_from(entry.parts().len()).unwrap_or(i64::MAX);
        // Changes of the earlier room are not for the members of the new one.
        let log = Log { rows, sum: rows * (before + 1), floor: before };
        let numbered = Numbered { room: &room.name, before, entry: &entry };
        directory.write_change(session, &numbered, edit, doc! { "log": log.document() }).await?;
        let rev = number(before)? + 1;
        Ok(Decision::Written(room.room_info(), entry.committed(&room.name, rev)))
    }
}

impl MongoDirectory {
    /// A directory that reuses names without delay. For tests.
    #[cfg(test)]
    pub fn without_reuse_delay(mut self) -> Self {
        self.reuse_delay = Duration::ZERO;
        self
    }

    /// Replaces the room of the same name by a new one, if its name may be reused.
    pub(super) async fn renew(&self, room: &NewRoom, deadline: Instant) -> Outcome<RoomInfo> {
        let cleared = async {
            let old = self.reusable(self.load(&room.name, deadline).await?)?;
            self.clear(room, &old.document, deadline).await
        };
        let base = match cleared.await {
            Ok(base) => base,
            Err(error) => return Outcome::Refused(error),
        };
        self.in_rounds(deadline, &Renewal { room, base }).await
    }

    /// The room, if its name may be reused now.
    fn reusable(&self, old: Option<StoredRoom>) -> Result<StoredRoom, Error> {
        let old = old.ok_or_else(|| refusal::taken(false))?;
        let document = &old.document;
        if !document.is_name_free() {
            return Err(refusal::taken(document.archived && !document.private));
        }
        if document.ended.is_some_and(|ended| is_recent(ended, self.reuse_delay)) {
            return Err(Error::Conflict("the room of this name has just ended: try again in two minutes"));
        }
        Ok(old)
    }

    /// Deletes the messages of the old room and returns the number of its last one. The number is stored in the room's document before
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
        self.delete_rows(&room.name).await?;
        Ok(base)
    }
}

fn is_recent(ended: DateTime, reuse_delay: Duration) -> bool {
    let since = DateTime::now().timestamp_millis().saturating_sub(ended.timestamp_millis());
    u128::try_from(since).is_ok_and(|since| since < reuse_delay.as_millis())
}
