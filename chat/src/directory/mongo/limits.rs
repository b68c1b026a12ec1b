//! Limits on memberships, counted over all rooms. The check and the write are not atomic: concurrent joins of one user, or additions by one
//! user, are writes of independent documents and may exceed a limit by their number. The next one is refused.

use futures_util::future::try_join3;
use mongodb::bson::{DateTime, Document, doc};
use proto::Username;
use tokio::time::Instant;

use super::{
    MongoDirectory,
    document::RoomDocument,
    membership::Membership,
    of_user::{By, pending_of},
};
use crate::{
    Error,
    directory::{Additions, DEPARTURES, oldest_departure, refusal},
    mongo::{DEADLINE, date, with_deadline},
};

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
        let is_added = |membership: &Membership| membership.by_key.is_some();
        let is_theirs = |_: &Membership| true;
        let added = self.has_memberships((By::Key, user, is_added), limits.per_user, deadline);
        let additions = self.has_memberships((By::AdderKey, by, is_theirs), limits.per_adder, deadline);
        let departures = self.count_rooms(departed_from_adder, deadline);
        let (departures, is_added, has_added) = try_join3(departures, added, additions).await?;
        match () {
            () if departures >= DEPARTURES => Err(refusal::left_several_rooms()),
            () if is_added => Err(refusal::added_room_limit()),
            () if has_added => Err(refusal::additions_limit()),
            () => Ok(()),
        }
    }

    /// Checks that `user` has created or joined fewer than `limit` rooms.
    pub(super) async fn check_own_limit(
        &self,
        user: &Username,
        limit: usize,
        deadline: Instant,
    ) -> Result<(), Error> {
        let is_own = |membership: &Membership| membership.by_key.is_none();
        match self.has_memberships((By::Key, user, is_own), limit, deadline).await? {
            true => Err(refusal::own_room_limit()),
            false => Ok(()),
        }
    }

    /// Whether the user has at least `limit` memberships in rooms that are not archived. They are read only if all rooms together may have
    /// as many.
    async fn has_memberships(
        &self,
        (by, user, is_counted): (By, &Username, impl Fn(&Membership) -> bool),
        limit: usize,
        deadline: Instant,
    ) -> Result<bool, Error> {
        let key = user.key();
        // Read before the collection, so that a committed change is in one of them.
        let pending = self.rooms_where(pending_of(&key), deadline).await?;
        let mut most = 0;
        for room in &pending {
            most += room.pending()?.writes.len();
        }
        let members = self.members.count_documents(by.filter(&key)).max_time(DEADLINE);
        let members = usize::try_from(with_deadline(deadline, members).await?).unwrap_or(usize::MAX);
        if members.saturating_add(most) < limit {
            return Ok(false);
        }
        let found = self.memberships(by, &key, deadline).await?.memberships;
        let counted = found.iter().filter(|(room, membership)| !room.archived && is_counted(membership));
        Ok(counted.count() >= limit)
    }

    async fn count_rooms(&self, rooms: Document, deadline: Instant) -> Result<usize, Error> {
        let count = with_deadline(deadline, self.rooms.count_documents(rooms).max_time(DEADLINE)).await?;
        Ok(usize::try_from(count).unwrap_or(usize::MAX))
    }
}
