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
///
/// # Errors
/// When a field is absent, or its value is of another type or unknown: `null` alone means that a membership or a room has ended.
pub fn item(stored: &Document, by: Option<&Username>) -> Result<Option<Item>, Error> {
    match stored.get_str("type").map_err(damaged)? {
        "member" => {
            let username = name(stored.get_str("user").map_err(damaged)?)?;
            let role = match stored.get("role") {
                Some(Bson::Null) => None,
                Some(Bson::String(role)) => Some(Role::named(role)),
                _ => return Err(damaged("the role of a member is absent")),
            };
            let by = by.filter(|by| by.key() != username.key()).cloned();
            Ok(Some(Item::Member { member: MemberState { username, role }, by }))
        }
        "room" => {
            let settings = match stored.get("settings") {
                Some(Bson::Null) => None,
                Some(Bson::Document(properties)) => Some(state(properties)?),
                _ => return Err(damaged("the settings of a room are absent")),
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
    let owner = match properties.get("owner") {
        Some(Bson::Null) => None,
        Some(Bson::String(owner)) => Some(name(owner)?),
        _ => return Err(damaged("the owner of a room is absent")),
    };
    let flag = |name| properties.get_bool(name).map_err(damaged);
    let others = match properties.get("settings") {
        // In changes of earlier releases.
        None => Document::new(),
        Some(Bson::Document(others)) => others.clone(),
        _ => return Err(damaged("the settings of a room are no document")),
    };
    Ok(RoomState {
        kind: RoomKind::Room,
        settings: settings::settings(flag("private")?, flag("ephemeral")?, &others)?,
        owner,
        member_count: number(properties.get_i64("members").map_err(damaged)?)?,
    })
}

fn name(name: &str) -> Result<Username, Error> {
    Username::try_from(name.to_owned()).map_err(damaged)
}

#[cfg(test)]
mod tests {
    use proto::event::Settings;

    use super::*;

    fn user(name: &str) -> Username {
        name.parse().unwrap()
    }

    fn all() -> [Item; 4] {
        let member = |role| Item::Member { member: MemberState { username: user("bob"), role }, by: None };
        let settings = RoomState {
            kind: RoomKind::Room,
            settings: Settings { private: true, ephemeral: false },
            owner: Some(user("alice")),
            member_count: 2,
        };
        let room = |settings| Item::Room { settings, by: None };
        [member(Some(Role::Owner)), member(None), room(Some(settings)), room(None)]
    }

    #[test]
    fn stored_items_are_read() {
        for stored in all() {
            assert_eq!(item(&document(&stored), None).unwrap(), Some(stored));
        }
        assert_eq!(
            item(&doc! { "type": "message", "seq": 1_i64 }, None).unwrap(),
            None,
            "of a later release"
        );
    }

    /// Each field of each item is removed, and replaced by values of other types. No such item means that a member has left or that a room
    /// has ended.
    #[test]
    fn damaged_items_are_errors() {
        let wrong = [Bson::Int32(7), Bson::Boolean(true), Bson::Undefined, Bson::Array(vec![]), "x y".into()];
        for stored in all().iter().map(document) {
            for field in stored.keys() {
                for value in [None].into_iter().chain(wrong.iter().map(Some)) {
                    let mut damaged = stored.clone();
                    damaged.remove(field);
                    damaged.extend(value.map(|value| (field.clone(), value.clone())));
                    let is_of_later_release = ["type", "role"].contains(&field.as_str())
                        && value.is_some_and(|value| value.as_str().is_some());
                    let read = item(&damaged, None);
                    assert_eq!(read.is_err(), !is_of_later_release, "{damaged}: {read:?}");
                }
            }
            let Ok(properties) = stored.get_document("settings") else { continue };
            for field in properties.keys() {
                for value in [None].into_iter().chain(wrong.iter().take(1).map(Some)) {
                    let (mut damaged, mut properties) = (stored.clone(), properties.clone());
                    properties.remove(field);
                    properties.extend(value.map(|value| (field.clone(), value.clone())));
                    damaged.insert("settings", properties);
                    let is_of_earlier_release = field == "settings" && value.is_none();
                    assert_eq!(item(&damaged, None).is_err(), !is_of_earlier_release, "{damaged}");
                }
            }
        }
    }
}
