//! The documents of rooms in MongoDB. Pure.

use mongodb::bson::{
    Bson, DateTime, Document, deserialize_from_bson, deserialize_from_document, doc, oid::ObjectId,
};
use proto::{RoomName, event::Settings};
use serde::{Deserialize, Serialize};

use super::{
    membership::{self, Membership, Totals},
    settings,
};
use crate::{
    Error,
    directory::{Member, NewRoom, Role, RoomInfo, RoomRecord},
    mongo::{damaged, number},
};

/// A room's document. Its `_id` is the room's name, even after it was archived, so that MongoDB itself keeps names unique.
#[derive(Debug, Clone, Deserialize)]
pub struct RoomDocument {
    #[serde(rename = "_id")]
    pub name: String,
    pub private: bool,
    ephemeral: bool,
    /// The settings without a field of their own. Absent in rooms of earlier releases.
    #[serde(default)]
    settings: Document,
    pub archived: bool,
    /// What the members must have in total.
    #[serde(flatten)]
    pub totals: Totals,
    /// Departures of users that others had added. Absent in rooms of earlier releases.
    #[serde(default)]
    departures: Vec<Departure>,
    /// The number of the last message of an earlier room of this name; 0 when there was no such room.
    #[serde(default)]
    pub base: i64,
    /// Time at which the room was archived. Absent in rooms of earlier releases and in rooms that are not archived.
    #[serde(default)]
    pub ended: Option<DateTime>,
    /// Number of changes. A change is written only if the version is still the same as at the read.
    pub version: i64,
    /// The version up to which the collection of members is up to date.
    pub applied: i64,
    /// The version of an earlier room of this name; 0 when there was no such room. Its members are not members of this room.
    #[serde(default)]
    pub began: i64,
    /// The version up to which the collection of older changes is complete, see [`super::change_log`].
    #[serde(default)]
    pub logged: i64,
    /// The version before which changes are missing, see [`super::change_log`].
    #[serde(default)]
    pub log_floor: i64,
    /// The number of documents of the room in the collection of older changes, at least. Absent in rooms of earlier releases.
    #[serde(default)]
    pub log_parts: i64,
    /// The latest changes that were read. Damaged ones are possible.
    #[serde(default)]
    recent: Vec<Bson>,
}

/// The memberships that a change in a room's document has written.
#[derive(Debug, Deserialize)]
struct WrittenMembers {
    version: i64,
    at: DateTime,
    /// Absent in changes of other things, and in those of earlier releases.
    #[serde(default)]
    members: Vec<Membership>,
}

/// Departure of a user from a room that another user had added them to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Departure {
    /// Key of the user who left.
    pub key: String,
    /// Key of the user who had added them.
    pub by: String,
    /// Time of the departure.
    pub at: DateTime,
}

/// A room with its members, both at the version of the document.
#[derive(Debug)]
pub struct StoredRoom {
    pub document: RoomDocument,
    /// The members in the order in which they joined.
    pub members: Vec<Membership>,
}

/// Changes whose memberships are not in the collection of members yet.
#[derive(Debug)]
pub struct Pending {
    /// The memberships, in the order of the changes.
    pub writes: Vec<Membership>,
    /// The time of the first of the changes.
    pub since: Option<DateTime>,
}

impl RoomDocument {
    /// A document that was read.
    ///
    /// # Errors
    /// When a field is absent or has another type.
    pub fn read(document: Document) -> Result<Self, Error> {
        deserialize_from_document(document).map_err(damaged)
    }

    /// The fields of a document without the departures, with those changes only whose members are not in the collection yet.
    pub fn summary() -> Document {
        let is_pending = doc! { "$gt": ["$$change.version", "$applied"] };
        let recent = doc! { "$ifNull": ["$recent", []] };
        let mut fields =
            doc! { "recent": { "$filter": { "input": recent, "as": "change", "cond": is_pending } } };
        let others = [
            "private",
            "ephemeral",
            "settings",
            "archived",
            "owner",
            "count",
            "sum",
            "base",
            "ended",
            "version",
            "applied",
            "began",
            "logged",
            "log_floor",
            "log_parts",
        ];
        fields.extend(others.map(|field| (field.to_owned(), Bson::Int32(1))));
        fields
    }

    /// As [`RoomDocument::summary`], with the departures.
    pub fn fields() -> Document {
        let mut fields = Self::summary();
        fields.insert("departures", 1);
        fields
    }

    /// The document of a new room without its `_id`. It is not complete without the change that creates the room.
    pub fn creation(room: &NewRoom) -> Document {
        let mut created = Self::new_fields(room, 1, 0);
        created.extend(doc! { "version": 1_i64, "applied": 0_i64, "pending": [room.owner.key()] });
        created
    }

    /// The update that replaces an archived room at `version` by a new one, whose messages are numbered from `base + 1` on.
    pub fn renewal(room: &NewRoom, version: i64, base: i64) -> Document {
        let mut set = Self::new_fields(room, version + 1, base);
        set.extend(doc! { "began": version, "log_parts": 0_i64, "pending": [room.owner.key()] });
        // Changes of the earlier room are not for the members of the new one.
        doc! { "$unset": { "ended": "" }, "$max": { "logged": version, "log_floor": version }, "$set": set }
    }

