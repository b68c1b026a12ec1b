//! The writes of changes, each in one transaction. The transaction reads the room and its members, decides the change, and increments the
//! number of changes in the room's document. Of several concurrent changes of a room, MongoDB accepts one; the others are tried again.

use async_trait::async_trait;
use mongodb::{
    ClientSession,
    bson::{Document, doc},
};
use proto::{RoomName, event::RoomKind};
use remote::mongo::Operation;
use tokio::time::Instant;

use super::{
    MongoDirectory,
    change::{Change, Edit, MemberWrite},
    change_log::RowWrites,
    changes::ChangeEntry,
    document::{Log, member_document, member_id},
    numbered::Numbered,
    resolve_unknown::Outcome,
    rounds::{Decision, Fault, Work},
};
use crate::{
    Error,
    column::integer,
    directory::{Member, NewRoom, Role, RoomInfo, refusal},
    mongo::{DEADLINE, deadline_now, with_deadline},
};

/// The creation of a room. Its output is `None` when the room exists.
struct Creation<'a>(&'a NewRoom);

/// A change of an existing room. Its output are the members after it.
struct Update<'a> {
    room: &'a RoomName,
    change: &'a Change,
    deadline: Instant,
}

#[async_trait]
impl Work for Creation<'_> {
    type Output = Option<RoomInfo>;

    fn room(&self) -> &str {
        self.0.name.as_str()
    }

    async fn run(
        &self,
        directory: &MongoDirectory,
        session: &mut ClientSession,
    ) -> Result<Decision<Self::Output>, Fault> {
        let room = self.0;
        if directory.load_in(session, &room.name).await??.is_some() {
            return Ok(Decision::Unchanged(None));
        }
        let entry = ChangeEntry::creation(room, false);
        let numbered = Numbered { room: &room.name, before: 0, entry: &entry };
        directory.create_in(session, &numbered, Edit::creation(room, 0)).await?;
        Ok(Decision::Written(Some(room.room_info()), entry.committed(&room.name, 1)))
    }
}

