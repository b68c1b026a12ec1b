//! The documents of rooms in MongoDB. Pure.

use mongodb::bson::{DateTime, Document, doc, oid::ObjectId};
use proto::{RoomName, Username, event::Settings};
use serde::{Deserialize, Serialize};

use super::settings;
use crate::{
    Error,
    directory::{Member, NewRoom, Role, RoomInfo, RoomRecord, change::owner_of},
    mongo::{damaged, number},
};

/// A room's document without its changes. Its `_id` is the room's name, even after it was archived, so that MongoDB itself keeps names
/// unique.
#[derive(Debug, Serialize, Deserialize)]
pub struct RoomDocument {
    #[serde(rename = "_id")]
    name: String,
    pub private: bool,
    ephemeral: bool,
    /// The settings without a field of their own. Absent in rooms of earlier releases.
    #[serde(default)]
    settings: Document,
    pub archived: bool,
    /// In the order in which they joined.
    members: Vec<MemberDocument>,
    /// Departures of users that others had added. Absent in rooms of earlier releases.
    #[serde(default)]
    departures: Vec<Departure>,
    /// The number of the last message of an earlier room of this name; 0 when there was no such room.
    #[serde(default)]
    pub base: i64,
    /// Time at which the room was archived. Absent in rooms of earlier releases and in rooms that are not archived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<DateTime>,
    /// Number of changes. A change is written only if the version is still the same as at the read.
    pub version: i64,
    /// The version up to which the collection of older changes is complete, see [`super::change_log`].
    #[serde(default)]
    pub logged: i64,
    /// The version before which changes are missing, see [`super::change_log`].
    #[serde(default)]
    pub log_floor: i64,
    /// The number of documents of the room in the collection of older changes, at least. Absent in rooms of earlier releases.
    #[serde(default)]
    pub log_parts: i64,
}

/// A member in a room's document. `key` is the canonical form of the name, under which names are unique.
#[derive(Debug, Serialize, Deserialize)]
struct MemberDocument {
    username: String,
    key: String,
    role: Role,
    /// Name of the user who added the member. Absent for a member who created or joined the room themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    /// Key of the user who added the member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    by_key: Option<String>,
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

/// A room's document with the owner as the only member.
#[derive(Debug, Deserialize)]
pub struct RoomSummary {
    #[serde(rename = "_id")]
    name: String,
    private: bool,
    ephemeral: bool,
    #[serde(default)]
    settings: Document,
    #[serde(default)]
    members: Vec<MemberDocument>,
}

/// A room's document with some of its members.
#[derive(Debug, Deserialize)]
pub struct PartialRoom {
    #[serde(rename = "_id")]
    name: String,
    private: bool,
    ephemeral: bool,
    pub archived: bool,
    #[serde(default)]
    settings: Document,
    members: Vec<MemberDocument>,
    /// The number of all members.
    count: i64,
}

impl RoomDocument {
    /// The document of a new room without its `_id`.
    pub fn creation(room: &NewRoom) -> Document {
        doc! {
            "private": room.settings.private,
            "ephemeral": room.settings.ephemeral,
            settings::FIELD: settings::others(&room.settings),
            "archived": false,
            "members": [owner(room)],
            "departures": [],
            "base": 0_i64,
            "version": 1_i64,
        }
    }

    /// The members.
    pub fn members(&self) -> Result<Vec<Member>, Error> {
        self.members.iter().map(MemberDocument::member).collect()
    }

    /// The settings.
    fn settings(&self) -> Result<Settings, Error> {
        settings::settings(self.private, self.ephemeral, &self.settings)
    }

    /// The room's properties and members.
    pub fn record(&self, name: RoomName) -> Result<RoomRecord, Error> {
        let members = self.members()?;
        let room_info = RoomInfo { name, settings: self.settings()?, owner: owner_of(&members) };
        Ok(RoomRecord { room_info, members, rev: number(self.version)? })
    }

    /// Whether the room's name may be reused: the room is archived, and it is ephemeral or a private room without members.
    pub fn is_name_free(&self) -> bool {
        self.archived && (self.ephemeral || (self.private && self.members.is_empty()))
    }

