//! [`Directory`] in MongoDB, collection `rooms`: one document for each room, its members in it, so that every change is one
//! write. A change is decided on what was read and written only if the room's version is still the same.

mod carry;
mod change;
mod changes;
mod document;
mod indexes;
mod limits;
mod renew;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::TryStreamExt;
use mongodb::{
    Collection,
    bson::{Document, doc, oid::ObjectId},
    error::Error as MongoError,
};
use proto::{RoomName, Username};
use remote::mongo::{Prepared, Store};
use tokio::time::{Instant, sleep};

use self::{
    carry::Done,
    change::Change,
    changes::Noted,
    document::{Listed, Stored},
};
use super::{Additions, Committed, Directory, Entry, Member, NewRoom, RoomInfo, refusal};
use crate::{
    Error,
    history::mongo::COLLECTION as MESSAGES,
    mongo::{DEADLINE, collection, deadline_now, is_duplicate, with_deadline},
};

/// The collection.
const COLLECTION: &str = "rooms";

/// How often a change is decided. Each time somebody else has changed the room in between.
const ROUNDS: u32 = 16;

/// How much longer than the last time the next round waits.
const PAUSE: Duration = Duration::from_millis(4);

/// The rooms of one database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct MongoDirectory {
    rooms: Collection<Stored>,
    /// What was said, to be deleted before a name is given again.
    messages: Collection<Document>,
    /// The name by which changes of this process are known.
    process: Arc<str>,
    prepared: Prepared,
    /// See [`renew::QUIET`].
    quiet: Duration,
}

impl MongoDirectory {
    /// Rooms in `store`, which need not be there yet. A change is on a majority's disks before it is answered.
    pub fn new(store: impl Into<Store>) -> Self {
        let store = store.into();
        let (rooms, messages) = (collection(&store, COLLECTION), collection(&store, MESSAGES));
        Self {
            rooms,
            messages,
            process: ObjectId::new().to_hex().into(),
            prepared: Prepared::default(),
            quiet: renew::QUIET,
        }
    }

    async fn stored(&self, room: &RoomName, deadline_now: Instant) -> Result<Option<Stored>, Error> {
        let found = self.rooms.find_one(doc! { "_id": room.as_str() }).projection(doc! { "recent": 0 });
        with_deadline(deadline_now, found.max_time(DEADLINE)).await
    }

    /// Refuses what a change may not do to its user: see [`limits`].
    async fn check(&self, room: &Stored, change: &Change, deadline_now: Instant) -> Result<(), Error> {
        match change {
            Change::Add { user, limit } => self.check_limit(user, *limit, deadline_now).await,
            Change::AddBy { user, by, limits } => {
                self.check_added(room, user, by, *limits, deadline_now).await
            }
            _ => Ok(()),
        }
    }

    /// Two joins of one user at the same moment, to two rooms, may both pass the last place under the limit: each is a write
    /// of its own room, and nothing ties them together. The user is then over the limit by the joins that met, and the next
    /// one is refused.
    async fn check_limit(&self, user: &Username, limit: usize, deadline_now: Instant) -> Result<(), Error> {
        let own =
            doc! { "members": { "$elemMatch": { "key": user.key(), "by_key": null } }, "archived": false };
        if self.count(own, deadline_now).await? >= limit { Err(refusal::own()) } else { Ok(()) }
    }

    /// Creates the room, or says why not.
    async fn insert(&self, room: &NewRoom, limit: usize) -> Done<RoomInfo> {
        let deadline_now = deadline_now();
        if let Err(refused) = self.check_limit(&room.owner, limit, deadline_now).await {
            return Done::Refused(refused);
        }
        if room.name.is_lobby() {
            return Done::Refused(refusal::taken(false));
        }
        let insert = async {
            let mut new = Stored::creation(room);
            new.insert("recent", [self.note(1, Noted::Joined(&room.owner))]);
            // By an update, because only that has MongoDB's clock. No room is at a version below 1.
            let absent = doc! { "_id": room.name.as_str(), "version": { "$lt": 1_i64 } };
            let create = doc! { "$setOnInsert": new, "$currentDate": { "changed": true } };
            match self.rooms.update_one(absent, create).upsert(true).await {
                Err(error) if is_duplicate(&error) => Ok::<_, MongoError>(false),
                other => other.map(|_| true),
            }
        };
        match with_deadline(deadline_now, insert).await {
            Ok(true) => Done::Changed(room.room_info()),
            Ok(false) => self.renew(room, deadline_now).await,
            Err(error) => Done::Unknown { version: 0, error },
        }
    }

