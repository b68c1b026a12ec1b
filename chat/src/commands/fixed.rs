//! Properties of a room that a body names and that the request cannot set. Clients send back the bodies that they have read, so equal
//! values are accepted. A different value is refused by name, because success would claim an effect.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::{Error, room::settings::Description};

/// The fixed properties in a body. Absent ones and `null` are `None`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FixedProperties {
    name: Option<Value>,
    owner: Option<Value>,
    ephemeral: Option<Value>,
    kind: Option<Value>,
    member_count: Option<Value>,
    role: Option<Value>,
    members: Option<Value>,
}

/// Why the members of a room are not set with the room.
const BY_MEMBER: &str = "members are added with PUT and removed with DELETE /rooms/{room}/members/{user}";

/// Why the owner is not set.
const BY_AGE: &str = "it is the user who created the room, and after that user leaves the oldest member";

impl FixedProperties {
    /// Whether the body has no fixed property.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Compares them with the room as the caller sees it.
    ///
    /// # Errors
    /// [`Error::BadRequest`] with the name of the first property that differs.
    pub fn check(&self, room: &Description) -> Result<(), Error> {
        let info = &room.room_info;
        let properties = [
            ("name", &self.name, json!(info.name), "a room keeps its name"),
            ("owner", &self.owner, json!(info.owner), BY_AGE),
            ("ephemeral", &self.ephemeral, json!(info.settings.ephemeral), "it is chosen with POST /rooms"),
            ("kind", &self.kind, json!(info.kind()), "it follows from the name"),
            ("memberCount", &self.member_count, json!(room.members.as_ref().map(Vec::len)), BY_MEMBER),
            ("role", &self.role, json!(room.role), "the owner of a room is fixed, all others are members"),
            ("members", &self.members, json!(room.members), BY_MEMBER),
        ];
        let differs = |(_, sent, present, _): &(_, &Option<Value>, Value, _)| {
            sent.as_ref().is_some_and(|sent| !is_same(sent, present))
        };
        match properties.iter().find(|property| differs(property)) {
            Some((name, _, _, why)) => Err(Error::BadRequest(format!("{name} cannot be set here: {why}"))),
            None => Ok(()),
        }
    }
}

/// Whether two values are equal. The case of names does not count, and `3.0` is 3.
fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::String(one), Value::String(other)) => one.eq_ignore_ascii_case(other),
        (Value::Number(one), Value::Number(other)) => one.as_f64() == other.as_f64(),
        (one, other) => one == other,
    }
}
