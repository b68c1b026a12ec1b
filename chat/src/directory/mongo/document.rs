//! The documents of rooms in MongoDB. Pure.

use mongodb::bson::{Bson, DateTime, Document, doc, serialize_to_bson, serialize_to_document};
use proto::{
    RoomName, Username,
    event::{Item, Settings},
};
use serde::{Deserialize, Serialize};

use crate::{
    Error,
    changes::{Change, KEPT},
    directory::{
        ChangeKind, Decision, Departure, DepartureChange, Member, MemberChange, NewRoom, Role, RoomInfo,
        RoomRecord, change::owner_of, oldest_departure,
    },
    mongo::{date, number, timestamp},
};

/// Maximum number of departures kept in a room. The oldest are dropped.
const MAX_DEPARTURES: i32 = 1_000;

/// A room's document. Its `_id` is the room's name, even after it was archived, so that MongoDB itself keeps names unique.
#[derive(Debug, Serialize, Deserialize)]
pub struct RoomDocument {
    #[serde(rename = "_id")]
    pub name: RoomName,
    settings: Settings,
    pub archived: bool,
    /// In the order in which they joined.
    members: Vec<MemberDocument>,
    departures: Vec<DepartureDocument>,
    /// Number of changes. A change is written only if the version is still the same as at the read.
    pub version: i64,
    /// The latest changes, oldest first, at most [`KEPT`]. Not always read.
    #[serde(default)]
    pub recent: Vec<StoredChange>,
}

/// A member in a room's document. `key` is the canonical form of the name, under which names are unique.
#[derive(Debug, Serialize, Deserialize)]
struct MemberDocument {
    username: Username,
    key: String,
    role: Role,
    /// The user who added the member, and their key. Absent for a member who created or joined the room themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    by: Option<Username>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    by_key: Option<String>,
}

/// A departure in a room's document.
#[derive(Debug, Serialize, Deserialize)]
struct DepartureDocument {
    key: String,
    user: Username,
    by: Username,
    at: DateTime,
}

/// A room's document with the owner as the only member.
#[derive(Debug, Deserialize)]
pub struct RoomSummary {
    #[serde(rename = "_id")]
    name: RoomName,
    settings: Settings,
    #[serde(default)]
    members: Vec<MemberDocument>,
}

/// A change in a room's document.
#[derive(Debug, Serialize, Deserialize)]
pub struct StoredChange {
    pub version: i64,
    /// By the clock of the node that made the change.
    at: DateTime,
    /// Id of the process that made the change.
    process: String,
    what: ChangeKind,
    by: Username,
    /// The changed parts in their state after the change.
    pub items: Vec<Item>,
}

impl StoredChange {
    /// The change that results in `version`.
    pub fn new(version: i64, process: &str, decision: &Decision) -> Self {
        let (what, by) = (decision.what.clone(), decision.by.clone());
        Self { version, at: DateTime::now(), process: process.to_owned(), what, by, items: decision.items() }
    }

    /// The change as it is delivered. A change by `process`, this process, is its own.
    pub fn read(self, process: &str) -> Result<Change, Error> {
        let Self { version, at, process: by_process, what, by, items } = self;
        let (version, at) = (number(version)?, timestamp(at)?);
        Ok(Change { version, at, what, by: Some(by), items, is_own: by_process == process })
    }
}

impl RoomDocument {
    /// The members.
    pub fn members(&self) -> Vec<Member> {
        self.members.iter().map(MemberDocument::member).collect()
    }

    /// The room's properties and members.
    pub fn record(self) -> Result<RoomRecord, Error> {
        let (members, oldest) = (self.members(), date(oldest_departure()));
        let departures = self.departures.into_iter().filter(|departure| departure.at > oldest);
        let departures = departures.map(|DepartureDocument { user, by, .. }| Departure { user, adder: by });
        Ok(RoomRecord {
            room_info: RoomInfo { name: self.name, settings: self.settings, owner: owner_of(&members) },
            members,
            departures: departures.collect(),
            rev: number(self.version)?,
        })
    }
}

impl RoomSummary {
    /// The projection. Of the members it reads only the owner, because a room can have many members.
    pub fn fields() -> Document {
        doc! { "settings": 1, "members": { "$elemMatch": { "role": Role::Owner.name() } } }
    }

    /// The room's properties.
    pub fn room_info(self) -> RoomInfo {
        let owner = self.members.into_iter().next().map(|owner| owner.username);
        RoomInfo { name: self.name, settings: self.settings, owner }
    }
}

impl MemberDocument {
    fn new(member: &Member) -> Self {
        let Member { username, role, added_by } = member;
        let by_key = added_by.as_ref().map(Username::key);
        Self { username: username.clone(), key: username.key(), role: *role, by: added_by.clone(), by_key }
    }

    fn member(&self) -> Member {
        Member { username: self.username.clone(), role: self.role, added_by: self.by.clone() }
    }
}

/// The filter for the rooms of a user.
pub fn rooms_with(user: &Username) -> Document {
    doc! { "members.key": user.key(), "archived": false }
}

/// The document of a new room without its `_id`. `change` is its creation.
pub fn creation(room: &NewRoom, change: &StoredChange) -> Document {
    let owner = Member { username: room.owner.clone(), role: Role::Owner, added_by: None };
    doc! {
        "settings": bson(&room.settings),
        "archived": false,
        "members": [bson(&MemberDocument::new(&owner))],
        "departures": [],
        "version": 1_i64,
        "recent": [bson(change)],
    }
}

/// The update of a room's document by a change.
pub fn update(decision: &Decision, change: &StoredChange) -> Document {
    let latest = i32::try_from(KEPT).unwrap_or(i32::MAX);
    let (mut set, mut pull) = (doc! {}, doc! {});
    let mut push = doc! { "recent": { "$each": [bson(change)], "$slice": -latest } };
    match &decision.members[..] {
        [] => (),
        [MemberChange::Joined(member)] => {
            push.insert("members", bson(&MemberDocument::new(member)));
        }
        [MemberChange::Left(user)] => {
            pull.insert("members", doc! { "key": user.key() });
        }
        // One update cannot remove an element and change another one.
        _ => {
            let members = decision.all_members.iter().map(|member| bson(&MemberDocument::new(member)));
            set.insert("members", members.collect::<Vec<_>>());
        }
    }
    match &decision.departure {
        None => (),
        Some(DepartureChange::Clear(user)) => {
            pull.insert("departures", doc! { "key": user.key() });
        }
        Some(DepartureChange::Record(Departure { user, adder })) => {
            let (key, user, by) = (user.key(), user.clone(), adder.clone());
            let departure = DepartureDocument { key, user, by, at: DateTime::now() };
            push.insert("departures", doc! { "$each": [bson(&departure)], "$slice": -MAX_DEPARTURES });
        }
    }
    if let Some(patch) = &decision.settings {
        let fields = serialize_to_document(patch).expect("settings have values that BSON has");
        set.extend(fields.into_iter().map(|(name, value)| (format!("settings.{name}"), value)));
    }
    if decision.ends {
        set.insert("archived", true);
    }
    let mut update =
        doc! { "$push": push, "$inc": { "version": 1_i64 }, "$currentDate": { "changed": true } };
    let used = [("$set", set), ("$pull", pull)].into_iter().filter(|(_, fields)| !fields.is_empty());
    update.extend(used.map(|(operator, fields)| (operator.to_owned(), Bson::Document(fields))));
    update
}

fn bson(value: &impl Serialize) -> Bson {
    serialize_to_bson(value).expect("names, numbers and times have BSON")
}
