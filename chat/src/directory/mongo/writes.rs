//! The writes of changes. Each is tried again with the room as it is then, if another change was written after the read.

use std::time::Duration;

use mongodb::{
    bson::{doc, oid::ObjectId},
    error::Error as MongoError,
};
use proto::{RoomName, event::RoomKind};
use remote::mongo::Operation;
use tokio::time::{Instant, sleep};

use super::{
    MongoDirectory,
    apply::MAX_PENDING,
    change::{self, RoomUpdate},
    changes::with_change,
    document::{RoomDocument, owner},
    resolve_unknown::{Outcome, Unanswered},
};
use crate::{
    Error,
    directory::{Decision, Limits, NewRoom, Request, RoomInfo, RoomRecord, refusal},
    mongo::{DEADLINE, deadline_now, with_deadline},
};

/// Maximum number of attempts of a change. An attempt fails when another change of the room was written after the read.
const MAX_ATTEMPTS: u32 = 16;

/// Increment of the delay between two attempts.
pub(super) const BACKOFF_STEP: Duration = Duration::from_millis(4);

impl MongoDirectory {
    /// Creates the room.
    pub(super) async fn insert(&self, room: &NewRoom, limit: usize) -> Outcome<RoomInfo> {
        let deadline = deadline_now();
        if let Err(refused) = self.check_own_limit(&room.owner, limit, deadline).await {
            return Outcome::Refused(refused);
        }
        if RoomKind::of(&room.name).is_built_in() {
            return Outcome::Refused(refusal::taken(false));
        }
        match self.is_lost(&room.name, deadline).await {
            Ok(false) => (),
            Ok(true) => {
                tracing::warn!(
                    room = %room.name,
                    "a room has messages, members or changes but no document, so its name stays taken; restore the collection `rooms`"
                );
                return Outcome::Refused(refusal::taken(false));
            }
            Err(error) => return Outcome::Refused(error),
        }
        let (decision, attempt) = (Decision::creation(room, false), ObjectId::new());
        let insert = async {
            let mut new = RoomDocument::creation(room);
            let update =
                RoomUpdate { members: vec![owner(room, 1)], keys: vec![room.owner.key()], update: doc! {} };
            new.insert("recent", [self.change_document(1, attempt, Some(&decision), &update)]);
            // An upsert, because only updates can set a field to MongoDB's clock. Versions start at 1, so the filter matches no room.
            let absent = doc! { "_id": room.name.as_str(), "version": { "$lt": 1_i64 } };
            let create = doc! { "$setOnInsert": new, "$currentDate": { "changed": true } };
            let create = self
                .rooms
                .write(Operation::Update, async |rooms| rooms.update_one(absent, create).upsert(true).await);
            match create.await {
                Err(error) if self.rooms.is_duplicate(&error) => Ok::<_, MongoError>(false),
                result => result.map(|_| true),
            }
        };
        match with_deadline(deadline, insert).await {
            Ok(true) => {
                self.apply_later(&room.name);
                Outcome::Changed(room.room_info(), decision.committed(1, None))
            }
            Ok(false) => self.renew(room, deadline).await,
            Err(error) => Outcome::Unknown { write: Unanswered { version: 0, attempt, decision }, error },
        }
    }

    /// Whether a room of this name has messages, members or older changes and no document, because the collection of rooms was dropped or
    /// restored.
    async fn is_lost(&self, room: &RoomName, deadline: Instant) -> Result<bool, Error> {
        for documents in [&self.messages, &self.members.clone_with_type(), &self.changes] {
            let of_room = documents.find_one(doc! { "room": room.as_str() }).projection(doc! { "_id": 1 });
            if with_deadline(deadline, of_room.max_time(DEADLINE)).await?.is_some() {
                return Ok(self.find_document(room, Some(doc! { "_id": 1 }), deadline).await?.is_none());
            }
        }
        Ok(false)
    }

    /// Applies `request` to the room and returns the room after it.
    pub(super) async fn update(
        &self,
        room: &RoomName,
        request: &Request,
        limits: Limits,
    ) -> Outcome<Option<RoomRecord>> {
        let deadline = deadline_now();
        for number in 0..MAX_ATTEMPTS {
            sleep(BACKOFF_STEP * number).await;
            let decided = async {
                let found = self.load(room, deadline).await?.filter(|found| !found.document.archived);
                let found = found.ok_or(Error::NotFound)?;
                let record = found.record()?;
                let decision = request.decide(&record)?;
                if decision.is_some() {
                    self.check_limits(&found.document, request, limits, deadline).await?;
                    if found.document.version - found.document.applied >= MAX_PENDING {
                        self.apply(room, deadline).await?;
                    }
                }
                Ok((found, record, decision))
            };
            let (found, record, decision) = match decided.await {
                Ok(decided) => decided,
                Err(error) => return Outcome::Refused(error),
            };
            let Some(decision) = decision else { return Outcome::Unchanged(Some(record)) };
            let (version, attempt, rev) = (found.document.version, ObjectId::new(), record.rev + 1);
            let update = change::update(&decision, &found);
            match self.write(room, version, (&update, attempt, Some(&decision)), deadline).await {
                Ok(true) => {
                    self.log_older_changes(room, &found.document);
                    if found.document.applied < version || !update.members.is_empty() {
                        self.apply_later(room);
                    }
                    let change = decision.committed(rev, None);
                    return Outcome::Changed(decision.record(rev), change);
                }
                Ok(false) => (),
                Err(error) => {
                    return Outcome::Unknown { write: Unanswered { version, attempt, decision }, error };
                }
            }
        }
        Outcome::Refused(Error::full())
    }

    /// Writes to the room and increments its version if the room is at `version`. Returns whether it was.
    pub(super) async fn write(
        &self,
        room: &RoomName,
        version: i64,
        (update, attempt, decision): (&RoomUpdate, ObjectId, Option<&Decision>),
        deadline: Instant,
    ) -> Result<bool, Error> {
        let change = self.change_document(version + 1, attempt, decision, update);
        let update = with_change(update.update.clone(), change);
        let write = self.rooms.write(Operation::Update, async |rooms| {
            let room = doc! { "_id": room.as_str(), "version": version };
            let write = rooms.find_one_and_update(room, update).projection(doc! { "_id": 1 });
            write.max_time(DEADLINE).await
        });
        Ok(with_deadline(deadline, write).await?.is_some())
    }
}
