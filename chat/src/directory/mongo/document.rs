//! The documents of rooms and of members in MongoDB. Pure.

use mongodb::bson::{DateTime, Document, doc, oid::ObjectId};
use proto::{RoomName, Username};
use serde::Deserialize;

use super::settings;
use crate::{
    Error,
    column::integer,
    directory::{Member, NewRoom, Role, RoomInfo, RoomRecord},
    mongo::{damaged, number},
};

/// A room's document without its changes. Its `_id` is the room's name, also after it was archived, so that MongoDB itself keeps names
/// unique.
#[derive(Debug, Deserialize)]
pub struct RoomDocument {
    #[serde(rename = "_id")]
    pub name: String,
    pub private: bool,
    ephemeral: bool,
    /// The settings without a field of their own. Absent in rooms of earlier releases.
    #[serde(default)]
    settings: Document,
    pub archived: bool,
    /// The owner's name. Absent in a room without members.
    #[serde(default)]
    owner: Option<String>,
    /// The number of members.
    member_count: i64,
    /// Departures of users that others had added.
    #[serde(default)]
    departures: Vec<Departure>,
    /// The number of the last message of an earlier room of this name; 0 when there was no such room.
    #[serde(default)]
    pub base: i64,
    /// Time at which the room was archived. Absent in rooms of early releases and in rooms that are not archived.
    #[serde(default)]
    pub ended: Option<DateTime>,
    /// The number of changes. Each change increments it in its transaction.
    pub rev: i64,
    /// The rows of the change log, see [`super::change_log`].
    pub log: Log,
}

/// The rows of a room in the collection of changes. A room whose rows have another number or sum has lost rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub struct Log {
    /// The number of rows.
    pub rows: i64,
    /// The sum of the numbers of their changes.
    pub sum: i64,
    /// The number of the change up to which changes are missing.
    #[serde(default)]
    pub floor: i64,
}

/// A member's document. Its `_id` is the room and the canonical form of the name, so that MongoDB itself keeps members unique.
#[derive(Debug, Clone, Deserialize)]
pub struct MemberDocument {
    username: String,
    role: Role,
    /// Name of the user who added the member. Absent for a member who created or joined the room themselves.
    #[serde(default)]
    by: Option<String>,
}

/// The properties of a room, as they are read for each membership of a user.
#[derive(Debug, Deserialize)]
pub struct RoomSummary {
    room: Summary,
}

#[derive(Debug, Deserialize)]
struct Summary {
    #[serde(rename = "_id")]
    name: String,
    private: bool,
    ephemeral: bool,
    #[serde(default)]
    settings: Document,
    #[serde(default)]
    owner: Option<String>,
}

/// Departure of a user from a room that another user had added them to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Departure {
    /// Key of the user who left.
    pub key: String,
    /// Time of the departure.
    pub at: DateTime,
}

/// A room and its members, of one snapshot.
#[derive(Debug)]
pub struct StoredRoom {
    pub document: RoomDocument,
    /// In the order in which they joined.
    pub members: Vec<Member>,
}

impl Log {
    /// The stored form.
    pub fn document(self) -> Document {
        doc! { "rows": self.rows, "sum": self.sum, "floor": self.floor }
    }
}

impl RoomDocument {
    /// The document of a new room without its `_id` and its change. `base` is the number of the last message of an earlier room of the name.
    pub fn creation(room: &NewRoom, base: i64) -> Document {
        doc! {
            "private": room.settings.private,
            "ephemeral": room.settings.ephemeral,
            settings::FIELD: settings::others(&room.settings),
            "archived": false,
            "owner": room.owner.as_str(),
            "member_count": 1_i64,
            "departures": [],
            "base": base,
        }
    }

    /// The projection to what [`RoomSummary`] reads.
    pub fn summary() -> Document {
        doc! { "private": 1, "ephemeral": 1, "settings": 1, "owner": 1 }
    }

    /// The properties.
    pub fn room_info(&self) -> Result<RoomInfo, Error> {
        let Self { name, private, ephemeral, settings, owner, .. } = self;
        room_info(name, (*private, *ephemeral, settings), owner.as_deref())
    }

    /// The number of members.
    pub fn member_count(&self) -> Result<u64, Error> {
        number(self.member_count)
    }

