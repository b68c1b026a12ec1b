//! A room as a document of MongoDB. Pure.

use mongodb::bson::{DateTime, Document, doc};
use proto::{RoomName, Username};
use serde::{Deserialize, Serialize};

use super::change::Change;
use crate::{
    Error,
    directory::{Entry, Member, NewRoom, Role, RoomInfo},
    mongo::damaged,
};

/// A room, whole. Its name is its `_id`, also when it is archived, so that MongoDB itself keeps it unique for ever.
#[derive(Debug, Serialize, Deserialize)]
pub struct Stored {
    #[serde(rename = "_id")]
    name: String,
    pub private: bool,
    ephemeral: bool,
    pub archived: bool,
    /// Oldest first.
    members: Vec<Person>,
    /// Who has left a room into which they were added. Absent in rooms of earlier releases.
    #[serde(default)]
    departures: Vec<Departure>,
    /// The last number that an earlier room of this name has given to a message.
    #[serde(default)]
    pub base: i64,
    /// When it was archived. Absent in rooms of earlier releases, and in rooms that have not ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<DateTime>,
    /// How many changes there were; a change finds the room as it was read or not at all.
    pub version: i64,
}

/// A member. The key is the name in the one form under which names are unique.
#[derive(Debug, Serialize, Deserialize)]
struct Person {
    username: String,
    key: String,
    role: Role,
    /// The adder, as `username`. Absent for a member who made or entered the room themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    /// The adder, as `key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    by_key: Option<String>,
}

/// Somebody has left a room into which they were added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Departure {
    /// Who has left, as a member's key.
    pub key: String,
    /// Who had added them, as a member's key.
    pub by: String,
    /// When.
    pub at: DateTime,
}

/// A room without its members, but for the owner.
#[derive(Debug, Deserialize)]
pub struct Listed {
    #[serde(rename = "_id")]
    name: String,
    private: bool,
    ephemeral: bool,
    #[serde(default)]
    members: Vec<Person>,
}

impl Stored {
    /// A room that is to be, without its name.
    pub fn creation(room: &NewRoom) -> Document {
        doc! {
            "private": room.private,
            "ephemeral": room.ephemeral,
            "archived": false,
            "members": [owner(room)],
            "departures": [],
            "base": 0_i64,
            "version": 1_i64,
        }
    }

    /// Who is in it.
    pub fn members(&self) -> Result<Vec<Member>, Error> {
        self.members.iter().map(Person::member).collect()
    }

    /// All there is to know of it.
    pub fn entry(&self, name: RoomName) -> Result<Entry, Error> {
        let members = self.members()?;
        let room_info =
            RoomInfo { name, private: self.private, ephemeral: self.ephemeral, owner: owner_of(&members) };
        Ok(Entry { room_info, members })
    }

    /// Whether its name may be given again: nobody can ever enter it, and nobody meant to keep it.
    pub fn is_free(&self) -> bool {
        self.archived && (self.ephemeral || (self.private && self.members.is_empty()))
    }

    /// The update that makes a new room of it, whose numbers go on after `base`.
    pub fn renewal(room: &NewRoom, base: i64) -> Document {
        doc! { "$unset": { "ended": "" }, "$set": {
            "private": room.private,
            "ephemeral": room.ephemeral,
            "archived": false,
            "members": [owner(room)],
            "departures": [],
            "base": base,
        } }
    }

    /// Who has left it, not longer ago than `oldest`, and had been added.
    pub fn departures(&self, oldest: DateTime) -> impl Iterator<Item = &Departure> {
        self.departures.iter().filter(move |departure| departure.at > oldest)
    }

    /// Whether it is as after `change`.
    pub fn shows(&self, change: &Change) -> bool {
        let has = |user: &Username| self.members.iter().any(|person| person.key == user.key());
        match change {
            Change::Add { user, .. } | Change::AddBy { user, .. } => has(user),
            Change::Remove { user, .. } | Change::Leave { user } => !has(user),
            Change::SetPrivate { private, .. } => self.private == *private,
            Change::Archive { .. } => self.archived,
        }
    }
}

impl Person {
    fn member(&self) -> Result<Member, Error> {
        let username = Username::try_from(self.username.clone()).map_err(damaged)?;
        let added_by = self.by.clone().map(Username::try_from).transpose().map_err(damaged)?;
        Ok(Member { username, role: self.role, added_by })
    }
}

impl Listed {
    /// What a projection must hold. A big room's members are not read for its owner's sake.
    pub fn fields() -> Document {
        doc! { "private": 1, "ephemeral": 1, "members": { "$elemMatch": { "role": "owner" } } }
    }

    /// What the room is.
    pub fn room_info(self) -> Result<RoomInfo, Error> {
        let members: Vec<Member> = self.members.iter().map(Person::member).collect::<Result<_, _>>()?;
        Ok(RoomInfo {
            name: RoomName::try_from(self.name).map_err(damaged)?,
            private: self.private,
            ephemeral: self.ephemeral,
            owner: owner_of(&members),
        })
    }
}

/// The first member.
fn owner(room: &NewRoom) -> Document {
    person(&Member { username: room.owner.clone(), role: Role::Owner, added_by: None })
}

/// A member as the part of a document.
pub fn person(member: &Member) -> Document {
    let Member { username, role, added_by } = member;
    let role = match role {
        Role::Owner => "owner",
        Role::Member => "member",
    };
    let mut person = doc! { "username": username.as_str(), "key": username.key(), "role": role };
    if let Some(by) = added_by {
        person.extend(doc! { "by": by.as_str(), "by_key": by.key() });
    }
    person
}

fn owner_of(members: &[Member]) -> Option<Username> {
    members.iter().find(|member| member.role == Role::Owner).map(|member| member.username.clone())
}
