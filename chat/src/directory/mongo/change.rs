//! The update of a room's document by a [`Decision`]. Pure.

use mongodb::bson::{Bson, DateTime, Document, doc};

use super::{document::member_document, settings};
use crate::directory::{Decision, DepartureChange, MemberChange};

/// Maximum number of departures kept in a room. The oldest are dropped.
const MAX_DEPARTURES: i32 = 1_000;

/// The update of a room's document.
pub fn update(decision: &Decision) -> Document {
    let (mut set, mut push, mut pull) = (doc! {}, doc! {}, doc! {});
    match &decision.members[..] {
        [] => (),
        [MemberChange::Joined(member)] => drop(push.insert("members", member_document(member))),
        [MemberChange::Left(user)] => drop(pull.insert("members", doc! { "key": user.key() })),
        // One update cannot remove an element and change another one.
        _ => {
            let members: Vec<Document> = decision.all_members.iter().map(member_document).collect();
            set.insert("members", members);
        }
    }
    match &decision.departure {
        None => (),
        Some(DepartureChange::Clear(user)) => drop(pull.insert("departures", doc! { "key": user.key() })),
        Some(DepartureChange::Record { user, adder }) => {
            let departure = doc! { "key": user.key(), "by": adder.key(), "at": DateTime::now() };
            push.insert("departures", doc! { "$each": [departure], "$slice": -MAX_DEPARTURES });
        }
    }
    if let Some(patch) = &decision.settings {
        set.extend(settings::update(patch));
    }
    if decision.ends {
        set.extend(doc! { "archived": true, "ended": DateTime::now() });
    }
    let operators = [("$set", set), ("$push", push), ("$pull", pull)];
    let used = operators.into_iter().filter(|(_, fields)| !fields.is_empty());
    used.map(|(operator, fields)| (operator.to_owned(), Bson::Document(fields))).collect()
}
