//! The changed parts of a room as they are stored with a change. Pure.

use mongodb::bson::{Bson, Document, doc};
use proto::{
    Username,
    event::{Item, MemberState, RoomKind, RoomState},
};

use super::settings;
use crate::{
    Error,
    directory::Role,
    mongo::{damaged, number},
};

/// The stored form of an item, without the user that made the change.
pub fn document(item: &Item) -> Document {
    match item {
        Item::Member { member, .. } => {
            doc! { "type": "member", "user": member.username.as_str(), "role": member.role.map(Role::name) }
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
            let role = stored.get_str("role").ok().map(Role::named);
            let by = by.filter(|by| by.key() != username.key()).cloned();
            Ok(Some(Item::Member { member: MemberState { username, role }, by }))
        }
        Ok("room") => {
            let settings = match stored.get("settings") {
                Some(Bson::Document(properties)) => Some(state(properties)?),
                _ => None,
            };
            Ok(Some(Item::Room { settings, by: by.cloned() }))
        }
        _ => Ok(None),
    }
}

fn properties(state: &RoomState) -> Document {
    doc! {
        "private": state.settings.private,
        "ephemeral": state.settings.ephemeral,
        "settings": settings::others(&state.settings),
        "owner": state.owner.as_ref().map(Username::as_str),
        "members": i64::try_from(state.member_count).unwrap_or(i64::MAX),
    }
}

fn state(properties: &Document) -> Result<RoomState, Error> {
    let owner = properties.get_str("owner").ok().map(|owner| Username::try_from(owner.to_owned()));
    let flag = |name| properties.get_bool(name).map_err(damaged);
    // Absent in changes of earlier releases.
    let others = properties.get_document("settings").cloned().unwrap_or_default();
    Ok(RoomState {
        kind: RoomKind::Room,
        settings: settings::settings(flag("private")?, flag("ephemeral")?, &others)?,
        owner: owner.transpose().map_err(damaged)?,
        member_count: number(properties.get_i64("members").map_err(damaged)?)?,
    })
}
