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
    directory::{Additions, DEPARTURES, oldest_departure, refusal},
    mongo::{DEADLINE, date, with_deadline},
};

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
        if self.count(departed_from_adder, deadline).await? >= DEPARTURES {
            return Err(refusal::left_several_rooms());
        }
        let added = doc! {
            "members": { "$elemMatch": { "key": user.key(), "by_key": { "$ne": null } } },
            "archived": false,
        };
        if self.count(added, deadline).await? >= limits.per_user {
            return Err(refusal::added_room_limit());
        }
        if self.count_added_by(by, deadline).await? >= limits.per_adder {
            Err(refusal::additions_limit())
        } else {
            Ok(())
        }
    }

    pub(super) async fn count(&self, rooms: Document, deadline: Instant) -> Result<usize, Error> {
        let count = with_deadline(deadline, self.rooms.count_documents(rooms).max_time(DEADLINE)).await?;
        Ok(usize::try_from(count).unwrap_or(usize::MAX))
    }

    /// Counts the memberships that `by` has created for others.
    async fn count_added_by(&self, by: &Username, deadline: Instant) -> Result<usize, Error> {
        let is_theirs = doc! { "$eq": ["$$member.by_key", by.key()] };
        let theirs = doc! { "$filter": { "input": "$members", "as": "member", "cond": is_theirs } };
        let stages = [
            doc! { "$match": { "members.by_key": by.key(), "archived": false } },
            doc! { "$group": { "_id": null, "count": { "$sum": { "$toLong": { "$size": theirs } } } } },
        ];
        let counted = async {
            let counted = self.rooms.aggregate(stages).max_time(DEADLINE).with_type::<Count>().await?;
            counted.try_collect::<Vec<_>>().await
        };
        let count = with_deadline(deadline, counted).await?.first().map_or(0, |counted| counted.count);
        Ok(usize::try_from(count).unwrap_or(usize::MAX))
    }
}
