//! Limits on memberships that users create for others, counted over all rooms. The check and the write are not atomic: concurrent
//! additions may exceed a limit by their number.

use futures_util::TryStreamExt;
use mongodb::bson::{DateTime, Document, doc};
use proto::Username;
use serde::Deserialize;
use tokio::time::Instant;

use super::{MongoDirectory, document::RoomDocument};
use crate::{
    Error,
    column::integer,
    directory::{Additions, DEPARTURES, oldest_departure, refusal},
    mongo::{DEADLINE, date, with_deadline},
};

/// The maximum of a limit. MongoDB refuses larger ones.
const MAX_COUNTED: u64 = 1 << 31;

/// The result of an aggregation that counts.
#[derive(Deserialize)]
struct Count {
    count: i64,
}

impl MongoDirectory {
    /// Checks that `by` may add `user` to `room`.
    pub(super) async fn check_add_by(
        &self,
        room: &RoomDocument,
        user: &Username,
        by: &Username,
        limits: Additions,
        deadline: Instant,
    ) -> Result<(), Error> {
        let oldest: DateTime = date(oldest_departure());
        if room.departures(oldest).any(|departure| departure.key == user.key()) {
            return Err(refusal::left_room());
        }
        let departure = doc! { "key": user.key(), "by": by.key(), "at": { "$gt": oldest } };
        let departed_from_adder = doc! { "departures": { "$elemMatch": departure } };
        let departed = self.rooms.count_documents(departed_from_adder).max_time(DEADLINE);
        let departed = usize::try_from(with_deadline(deadline, departed).await?).unwrap_or(usize::MAX);
        if departed >= DEPARTURES {
            return Err(refusal::left_several_rooms());
        }
        let added = doc! { "_id.key": user.key(), "by_key": { "$ne": null } };
        if self.has_memberships(added, limits.per_user, deadline).await? {
            return Err(refusal::added_room_limit());
        }
        if self.has_memberships(doc! { "by_key": by.key() }, limits.per_adder, deadline).await? {
            return Err(refusal::additions_limit());
        }
        Ok(())
    }

    /// Checks that `user` has created or joined fewer than `limit` rooms. The check and the write are not atomic: concurrent joins of one
    /// user to several rooms are writes of independent documents and may all pass. The user then exceeds the limit by these joins, and
    /// the next join is refused.
    pub(super) async fn check_own_limit(
        &self,
        user: &Username,
        limit: usize,
        deadline: Instant,
    ) -> Result<(), Error> {
        let own = doc! { "_id.key": user.key(), "by_key": null };
        match self.has_memberships(own, limit, deadline).await? {
            true => Err(refusal::own_room_limit()),
            false => Ok(()),
        }
    }

    /// Whether at least `limit` memberships match in rooms that are not archived. Their rooms are read only if that number matches in all rooms.
    async fn has_memberships(
        &self,
        members: Document,
        limit: usize,
        deadline: Instant,
    ) -> Result<bool, Error> {
        let limit = u64::try_from(limit).unwrap_or(u64::MAX).min(MAX_COUNTED);
        if limit == 0 {
            return Ok(true);
        }
        let all = self.members.count_documents(members.clone()).limit(limit).max_time(DEADLINE);
        if with_deadline(deadline, all).await? < limit {
            return Ok(false);
        }
        let mut stages = vec![doc! { "$match": members }];
        stages.extend(self.open_rooms());
        stages.extend([doc! { "$limit": integer(limit) }, doc! { "$count": "count" }]);
        let counted = async {
            let counted = self.members.aggregate(stages).max_time(DEADLINE).with_type::<Count>().await?;
            counted.try_collect::<Vec<_>>().await
        };
        let count = with_deadline(deadline, counted).await?.first().map_or(0, |counted| counted.count);
        Ok(count >= integer(limit))
    }

    /// The stages that follow a selection of members: they add the room as `room`, and drop memberships of archived rooms.
    pub(super) fn open_rooms(&self) -> [Document; 3] {
        let open =
            vec![doc! { "$match": { "archived": false } }, doc! { "$project": RoomDocument::summary() }];
        let join = doc! {
            "from": self.rooms.name(), "localField": "_id.room", "foreignField": "_id", "pipeline": open, "as": "room",
        };
        [doc! { "$project": { "_id": 1 } }, doc! { "$lookup": join }, doc! { "$unwind": "$room" }]
    }
}
