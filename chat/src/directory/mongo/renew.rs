//! Giving the name of a room that has ended to a new one. Several writes; one that breaks off in between leaves the old room ended,
//! and the next attempt does what is left.

use std::time::Duration;

use mongodb::bson::{DateTime, Document, doc};
use tokio::time::Instant;

use super::{MongoDirectory, Noted, carry::Done, document::Stored};
use crate::{
    Error,
    directory::{NewRoom, RoomInfo, refusal},
    mongo::{DEADLINE, with_deadline},
};

/// How long a room must have ended before its name is given again. By then a batch that was on its way to MongoDB at the end is
/// stored or refused, and every node has read the room again, see `SWEEP` in [`crate::room`].
pub(super) const QUIET: Duration = Duration::from_secs(120);

impl MongoDirectory {
    /// A directory that gives names again at once. For tests.
    #[cfg(test)]
    pub(super) fn without_quiet(mut self) -> Self {
        self.quiet = Duration::ZERO;
        self
    }

    /// Makes a new room in the place of the one that has its name, if that one has ended and left its name.
    pub(super) async fn renew(&self, room: &NewRoom, deadline_now: Instant) -> Done<RoomInfo> {
        let renewed = async {
            let Some(old) = self.stored(&room.name, deadline_now).await? else {
                return Err(refusal::taken(false));
            };
            if !old.is_free() {
                return Err(refusal::taken(old.archived && !old.private));
            }
            if old.ended.is_some_and(|ended| is_recent(ended, self.quiet)) {
                return Err(Error::Conflict(
                    "the room of this name has just ended: try again in two minutes",
                ));
            }
            Ok((old.version, self.clear(room, &old, deadline_now).await?))
        };
        let (version, base) = match renewed.await {
            Ok(cleared) => cleared,
            Err(error) => return Done::Refused(error),
        };
        let renewal = (Stored::renewal(room, base), Noted::Renewed(&room.owner));
        match self.write(&room.name, version, renewal, deadline_now).await {
            Ok(true) => Done::Changed(room.room_info()),
            Ok(false) => Done::Refused(refusal::taken(false)),
            Err(error) => Done::Unknown { version, error },
        }
    }

    /// Deletes what was said in the old room; answers with the last number that it has given. The number is in the room's document
    /// before anything is deleted.
    async fn clear(&self, room: &NewRoom, old: &Stored, deadline_now: Instant) -> Result<i64, Error> {
        let of_room = doc! { "room": room.name.as_str() };
        let last = self.messages.find_one(of_room.clone()).sort(doc! { "seq": -1 }).max_time(DEADLINE);
        let last =
            with_deadline(deadline_now, last).await?.and_then(|last: Document| last.get_i64("seq").ok());
        let base = last.unwrap_or(0).max(old.base);
        let note =
            self.rooms.update_one(doc! { "_id": room.name.as_str() }, doc! { "$max": { "base": base } });
        with_deadline(deadline_now, note).await?;
        with_deadline(deadline_now, self.messages.delete_many(of_room)).await?;
        Ok(base)
    }
}

fn is_recent(ended: DateTime, quiet: Duration) -> bool {
    let since = DateTime::now().timestamp_millis().saturating_sub(ended.timestamp_millis());
    u128::try_from(since).is_ok_and(|since| since < quiet.as_millis())
}
