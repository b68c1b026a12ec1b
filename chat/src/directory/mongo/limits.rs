//! What may be done to user_lookup by others, counted over all rooms. Additions that meet at the same moment may go beyond a limit
//! by those that met.

use futures_util::TryStreamExt;
use mongodb::bson::{DateTime, Document, doc};
use proto::Username;
use serde::Deserialize;
use tokio::time::Instant;

use super::{MongoDirectory, document::Stored};
use crate::{
    Error,
    directory::{Additions, DEPARTURES, oldest_departure, refusal},
    mongo::{DEADLINE, date, with_deadline},
};

/// What an aggregation counts.
#[derive(Deserialize)]
struct Counted {
    count: i64,
}

impl MongoDirectory {
    /// Why `by` may not add `user` to `room`, if so.
    pub(super) async fn check_added(
        &self,
        room: &Stored,
        user: &Username,
        by: &Username,
        limits: Additions,
        deadline_now: Instant,
    ) -> Result<(), Error> {
        let oldest: DateTime = date(oldest_departure());
        if room.departures(oldest).any(|departure| departure.key == user.key()) {
            return Err(refusal::departed());
        }
        let avoided = doc! { "departures": { "$elemMatch": { "key": user.key(), "by": by.key(), "at": { "$gt": oldest } } } };
        if self.count(avoided, deadline_now).await? >= DEPARTURES {
            return Err(refusal::avoided());
        }
        let added = doc! {
            "members": { "$elemMatch": { "key": user.key(), "by_key": { "$ne": null } } },
            "archived": false,
        };
        if self.count(added, deadline_now).await? >= limits.per_user {
            return Err(refusal::added());
        }
        if self.count_added_by(by, deadline_now).await? >= limits.per_adder {
            Err(refusal::adder())
        } else {
            Ok(())
        }
    }

    pub(super) async fn count(&self, rooms: Document, deadline_now: Instant) -> Result<usize, Error> {
        let count = with_deadline(deadline_now, self.rooms.count_documents(rooms).max_time(DEADLINE)).await?;
        Ok(usize::try_from(count).unwrap_or(usize::MAX))
    }

    /// How many memberships one user has made for others.
    async fn count_added_by(&self, by: &Username, deadline_now: Instant) -> Result<usize, Error> {
        let is_theirs = doc! { "$eq": ["$$member.by_key", by.key()] };
        let theirs = doc! { "$filter": { "input": "$members", "as": "member", "cond": is_theirs } };
        let stages = [
            doc! { "$match": { "members.by_key": by.key(), "archived": false } },
            doc! { "$group": { "_id": null, "count": { "$sum": { "$toLong": { "$size": theirs } } } } },
        ];
        let counted = async {
            let counted = self.rooms.aggregate(stages).max_time(DEADLINE).with_type::<Counted>().await?;
            counted.try_collect::<Vec<_>>().await
        };
        let count = with_deadline(deadline_now, counted).await?.first().map_or(0, |counted| counted.count);
        Ok(usize::try_from(count).unwrap_or(usize::MAX))
    }
}
