//! The changed parts of a room as they are stored with a change. Pure.

use mongodb::bson::{Bson, Document, doc};
use proto::{
    Username,
    event::{Item, MemberState, RoomKind, RoomState, Settings},
};

use crate::{
    Error,
    directory::Role,
    mongo::{damaged, number},
};

/// The stored form of an item, without the user that made the change.
pub fn document(item: &Item) -> Document {
    match item {
        Item::Member { member, .. } => {
            doc! { "type": "member", "user": member.username.as_str(), "role": member.role.map(role_name) }
        }
        Item::Room { settings, .. } => doc! { "type": "room", "settings": settings.as_ref().map(properties) },
    }
}

/// The item of a stored form. `by` is the user that made the change. `None` for types that a later release stores.
pub fn item(stored: &Document, by: Option<&Username>) -> Result<Option<Item>, Error> {
    match stored.get_str("type") {
        Ok("member") => {
            let name = stored.get_str("user").map_err(damaged)?;
            let username = Username::try_from(name.to_owned()).map_err(damaged)?;
            let role = stored.get_str("role").ok().map(|role| match role {
                "owner" => Role::Owner,
                _ => Role::Member,
            });
            let by = by.filter(|by| by.key() != username.key()).cloned();
            Ok(Some(Item::Member { member: MemberState { username, role }, by }))
        }
        Ok("room") => {
            let settings = match stored.get("settings") {
                Some(Bson::Document(properties)) => Some(settings(properties)?),
                _ => None,
            };
            Ok(Some(Item::Room { settings, by: by.cloned() }))
        }
        _ => Ok(None),
    }
}

/// The name of a role.
pub fn role_name(role: Role) -> &'static str {
    match role {
        Role::Owner => "owner",
        Role::Member => "member",
    }
}

fn properties(state: &RoomState) -> Document {
    doc! {
        "private": state.settings.private,
        "ephemeral": state.settings.ephemeral,
        "owner": state.owner.as_ref().map(Username::as_str),
        "members": i64::try_from(state.member_count).unwrap_or(i64::MAX),
    }
}

fn settings(properties: &Document) -> Result<RoomState, Error> {
    let owner = properties.get_str("owner").ok().map(|owner| Username::try_from(owner.to_owned()));
    let settings = Settings {
        private: properties.get_bool("private").map_err(damaged)?,
        ephemeral: properties.get_bool("ephemeral").map_err(damaged)?,
    };
    Ok(RoomState {
        kind: RoomKind::Room,
        settings,
        owner: owner.transpose().map_err(damaged)?,
        member_count: number(properties.get_i64("members").map_err(damaged)?)?,
    })
}