    /// Changes the room and answers with the members it has then.
    async fn update(&self, room: &RoomName, change: &Change) -> Done<Vec<Member>> {
        let deadline_now = deadline_now();
        for round in 0..ROUNDS {
            sleep(PAUSE * round).await;
            let decided = async {
                let found = self.stored(room, deadline_now).await?.filter(|found| !found.archived);
                let found = found.ok_or(Error::NotFound)?;
                let (version, entry) = (found.version, found.entry(room.clone())?);
                change.check(&entry)?;
                let members = entry.members;
                let decision = change.on(found.private, members.clone());
                if decision.is_some() {
                    self.check(&found, change, deadline_now).await?;
                }
                Ok((version, members, decision))
            };
            let (version, members, decision) = match decided.await {
                Ok(decided) => decided,
                Err(error) => return Done::Refused(error),
            };
            let Some((update, then)) = decision else { return Done::Unchanged(members) };
            match self.write(room, version, (update, change.into()), deadline_now).await {
                Ok(true) => return Done::Changed(then),
                Ok(false) => (),
                Err(error) => return Done::Unknown { version, error },
            }
        }
        Done::Refused(Error::full())
    }

    /// Writes to the room if it is at `version`, and takes it to the next. Whether it was.
    async fn write(
        &self,
        room: &RoomName,
        version: i64,
        (update, noted): (Document, Noted<'_>),
        deadline_now: Instant,
    ) -> Result<bool, Error> {
        let update = self.noting(update, version, noted);
        let documents = self.rooms.clone_with_type::<Document>();
        let write = documents
            .find_one_and_update(doc! { "_id": room.as_str(), "version": version }, update)
            .projection(doc! { "_id": 1 })
            .max_time(DEADLINE);
        Ok(with_deadline(deadline_now, write).await?.is_some())
    }

    async fn change(
        &self,
        room: &RoomName,
        change: Change,
        committed: Committed,
    ) -> Result<Vec<Member>, Error> {
        let (this, name, what) = (self.clone(), room.clone(), change.clone());
        self.carry(room.clone(), change, committed, async move { this.update(&name, &what).await }).await
    }
}

#[async_trait]
impl Directory for MongoDirectory {
    async fn create(&self, room: NewRoom, limit: usize, committed: Committed) -> Result<RoomInfo, Error> {
        let (this, name) = (self.clone(), room.name.clone());
        let joins = Change::Add { user: room.owner.clone(), limit };
        self.carry(name, joins, committed, async move { this.insert(&room, limit).await }).await
    }

    async fn find(&self, room: &RoomName) -> Result<Option<Entry>, Error> {
        if room.is_lobby() {
            return Ok(Some(Entry { room_info: RoomInfo::lobby(), members: vec![] }));
        }
        let found = self.stored(room, deadline_now()).await?.filter(|found| !found.archived);
        found.map(|found| found.entry(room.clone())).transpose()
    }

    async fn rooms_of(&self, user: &Username) -> Result<Vec<RoomInfo>, Error> {
        let listed = async {
            let rooms = self.rooms.clone_with_type::<Listed>();
            let found = rooms
                .find(rooms_with(user))
                .sort(doc! { "_id": 1 })
                .projection(Listed::fields())
                .max_time(DEADLINE);
            found.await?.try_collect::<Vec<Listed>>().await
        };
        let listed = with_deadline(deadline_now(), listed).await?;
        let rooms = listed.into_iter().map(Listed::room_info);
        std::iter::once(Ok(RoomInfo::lobby())).chain(rooms).collect()
    }

    async fn add(
        &self,
        room: &RoomName,
        user: &Username,
        limit: usize,
        committed: Committed,
    ) -> Result<Vec<Member>, Error> {
        if room.is_lobby() {
            return Ok(vec![]);
        }
        self.change(room, Change::Add { user: user.clone(), limit }, committed).await
    }

    async fn add_by(
        &self,
        room: &RoomName,
        user: &Username,
        by: &Username,
        limits: Additions,
        committed: Committed,
    ) -> Result<Vec<Member>, Error> {
        if room.is_lobby() {
            return Ok(vec![]);
        }
        let (user, by) = (user.clone(), by.clone());
        self.change(room, Change::AddBy { user, by, limits }, committed).await
    }

    async fn leave(
        &self,
        room: &RoomName,
        user: &Username,
        committed: Committed,
    ) -> Result<Vec<Member>, Error> {
        if room.is_lobby() {
            return Ok(vec![]);
        }
        self.change(room, Change::Leave { user: user.clone() }, committed).await
    }

    async fn remove(
        &self,
        room: &RoomName,
        user: &Username,
        by: &Username,
        committed: Committed,
    ) -> Result<Vec<Member>, Error> {
        if room.is_lobby() {
            return Ok(vec![]);
        }
        let (user, by) = (user.clone(), by.clone());
        self.change(room, Change::Remove { user, by }, committed).await
    }

    async fn set_private(
        &self,
        room: &RoomName,
        by: &Username,
        private: bool,
        committed: Committed,
    ) -> Result<(), Error> {
        if room.is_lobby() {
            return Err(Error::NotFound);
        }
        let by = by.clone();
        self.change(room, Change::SetPrivate { private, by }, committed).await.map(drop)
    }

    async fn archive(&self, room: &RoomName, by: &Username, committed: Committed) -> Result<(), Error> {
        if room.is_lobby() {
            return Err(Error::NotFound);
        }
        self.change(room, Change::Archive { by: by.clone() }, committed).await.map(drop)
    }
}

/// The filter for the rooms that a user is in.
fn rooms_with(user: &Username) -> Document {
    doc! { "members.key": user.key(), "archived": false }
}