    /// The update that replaces an archived room by a new one, whose messages are numbered from `base + 1` on.
    pub fn renewal(room: &NewRoom, version: i64, base: i64) -> Document {
        // Changes of the earlier room are not for the members of the new one.
        doc! { "$unset": { "ended": "" }, "$max": { "logged": version, "log_floor": version }, "$set": {
            "private": room.settings.private,
            "ephemeral": room.settings.ephemeral,
            settings::FIELD: settings::others(&room.settings),
            "archived": false,
            "members": [owner(room)],
            "departures": [],
            "base": base,
            "log_parts": 0_i64,
        } }
    }

    /// The departures after `oldest`.
    pub fn departures(&self, oldest: DateTime) -> impl Iterator<Item = &Departure> {
        self.departures.iter().filter(move |departure| departure.at > oldest)
    }
}

impl MemberDocument {
    fn member(&self) -> Result<Member, Error> {
        let username = Username::try_from(self.username.clone()).map_err(damaged)?;
        let added_by = self.by.clone().map(Username::try_from).transpose().map_err(damaged)?;
        Ok(Member { username, role: self.role, added_by })
    }
}

impl PartialRoom {
    /// The stages that read a room with the members of these keys and its owner.
    pub fn stages(room: &RoomName, keys: &[String]) -> [Document; 2] {
        let is_read = doc! { "$or": [
            { "$in": ["$$member.key", keys] },
            { "$eq": ["$$member.role", Role::Owner.name()] },
        ] };
        let members = doc! { "$filter": { "input": "$members", "as": "member", "cond": is_read } };
        let count = doc! { "$toLong": { "$size": "$members" } };
        let mut fields = doc! { "private": 1, "ephemeral": 1, "archived": 1, "settings": 1 };
        fields.extend(doc! { "members": members, "count": count });
        [doc! { "$match": { "_id": room.as_str() } }, doc! { "$project": fields }]
    }

    /// The properties, the members that were read, and the number of all members.
    pub fn read(self) -> Result<(RoomInfo, Vec<Member>, u64), Error> {
        let members: Vec<Member> =
            self.members.iter().map(MemberDocument::member).collect::<Result<_, _>>()?;
        let room_info = RoomInfo {
            name: self.name.try_into().map_err(damaged)?,
            settings: settings::settings(self.private, self.ephemeral, &self.settings)?,
            owner: owner_of(&members),
        };
        Ok((room_info, members, number(self.count)?))
    }
}

impl RoomSummary {
    /// The projection. Of the members it reads only the owner, because a room can have many members.
    pub fn fields() -> Document {
        doc! { "private": 1, "ephemeral": 1, "settings": 1, "members": { "$elemMatch": { "role": "owner" } } }
    }

    /// The room's properties.
    pub fn room_info(self) -> Result<RoomInfo, Error> {
        let members: Vec<Member> =
            self.members.iter().map(MemberDocument::member).collect::<Result<_, _>>()?;
        Ok(RoomInfo {
            name: RoomName::try_from(self.name).map_err(damaged)?,
            settings: settings::settings(self.private, self.ephemeral, &self.settings)?,
            owner: owner_of(&members),
        })
    }
}

/// The filter for the rooms of a user.
pub fn rooms_with(user: &Username) -> Document {
    doc! { "members.key": user.key(), "archived": false }
}

/// The document of a trial write. Its `_id` is not a valid name of a room.
pub fn trial() -> Document {
    let id = format!("trial {}", ObjectId::new());
    doc! {
        "_id": id,
        "private": true,
        "ephemeral": false,
        "archived": true,
        "members": [{ "username": "trial", "key": "trial", "role": "owner" }],
        "departures": [],
        "base": 0_i64,
        "version": 1_i64,
        "changed": DateTime::now(),
        "recent": [{ "version": 1_i64, "at": DateTime::now(), "by": "trial", "what": "joined", "user": "trial" }],
    }
}

/// The owner of a new room as a member's document.
fn owner(room: &NewRoom) -> Document {
    member_document(&Member { username: room.owner.clone(), role: Role::Owner, added_by: None })
}

/// A member as part of a room's document.
pub fn member_document(member: &Member) -> Document {
    let Member { username, role, added_by } = member;
    let mut document = doc! { "username": username.as_str(), "key": username.key(), "role": role.name() };
    if let Some(by) = added_by {
        document.extend(doc! { "by": by.as_str(), "by_key": by.key() });
    }
    document
}
