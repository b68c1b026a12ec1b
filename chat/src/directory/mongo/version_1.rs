//! The form of rooms in version 1: one document with the members, and another form of the items of its changes. Read by
//! [`super::migration`] only. Pure.

use mongodb::bson::{Bson, Document, doc};
use proto::{RoomName, Username};
use serde::Deserialize;

use super::{
    items,
    membership::{Membership, Totals},
};
use crate::{
    Error,
    directory::{Member, Role},
    mongo::damaged,
};

/// A room's document.
#[derive(Debug, Deserialize)]
pub struct Room {
    #[serde(rename = "_id")]
    name: String,
    members: Vec<MemberOfRoom>,
    pub version: i64,
    #[serde(default)]
    recent: Vec<Bson>,
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
    /// The members in the order in which they joined. Each has its place before the present version, which is the version of all of them.
    ///
    /// # Errors
    /// When a name is not valid, or there are not exactly one owner and members, or neither.
    pub fn members(&self) -> Result<Vec<Membership>, Error> {
        RoomName::try_from(self.name.clone()).map_err(damaged)?;
        if self.version < 1 {
            return Err(damaged("a room has no version"));
        }
        let read = |(place, member): (i64, &MemberOfRoom)| {
            let username = Username::try_from(member.username.clone()).map_err(damaged)?;
            let added_by = member.by.clone().map(Username::try_from).transpose().map_err(damaged)?;
            let member = Member { username, role: member.role, added_by };
            Ok(Membership::new(&member, self.version).placed(place, self.version))
        };
        let first = self.version + 1 - i64::try_from(self.members.len()).unwrap_or(i64::MAX);
        let members: Vec<Membership> =
            (first..).zip(&self.members).map(read).collect::<Result<_, Error>>()?;
        let owners = self.members.iter().filter(|member| member.role == Role::Owner).count();
        if owners != usize::from(!members.is_empty()) {
            return Err(damaged(format_args!("a room of {} members has {owners} owners", members.len())));
        }
        Ok(members)
    }

    /// The update of the document to version 2. `members` are its members.
    pub fn update(&self, members: &[Membership]) -> Document {
        let mut set = Totals::of(members).fields();
        let recent: Vec<Bson> = self.recent.iter().cloned().map(migrated).collect();
        set.extend(doc! { "applied": self.version, "began": 0_i64, "recent": recent });
        doc! { "$set": set, "$unset": { "members": "", "pending": "" } }
    }
}

/// A stored change with its items in the form of version 2. Without items, which are then read from the present state of the room, if one is
/// damaged.
fn migrated(change: Bson) -> Bson {
    let Bson::Document(mut change) = change else { return change };
    let by = change.get_str("actor").ok().map(str::to_owned);
    if let Some(items) = change.remove("items") {
        let items =
            items.as_array().map(|items| items.iter().map(|stored| item(stored, by.as_deref())).collect());
        if let Some(Some(items)) = items {
            change.insert("items", Bson::Array(items));
        }
    }
    change.into()
}

/// An item in the form of version 2. `None` when it is damaged.
fn item(stored: &Bson, by: Option<&str>) -> Option<Bson> {
    let stored = stored.as_document()?;
    let kind = stored.get_str("type").ok()?;
    let mut item = match kind {
        "member" => {
            let member =
                doc! { "username": stored.get_str("user").ok()?, "role": stored.get("role")?.clone() };
            doc! { "type": kind, "member": member }
        }
        "room" => {
            let settings = match stored.get("settings")? {
                Bson::Document(stored) => properties(stored)?.into(),
                ended => ended.clone(),
            };
            doc! { "type": kind, "settings": settings }
        }
        _ => return Some(stored.clone().into()),
    };
    let is_about = |user: &str| by.is_some_and(|by| by.eq_ignore_ascii_case(user));
    let by = by.filter(|_| !stored.get_str("user").is_ok_and(is_about));
    item.extend(by.map(|by| ("by".to_owned(), Bson::from(by))));
    items::item(&item).ok()?.map(|_| item.into())
}

fn properties(stored: &Document) -> Option<Document> {
    let mut state = doc! { "kind": "room" };
    state.extend(stored.get_document("settings").cloned().unwrap_or_default());
    for (field, new) in
        [("private", "private"), ("ephemeral", "ephemeral"), ("owner", "owner"), ("members", "memberCount")]
    {
        state.insert(new, stored.get(field)?.clone());
    }
    Some(state)
}