#[async_trait]
impl Work for Update<'_> {
    type Output = Vec<Member>;

    fn room(&self) -> &str {
        self.room.as_str()
    }

    async fn run(
        &self,
        directory: &MongoDirectory,
        session: &mut ClientSession,
    ) -> Result<Decision<Self::Output>, Fault> {
        let Self { room, change, deadline } = *self;
        let found = directory.load_in(session, room).await??.filter(|found| !found.document.archived);
        let found = found.ok_or(Error::NotFound)?;
        let record = found.record()?;
        change.check(&record)?;
        let Some(edit) = change.apply(found.document.private, record.members.clone()) else {
            return Ok(Decision::Unchanged(record.members));
        };
        directory.check_limits(&found.document, change, deadline).await?;
        let entry = ChangeEntry::of(change, &record, &edit.members);
        let members = edit.members.clone();
        let numbered = Numbered { room, before: found.document.rev, entry: &entry };
        directory.write_change(session, &numbered, edit, doc! {}).await?;
        Ok(Decision::Written(members, entry.committed(room, record.rev + 1)))
    }
}

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
        let exists = async {
            if self.exists(&room.name, deadline).await? {
                return Ok(true);
            }
            if self.is_lost(&room.name, deadline).await? {
                tracing::warn!(room = %room.name, "a room has messages, members or changes and no document: its name is taken; restore the collection `rooms`");
                return Err(refusal::taken(false));
            }
            Ok(false)
        };
        match exists.await {
            Ok(false) => {}
            Ok(true) => return self.renew(room, deadline).await,
            Err(refused) => return Outcome::Refused(refused),
        }
        match self.in_rounds(deadline, &Creation(room)).await {
            Outcome::Changed(Some(info), change) => Outcome::Changed(info, change),
            Outcome::Refused(error) => Outcome::Refused(error),
            Outcome::Unknown(unknown) => Outcome::Unknown(unknown),
            // Another node has created it meanwhile.
            Outcome::Changed(None, _) | Outcome::Unchanged(_) => Outcome::Refused(refusal::taken(false)),
        }
    }

    async fn create_in(
        &self,
        session: &mut ClientSession,
        numbered: &Numbered<'_>,
        edit: Edit,
    ) -> Result<(), Fault> {
        let rows = self.row_writes(session, numbered).await?;
        let mut new = edit.room;
        new.extend(doc! {
            "rev": 1_i64,
            "log": Log { rows: rows.added, sum: rows.raised, floor: 0 }.document(),
            "recent": [self.change_document(1, numbered.entry)],
        });
        // An upsert, because only updates can set a field to MongoDB's clock. Numbers start at 1, so the filter matches no room.
        let absent = doc! { "_id": numbered.room.as_str(), "rev": { "$lt": 1_i64 } };
        let create = doc! { "$setOnInsert": new, "$currentDate": { "changed": true } };
        let created = self.rooms.write(Operation::Update, async |rooms| {
            rooms.update_one(absent, create).upsert(true).session(&mut *session).await
        });
        match created.await {
            Err(error) if self.rooms.is_duplicate(&error) => return Err(Fault::Conflict),
            result => drop(result?),
        }
        self.write_members(session, numbered, edit.writes).await?;
        self.write_rows(session, rows).await
    }

    /// Whether a document of this name exists, also one of an archived room.
    async fn exists(&self, room: &RoomName, deadline: Instant) -> Result<bool, Error> {
        let rooms = self.rooms.clone_with_type::<Document>();
        let found = rooms.find_one(doc! { "_id": room.as_str() }).projection(doc! { "_id": 1 });
        Ok(with_deadline(deadline, found.max_time(DEADLINE)).await?.is_some())
    }

    /// Whether a room of this name has messages, members or older changes and no document, because the collection of rooms was dropped or restored.
    async fn is_lost(&self, room: &RoomName, deadline: Instant) -> Result<bool, Error> {
        let members = self.members.clone_with_type();
        for (documents, field) in [(&self.messages, "room"), (&self.changes, "room"), (&members, "_id.room")]
        {
            let of_room = documents.find_one(doc! { field: room.as_str() }).projection(doc! { "_id": 1 });
            if with_deadline(deadline, of_room.max_time(DEADLINE)).await?.is_some() {
                return Ok(!self.exists(room, deadline).await?);
            }
        }
        Ok(false)
    }

    /// Applies `change` to the room and returns the members after it.
    pub(super) async fn update(&self, room: &RoomName, change: &Change) -> Outcome<Vec<Member>> {
        let deadline = deadline_now();
        self.in_rounds(deadline, &Update { room, change, deadline }).await
    }

    /// Writes a change of an existing room: first its document, so that concurrent changes conflict, then its members and rows. `log` sets
    /// numbers of the change log of a room whose rows were deleted in this transaction.
    pub(super) async fn write_change(
        &self,
        session: &mut ClientSession,
        numbered: &Numbered<'_>,
        edit: Edit,
        log: Document,
    ) -> Result<(), Fault> {
        let rows = self.row_writes(session, numbered).await?;
        let mut set = edit.room.get_document("$set").cloned().unwrap_or_default();
        let owner = super::document::owner_of(&edit.members);
        set.insert("owner", owner.as_ref().map(proto::Username::as_str));
        set.insert("member_count", integer(edit.members.len() as u64));
        set.extend(log);
        let mut update = edit.room;
        update.insert("$set", set);
        let update = self.with_change(update, numbered.before, numbered.entry, rows.raise());
        let at = doc! { "_id": numbered.room.as_str(), "rev": numbered.before };
        let written = self.rooms.write(Operation::Update, async |rooms| {
            rooms.update_one(at, update).session(&mut *session).await
        });
        if written.await?.matched_count == 0 {
            return Err(Fault::Conflict);
        }
        self.write_members(session, numbered, edit.writes).await?;
        self.write_rows(session, rows).await
    }

    async fn write_members(
        &self,
        session: &mut ClientSession,
        numbered: &Numbered<'_>,
        writes: Vec<MemberWrite>,
    ) -> Result<(), Fault> {
        let room = numbered.room.as_str();
        let documents = self.members.clone_with_type::<Document>();
        for write in writes {
            match write {
                MemberWrite::Insert(member) => {
                    let new = member_document(room, &member, numbered.before + 1);
                    let inserted = documents.write(Operation::Insert, async |members| {
                        members.insert_one(new).session(&mut *session).await
                    });
                    inserted.await?;
                }
                MemberWrite::Delete(key) => {
                    let deleted = documents.write(Operation::Delete, async |members| {
                        members.delete_one(doc! { "_id": member_id(room, &key) }).session(&mut *session).await
                    });
                    deleted.await?;
                }
                MemberWrite::Promote(key) => {
                    let role = doc! { "$set": { "role": Role::Owner.name() } };
                    let promoted = documents.write(Operation::Update, async |members| {
                        let member = doc! { "_id": member_id(room, &key) };
                        members.update_one(member, role).session(&mut *session).await
                    });
                    promoted.await?;
                }
            }
        }
        Ok(())
    }

    pub(super) async fn write_rows(&self, session: &mut ClientSession, rows: RowWrites) -> Result<(), Fault> {
        if !rows.new.is_empty() {
            let new = rows.new;
            let inserted = self.changes.write(Operation::Insert, async |changes| {
                changes.insert_many(new).session(&mut *session).await
            });
            inserted.await?;
        }
        for (id, rev) in rows.existing {
            let raise = doc! { "$set": { "rev": rev } };
            let raised = self.changes.write(Operation::Update, async |changes| {
                changes.update_one(doc! { "_id": id }, raise).session(&mut *session).await
            });
            raised.await?;
        }
        Ok(())
    }
}