    /// Whether the room's name may be reused: the room is archived, and it is ephemeral or a private room without members.
    pub fn is_name_free(&self) -> bool {
        self.archived && (self.ephemeral || (self.private && self.member_count == 0))
    }

    /// The departures after `oldest`.
    pub fn departures(&self, oldest: DateTime) -> impl Iterator<Item = &Departure> {
        self.departures.iter().filter(move |departure| departure.at > oldest)
    }
}

impl StoredRoom {
    /// The room's properties and members.
    ///
    /// # Errors
    /// When the members are not those that the room's document states: one of the collections was dropped, restored or changed alone.
    pub fn record(&self) -> Result<RoomRecord, Error> {
        let room_info = self.document.room_info()?;
        let owner = |owner: Option<&Username>| owner.map(Username::key);
        let owners = self.members.iter().filter(|member| member.role == Role::Owner).count();
        let is_consistent = self.document.member_count()? == self.members.len() as u64
            && owner(room_info.owner.as_ref()) == owner(owner_of(&self.members).as_ref())
            && owners == usize::from(room_info.owner.is_some());
        if !is_consistent {
            return Err(Error::Store(format!(
                "the members of the room {} are {}, and its document states {}: the collection `members` or `rooms` was dropped, restored or \
                 changed alone; restore both from one backup",
                room_info.name,
                self.members.len(),
                self.document.member_count,
            )));
        }
        Ok(RoomRecord { room_info, members: self.members.clone(), rev: number(self.document.rev)? })
    }
}

impl RoomSummary {
    /// The properties.
    pub fn room_info(&self) -> Result<RoomInfo, Error> {
        let Summary { name, private, ephemeral, settings, owner } = &self.room;
        room_info(name, (*private, *ephemeral, settings), owner.as_deref())
    }
}

fn room_info(name: &str, stored: (bool, bool, &Document), owner: Option<&str>) -> Result<RoomInfo, Error> {
    let (private, ephemeral, others) = stored;
    Ok(RoomInfo {
        name: RoomName::try_from(name.to_owned()).map_err(damaged)?,
        settings: settings::settings(private, ephemeral, others)?,
        owner: owner.map(|owner| Username::try_from(owner.to_owned())).transpose().map_err(damaged)?,
    })
}

impl MemberDocument {
    /// The member.
    pub fn member(self) -> Result<Member, Error> {
        let username = Username::try_from(self.username).map_err(damaged)?;
        let added_by = self.by.map(Username::try_from).transpose().map_err(damaged)?;
        Ok(Member { username, role: self.role, added_by })
    }
}

/// The `_id` of a member's document. `key` is [`Username::key`].
pub fn member_id(room: &str, key: &str) -> Document {
    doc! { "room": room, "key": key }
}

/// A member's document. `since` orders the members of a room: it is the number of the change by which the member joined, or for members
/// of before version 2 a lower number.
pub fn member_document(room: &str, member: &Member, since: i64) -> Document {
    let Member { username, role, added_by } = member;
    let mut document = doc! {
        "_id": member_id(room, &username.key()),
        "username": username.as_str(),
        "role": role.name(),
        "since": since,
    };
    if let Some(by) = added_by {
        document.extend(doc! { "by": by.as_str(), "by_key": by.key() });
    }
    document
}

/// The document of a trial write to the collection of rooms. No room has a name like its `_id`.
pub fn room_trial() -> Document {
    let id = format!("trial {}", ObjectId::new());
    doc! {
        "_id": id,
        "private": true,
        "ephemeral": false,
        "archived": true,
        "owner": "trial",
        "member_count": 1_i64,
        "departures": [],
        "base": 0_i64,
        "rev": 1_i64,
        "log": Log::default().document(),
        "changed": DateTime::now(),
        "recent": [{ "version": 1_i64, "at": DateTime::now(), "by": "trial", "what": "joined", "user": "trial" }],
    }
}

/// The document of a trial write to the collection of members. No room has a name like that in its `_id`.
pub fn member_trial() -> Document {
    let id = member_id(&format!("trial {}", ObjectId::new()), "trial");
    doc! { "_id": id, "username": "trial", "role": "owner", "since": integer(1) }
}

/// The owner among `members`.
pub fn owner_of(members: &[Member]) -> Option<Username> {
    members.iter().find(|member| member.role == Role::Owner).map(|member| member.username.clone())
}
