//! The changed parts of a room as they are stored with a change: each in its form for clients. Pure.

use mongodb::bson::{Bson, Document, deserialize_from_document, serialize_to_document};
use proto::event::{Item, ItemType};

use crate::{Error, mongo::damaged};

/// The stored form of an item.
pub fn document(item: &Item) -> Document {
    serialize_to_document(item).expect("items have values that BSON has")
}

/// The item of a stored form. `None` for types that a later release stores.
///
/// # Errors
/// When a field is absent, or its value is of another type or unknown: `null` alone means that a membership or a room has ended.
pub fn item(stored: &Document) -> Result<Option<Item>, Error> {
    let kind = stored.get_str("type").map_err(damaged)?;
    if !ItemType::ALL.iter().any(|item_type| item_type.name() == kind) {
        return Ok(None);
    }
    let item: Item = deserialize_from_document(stored.clone()).map_err(damaged)?;
    // Clients may omit fields that have a default. A stored item has all fields.
    match absent_field(stored, &document(&item)) {
        Some(field) => Err(damaged(format_args!("the field {field} of an item is absent"))),
        None => Ok(Some(item)),
    }
}

/// A field of `complete` that `stored` lacks, at any depth.
fn absent_field<'a>(stored: &Document, complete: &'a Document) -> Option<&'a str> {
    complete.iter().find_map(|(field, value)| match (stored.get(field), value) {
        (None, _) => Some(field.as_str()),
        (Some(Bson::Document(stored)), Bson::Document(complete)) => absent_field(stored, complete),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use mongodb::bson::doc;
    use proto::{
        Username,
        event::{MemberState, Role, RoomKind, RoomState, Settings},
    };

    use super::*;

    fn user(name: &str) -> Username {
        name.parse().unwrap()
    }

    fn all() -> [Item; 5] {
        let member = |role, by: Option<Username>| Item::Member {
            member: MemberState { username: user("bob"), role },
            by,
        };
        let settings = RoomState {
            kind: RoomKind::Room,
            settings: Settings { private: true, ephemeral: false },
            owner: Some(user("alice")),
            member_count: 2,
        };
        let room = |settings| Item::Room { settings, by: Some(user("alice")) };
        let by = Some(user("carol"));
        [
            member(Some(Role::Owner), None),
            member(Some(Role::Member), by),
            member(None, None),
            room(Some(settings)),
            room(None),
        ]
    }

    #[test]
    fn stored_items_are_read() {
        for stored in all() {
            assert_eq!(item(&document(&stored)).unwrap(), Some(stored));
        }
        assert_eq!(item(&doc! { "type": "message", "seq": 1_i64 }).unwrap(), None, "of a later release");
        let mut later = document(&all()[0]);
        later.insert("later", 1);
        later.get_document_mut("member").unwrap().insert("later", doc! {});
        assert_eq!(item(&later).unwrap(), Some(all()[0].clone()), "a field of a later release");
    }

    /// Each field of each item is removed, and replaced by values of other types. No such item means that a member has left or that a room
    /// has ended.
    #[test]
    fn damaged_items_are_errors() {
        let wrong = [Bson::Int32(7), Bson::Boolean(true), Bson::Undefined, Bson::Array(vec![]), "x y".into()];
        for stored in all().iter().map(document) {
            let nested = ["member", "settings"].into_iter().filter_map(|object| {
                Some((object, stored.get_document(object).ok()?.keys().cloned().collect::<Vec<_>>()))
            });
            let nested = nested
                .flat_map(|(object, fields)| fields.into_iter().map(move |field| (Some(object), field)));
            for (object, field) in stored.keys().cloned().map(|field| (None, field)).chain(nested) {
                for value in [None].into_iter().chain(wrong.iter().map(Some)) {
                    let mut damaged = stored.clone();
                    let place = match object {
                        Some(object) => damaged.get_document_mut(object).unwrap(),
                        None => &mut damaged,
                    };
                    let removed = place.remove(&field).unwrap();
                    let is_number = |value: &Bson| matches!(value, Bson::Int32(_) | Bson::Int64(_));
                    let is_valid = |value: &Bson| match &removed {
                        Bson::Boolean(_) => value.as_bool().is_some(),
                        removed => is_number(removed) && is_number(value),
                    };
                    if value.is_some_and(is_valid) {
                        continue;
                    }
                    place.extend(value.map(|value| (field.clone(), value.clone())));
                    let is_text = value.is_some_and(|value| value.as_str().is_some());
                    let is_of_later_release = ["type", "role"].contains(&field.as_str()) && is_text;
                    let is_optional = field == "by" && value.is_none();
                    let read = item(&damaged);
                    assert_eq!(read.is_err(), !is_of_later_release && !is_optional, "{damaged}: {read:?}");
                }
            }
        }
    }
}
