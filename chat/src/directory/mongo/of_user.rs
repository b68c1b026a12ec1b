//! The memberships of a user in all rooms, and those that a user has created for others. Rooms with changes that are not in the collection of
//! members yet are read before the collection, so that a committed change is in one of them.

use std::collections::{HashMap, HashSet};

use futures_util::TryStreamExt;
use mongodb::bson::{Document, doc};
use proto::Username;
use serde::Deserialize;
use tokio::time::Instant;

use super::{
    MongoDirectory,
    document::RoomDocument,
    membership::{Membership, latest},
};
use crate::{
    Error,
    directory::RoomInfo,
    mongo::{DEADLINE, damaged, deadline_now, with_deadline},
};

/// The field of memberships by which they are searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// The member.
    Key,
    /// The user who added the member.
    AdderKey,
}

/// A document of the collection of members.
#[derive(Debug, Deserialize)]
struct Row {
    room: String,
    #[serde(flatten)]
    membership: Membership,
}

/// The memberships that were found.
pub(super) struct Found {
    /// Each with its room.
    pub memberships: Vec<(RoomDocument, Membership)>,
    /// Whether there is a membership in a room without a document.
    has_lost_room: bool,
}

impl By {
    /// The filter for memberships in the collection.
    pub(super) fn filter(self, key: &str) -> Document {
        match self {
            Self::Key => doc! { "key": key, "role": { "$type": "string" } },
            Self::AdderKey => doc! { "by_key": key, "role": { "$type": "string" } },
        }
    }

    fn accepts(self, membership: &Membership, key: &str) -> bool {
        match self {
            Self::Key => membership.key == key,
            Self::AdderKey => membership.by_key.as_deref() == Some(key),
        }
    }
}

/// The filter for rooms with changes of the memberships of a user that are not in the collection of members yet.
pub(super) fn pending_of(key: &str) -> Document {
    doc! { "pending": key }
}

impl MongoDirectory {
    /// The present memberships that match, in all rooms, also archived ones.
    ///
    /// # Errors
    /// When MongoDB does not answer, a document is damaged, or the collection of members is lost.
    pub(super) async fn memberships(&self, by: By, key: &str, deadline: Instant) -> Result<Found, Error> {
        let pending = self.rooms_where(pending_of(key), deadline).await?;
        let read = async {
            let found = self.members.clone_with_type::<Row>().find(by.filter(key)).max_time(DEADLINE).await?;
            found.try_collect::<Vec<Row>>().await
        };
        let rows = with_deadline(deadline, read).await?;
        if rows.is_empty() && pending.is_empty() {
            self.check_members_exist(deadline).await?;
        }
        let with_pending: HashSet<&str> = pending.iter().map(|room| &*room.name).collect();
        let others = rows.iter().map(|row| &*row.room).filter(|room| !with_pending.contains(room));
        let others: HashSet<&str> = others.collect();
        let mut rooms = pending.iter().collect::<Vec<_>>();
        let others = match others.is_empty() {
            true => vec![],
            false => {
                let names: Vec<&str> = others.into_iter().collect();
                self.rooms_where(doc! { "_id": { "$in": names } }, deadline).await?
            }
        };
        rooms.extend(&others);
        let with_document: HashSet<String> = rooms.iter().map(|room| room.name.clone()).collect();
        let has_lost_room = rows.iter().any(|row| !with_document.contains(&row.room));
        let mut of_rooms: HashMap<String, Vec<Membership>> = HashMap::new();
        rows.into_iter().for_each(|row| of_rooms.entry(row.room).or_default().push(row.membership));
        let mut memberships = Vec::new();
        for room in pending.into_iter().chain(others) {
            let stored = of_rooms.remove(&room.name).unwrap_or_default();
            let writes = room.pending()?.writes;
            let mut present = latest(stored, writes);
            present.retain(|found| found.is_member() && found.rev > room.began && by.accepts(found, key));
            let Some((last, first)) = present.split_last() else { continue };
            // Documents of rooms are cloned for the memberships of one adder only.
            for membership in first {
                memberships.push((room.clone(), membership.clone()));
            }
            let last = last.clone();
            memberships.push((room, last));
        }
        Ok(Found { memberships, has_lost_room })
    }

    /// See [`crate::directory::Directory::rooms_of`]: without the lobby, sorted by name.
    pub(super) async fn open_rooms_of(&self, user: &Username) -> Result<Vec<RoomInfo>, Error> {
        let found = self.memberships(By::Key, &user.key(), deadline_now()).await?.memberships;
        let open = found.into_iter().map(|(room, _)| room).filter(|room| !room.archived);
        let mut rooms: Vec<RoomInfo> = open.map(|room| room.room_info()).collect::<Result<_, _>>()?;
        rooms.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(rooms)
    }

    /// See [`crate::directory::Directory::has_member`].
    pub(super) async fn is_member_anywhere(&self, name: &Username) -> Result<bool, Error> {
        let found = self.memberships(By::Key, &name.key(), deadline_now()).await?;
        Ok(found.has_lost_room || !found.memberships.is_empty())
    }

    pub(super) async fn rooms_where(
        &self,
        filter: Document,
        deadline: Instant,
    ) -> Result<Vec<RoomDocument>, Error> {
        let read = async {
            let found =
                self.rooms.find(filter).projection(RoomDocument::summary()).max_time(DEADLINE).await?;
            found.try_collect::<Vec<Document>>().await
        };
        with_deadline(deadline, read).await?.into_iter().map(RoomDocument::read).collect()
    }

    /// Checks that the collection of members is not empty while rooms have members in it.
    async fn check_members_exist(&self, deadline: Instant) -> Result<(), Error> {
        let any = self.members.clone_with_type::<Document>();
        let any = any.find_one(doc! {}).projection(doc! { "_id": 1 }).max_time(DEADLINE);
        if with_deadline(deadline, any).await?.is_some() {
            return Ok(());
        }
        let with_members =
            doc! { "count": { "$gt": 0_i64 }, "applied": { "$gt": 0_i64 }, "pending": { "$exists": false } };
        let room = self.rooms.find_one(with_members).projection(doc! { "_id": 1 }).max_time(DEADLINE);
        match with_deadline(deadline, room).await? {
            None => Ok(()),
            Some(_) => Err(damaged(format_args!(
                "the collection {} is empty, and rooms have members: it was dropped; restore it and {} from one backup",
                self.members.name(),
                self.rooms.name()
            ))),
        }
    }
}
