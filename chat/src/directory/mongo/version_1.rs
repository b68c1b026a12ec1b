//! The form of rooms in version 1: one document with the members, the number of changes in `version`, and numbers of the copies of its
//! changes. Read by [`super::migration`] only. Pure.

use mongodb::bson::{Document, doc};
use proto::{RoomName, Username};
use serde::Deserialize;

use super::{
    document::{member_document, owner_of},
    stored_changes::room_name,
};
use crate::{
    Error,
    directory::{Member, Role},
    mongo::damaged,
};

/// A room's document without its changes.
#[derive(Debug, Deserialize)]
pub struct Room {
    #[serde(rename = "_id")]
    name: String,
    #[serde(default)]
    members: Vec<MemberOfRoom>,
    pub version: i64,
    /// The version up to which the rows in the collection of changes are complete.
    #[serde(default)]
    pub logged: i64,
    /// The version before which changes are missing.
    #[serde(default)]
    pub log_floor: i64,
    /// The number of rows of the room in the collection of changes, at least. Absent in rooms of early releases.
    #[serde(default)]
    pub log_parts: i64,
}

/// A member in a room's document.
#[derive(Debug, Deserialize)]
struct MemberOfRoom {
    username: String,
    role: Role,
    #[serde(default)]
    by: Option<String>,
}

impl Room {
    /// The name.
    ///
    /// # Errors
    /// When it is not valid.
    pub fn name(&self) -> Result<RoomName, Error> {
        room_name(self.name.clone())
    }

    /// The members, in the order in which they joined.
    ///
    /// # Errors
    /// When a name is not valid, or there are not exactly one owner and members, or neither.
    pub fn members(&self) -> Result<Vec<Member>, Error> {
        let read = |member: &MemberOfRoom| {
            let username = Username::try_from(member.username.clone()).map_err(damaged)?;
            let added_by = member.by.clone().map(Username::try_from).transpose().map_err(damaged)?;
            Ok(Member { username, role: member.role, added_by })
        };
        let members: Vec<Member> = self.members.iter().map(read).collect::<Result<_, Error>>()?;
        let owners = members.iter().filter(|member| member.role == Role::Owner).count();
        if owners != usize::from(!members.is_empty()) {
            return Err(damaged(format_args!("a room of {} members has {owners} owners", members.len())));
        }
        Ok(members)
    }

    /// The documents of `members`. The numbers in `since` are at most the version of the room, in the order of the members.
    pub fn member_documents(&self, members: &[Member]) -> Vec<Document> {
        let first = self.version + 1 - i64::try_from(members.len()).unwrap_or(i64::MAX);
        let numbered = (first..).zip(members);
        numbered.map(|(since, member)| member_document(&self.name, member, since)).collect()
    }

    /// The update of the room's document to version 2. `log` is the change log.
    pub fn update(&self, members: &[Member], log: Document) -> Document {
        let owner = owner_of(members);
        doc! {
            "$set": {
                "owner": owner.as_ref().map(Username::as_str),
                "member_count": i64::try_from(members.len()).unwrap_or(i64::MAX),
                "rev": self.version,
                "log": log,
            },
            "$unset": { "members": "", "version": "", "logged": "", "log_floor": "", "log_parts": "" },
        }
    }
}
