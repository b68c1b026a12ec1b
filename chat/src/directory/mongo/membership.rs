//! The members of a room as they are stored: in the changes of the room's document that made them, and in the collection `members`. The
//! documents of the collection are brought up to date after a change is committed, so a reader applies the changes of the room's document
//! to them. Pure.

use std::collections::HashMap;

use mongodb::bson::{Document, doc, oid::ObjectId, serialize_to_document};
use proto::Username;
use serde::{Deserialize, Serialize};

use crate::{
    Error,
    directory::{Decision, Member, MemberChange, Role},
    mongo::damaged,
};

/// A user's membership of a room after the last change that concerns it. Complete, so that it replaces any earlier one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// The canonical form of the name, under which names are unique.
    pub key: String,
    username: String,
    /// The role; null when the user has left. Such a document remains, so that a late write of an earlier change cannot
    /// make the user a member.
    #[serde(deserialize_with = "Option::deserialize")]
    role: Option<Role>,
    /// Name of the user who added the member. Absent for a member who created or joined the room themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    /// Key of the user who added the member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_key: Option<String>,
    /// The version of the room at which the membership began. Members are ordered by it.
    place: i64,
    /// The version of the room of the last change of the membership.
    pub rev: i64,
}

/// What a room's document states about its members. A room whose members do not have these totals is damaged.
///
/// An earlier state of all members has another number of members or a smaller sum, because every change of a membership increases its
/// `rev` beyond all of that state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// The name of the owner.
    #[serde(deserialize_with = "Option::deserialize")]
    pub owner: Option<String>,
    /// The number of members.
    pub count: i64,
    /// The sum of [`Membership::rev`] of the members.
    sum: i64,
}

impl Membership {
    /// A membership that begins with the change `version`.
    pub fn new(member: &Member, version: i64) -> Self {
        Self {
            key: member.username.key(),
            username: member.username.to_string(),
            role: Some(member.role),
            by: member.added_by.as_ref().map(Username::to_string),
            by_key: member.added_by.as_ref().map(Username::key),
            place: version,
            rev: version,
        }
    }

    /// The same membership at another place and version. For the migration, which has the order of members without their versions.
    pub fn placed(self, place: i64, rev: i64) -> Self {
        Self { place, rev, ..self }
    }

    /// Whether the user is a member.
    pub fn is_member(&self) -> bool {
        self.role.is_some()
    }

    /// The member. `None` when the user is not a member.
    fn member(&self) -> Result<Option<Member>, Error> {
        let Some(role) = self.role else { return Ok(None) };
        let username = Username::try_from(self.username.clone()).map_err(damaged)?;
        let added_by = self.by.clone().map(Username::try_from).transpose().map_err(damaged)?;
        Ok(Some(Member { username, role, added_by }))
    }

    /// The document in the collection, without `_id`.
    pub fn document(&self, room: &str) -> Document {
        let mut document = self.fields();
        document.insert("room", room);
        document
    }

    /// The form in a room's document.
    pub fn fields(&self) -> Document {
        serialize_to_document(self).expect("memberships have values that BSON has")
    }

    /// The `_id` of the document in the collection.
    pub fn id(&self, room: &str) -> Document {
        doc! { "room": room, "key": &self.key }
    }
}

impl Totals {
    /// The totals of all members of a room.
    pub fn of(members: &[Membership]) -> Self {
        let owner = members.iter().find(|membership| membership.role == Some(Role::Owner));
        Self {
            owner: owner.map(|owner| owner.username.clone()),
            count: i64::try_from(members.len()).unwrap_or(i64::MAX),
            sum: members.iter().fold(0, |sum, membership| sum.wrapping_add(membership.rev)),
        }
    }

    /// The owner.
    ///
    /// # Errors
    /// When the name is not valid.
    pub fn owner(&self) -> Result<Option<Username>, Error> {
        self.owner.clone().map(Username::try_from).transpose().map_err(damaged)
    }

    /// The fields of a room's document.
    pub fn fields(&self) -> Document {
        serialize_to_document(self).expect("totals have values that BSON has")
    }
}

/// The memberships that `decision` writes as the change `version` of a room with these members.
pub fn writes(decision: &Decision, members: &[Membership], version: i64) -> Vec<Membership> {
    let before = |user: &Username| members.iter().find(|membership| membership.key == user.key());
    let write = |change: &MemberChange| match change {
        MemberChange::Joined(member) => Membership::new(member, version),
        MemberChange::Role(member) => {
            let new = Membership::new(member, version);
            let place = before(&member.username).map_or(version, |before| before.place);
            new.placed(place, version)
        }
        MemberChange::Left(user) => {
            let gone = Member { username: user.clone(), role: Role::Member, added_by: None };
            Membership { role: None, ..Membership::new(&gone, version) }
        }
    };
    decision.members.iter().map(write).collect()
}

/// The keys of the users whose rooms or additions change when `writes` replace these members.
pub fn concerned(writes: &[Membership], members: &[Membership]) -> Vec<String> {
    let before = members.iter().filter(|before| writes.iter().any(|write| write.key == before.key));
    let all = before.chain(writes);
    let keys = all.flat_map(|membership| [Some(membership.key.clone()), membership.by_key.clone()]);
    let mut keys: Vec<String> = keys.flatten().collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// The latest membership of each user, among `stored` and `writes`, in no order.
pub fn latest(
    stored: impl IntoIterator<Item = Membership>,
    writes: impl IntoIterator<Item = Membership>,
) -> Vec<Membership> {
    let mut latest: HashMap<String, Membership> = HashMap::new();
    for membership in stored.into_iter().chain(writes) {
        let is_later = latest.get(&membership.key).is_none_or(|found| found.rev <= membership.rev);
        if is_later {
            latest.insert(membership.key.clone(), membership);
        }
    }
    latest.into_values().collect()
}

/// The members after `writes`, in the order in which they joined.
pub fn present(
    stored: impl IntoIterator<Item = Membership>,
    writes: impl IntoIterator<Item = Membership>,
) -> Vec<Membership> {
    let mut members = latest(stored, writes);
    members.retain(Membership::is_member);
    members.sort_unstable_by(|a, b| (a.place, &a.key).cmp(&(b.place, &b.key)));
    members
}

/// The members for the rest of the chat.
///
/// # Errors
/// When a name is not valid.
pub fn members(memberships: &[Membership]) -> Result<Vec<Member>, Error> {
    memberships.iter().filter_map(|membership| membership.member().transpose()).collect()
}

/// The document of a trial write.
pub fn trial() -> Document {
    let room = format!("trial {}", ObjectId::new());
    doc! {
        "_id": { "room": &room, "key": "trial" }, "room": room, "key": "trial", "username": "trial", "role": "owner",
        "place": 1_i64, "rev": 1_i64,
    }
}
