//! The update of a room's document by a [`Decision`]. Pure.

use mongodb::bson::{Bson, DateTime, Document, doc};

use super::{
    document::StoredRoom,
    membership::{Membership, Totals, concerned, present, writes},
    settings,
};
use crate::directory::{Decision, DepartureChange};

/// Maximum number of departures kept in a room. The oldest are dropped.
const MAX_DEPARTURES: i32 = 1_000;

/// What a change writes to a room's document, besides what every change writes.
#[derive(Debug, Clone, Default)]
pub struct RoomUpdate {
    /// The update.
    pub update: Document,
    /// The memberships, which are written to the collection of members after the commit.
    pub members: Vec<Membership>,
    /// The keys of the users whose rooms or additions change.
    pub keys: Vec<String>,
}

/// The update of a room's document.
pub fn update(decision: &Decision, room: &StoredRoom) -> RoomUpdate {
    let (mut set, mut push, mut pull) = (doc! {}, doc! {}, doc! {});
    let version = room.document.version + 1;
    let members = writes(decision, &room.members, version);
    let keys = concerned(&members, &room.members);
    if !members.is_empty() {
        set.extend(Totals::of(&present(room.members.iter().cloned(), members.iter().cloned())).fields());
        push.insert("pending", doc! { "$each": &keys });
    } else if room.document.applied == room.document.version {
        set.insert("applied", version);
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
    let update = used.map(|(operator, fields)| (operator.to_owned(), Bson::Document(fields))).collect();
    RoomUpdate { update, members, keys }
}