    /// The fields of a new room that is created by the change `version`.
    fn new_fields(room: &NewRoom, version: i64, base: i64) -> Document {
        let mut fields = doc! {
            "private": room.settings.private,
            "ephemeral": room.settings.ephemeral,
            settings::FIELD: settings::others(&room.settings),
            "archived": false,
            "departures": [],
            "base": base,
        };
        fields.extend(Totals::of(&[owner(room, version)]).fields());
        fields
    }

    /// The settings.
    fn settings(&self) -> Result<Settings, Error> {
        settings::settings(self.private, self.ephemeral, &self.settings)
    }

    /// The room's name.
    ///
    /// # Errors
    /// When it is not valid.
    pub fn room(&self) -> Result<RoomName, Error> {
        RoomName::try_from(self.name.clone()).map_err(damaged)
    }

    /// The room's properties.
    ///
    /// # Errors
    /// When one is not valid.
    pub fn room_info(&self) -> Result<RoomInfo, Error> {
        Ok(RoomInfo { name: self.room()?, settings: self.settings()?, owner: self.totals.owner()? })
    }

    /// Whether the room's name may be reused: the room is archived, and it is ephemeral or a private room without members.
    pub fn is_name_free(&self) -> bool {
        self.archived && (self.ephemeral || (self.private && self.totals.count == 0))
    }

    /// The departures after `oldest`.
    pub fn departures(&self, oldest: DateTime) -> impl Iterator<Item = &Departure> {
        self.departures.iter().filter(move |departure| departure.at > oldest)
    }

    /// The changes whose memberships are not in the collection of members yet.
    ///
    /// # Errors
    /// When one of them is absent or damaged.
    pub fn pending(&self) -> Result<Pending, Error> {
        let mut changes: Vec<WrittenMembers> = self.written().collect();
        changes.retain(|change| change.version > self.applied);
        changes.sort_by_key(|change| change.version);
        if !changes.iter().map(|change| change.version).eq(self.applied + 1..=self.version) {
            let name = &self.name;
            return Err(damaged(format_args!("the room {name} lacks a change that its members need")));
        }
        let since = changes.iter().find(|change| !change.members.is_empty()).map(|change| change.at);
        Ok(Pending { writes: changes.into_iter().flat_map(|change| change.members).collect(), since })
    }

    /// The memberships of all latest changes that were read and are not damaged.
    pub fn recent_writes(&self) -> Vec<Membership> {
        self.written().flat_map(|change| change.members).filter(|write| write.rev > self.began).collect()
    }

    fn written(&self) -> impl Iterator<Item = WrittenMembers> {
        self.recent.iter().filter_map(|change| deserialize_from_bson(change.clone()).ok())
    }

    /// The members: those in the collection, of which some are not up to date, and `writes`. `None` when they have not the totals of the
    /// document.
    pub fn members(
        &self,
        stored: impl IntoIterator<Item = Membership>,
        writes: impl IntoIterator<Item = Membership>,
    ) -> Option<Vec<Membership>> {
        let members = self.unchecked_members(stored, writes);
        let is_later = |membership: &Membership| membership.rev > self.version;
        (Totals::of(&members) == self.totals && !members.iter().any(is_later)).then_some(members)
    }
}

impl RoomDocument {
    /// As [`RoomDocument::members`], without the comparison of the totals.
    pub fn unchecked_members(
        &self,
        stored: impl IntoIterator<Item = Membership>,
        writes: impl IntoIterator<Item = Membership>,
    ) -> Vec<Membership> {
        let stored = stored.into_iter().filter(|membership| membership.rev > self.began);
        membership::present(stored, writes)
    }
}

impl StoredRoom {
    /// The room's properties and members.
    ///
    /// # Errors
    /// When a value is not valid.
    pub fn record(&self) -> Result<RoomRecord, Error> {
        let members: Vec<Member> = membership::members(&self.members)?;
        Ok(RoomRecord { room_info: self.document.room_info()?, members, rev: number(self.document.version)? })
    }
}

/// The document of a trial write. Its `_id` is not a valid name of a room.
pub fn trial() -> Document {
    let id = format!("trial {}", ObjectId::new());
    doc! {
        "_id": id,
        "private": true,
        "ephemeral": false,
        "archived": true,
        "owner": "trial",
        "count": 1_i64,
        "sum": 1_i64,
        "departures": [],
        "base": 0_i64,
        "version": 1_i64,
        "applied": 0_i64,
        "pending": ["trial"],
        "changed": DateTime::now(),
        "recent": [{ "version": 1_i64, "at": DateTime::now(), "by": "trial", "what": "joined", "user": "trial" }],
    }
}

/// The membership of the owner of a new room, which is created by the change `version`.
pub fn owner(room: &NewRoom, version: i64) -> Membership {
    let owner = Member { username: room.owner.clone(), role: Role::Owner, added_by: None };
    Membership::new(&owner, version)
}
