//! What a client holds of a room: the members and properties that it has learned from changes.

use std::collections::BTreeMap;

use serde_json::Value;

/// The state of a room by the changes that a client has applied.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RoomState {
    /// The last applied change.
    pub rev: u64,
    /// The roles of the members.
    pub members: BTreeMap<String, Value>,
    /// The properties.
    pub settings: Value,
}

impl RoomState {
    /// The state of a client at the position of an answer to `join`.
    pub fn at(joined: &Value) -> Self {
        Self { rev: joined["rev"].as_u64().expect("a number"), ..Self::default() }
    }

    /// Applies a change, or the element of an answer to `join`. Returns false for a change that was applied before.
    pub fn apply(&mut self, change: &Value) -> bool {
        let rev = change["rev"].as_u64().expect("a number");
        if rev <= self.rev {
            return false;
        }
        for item in change["items"].as_array().expect("a list") {
            match item["type"].as_str() {
                Some("member") => {
                    let name = item["member"]["username"].as_str().expect("a name").to_owned();
                    match &item["member"]["role"] {
                        Value::Null => drop(self.members.remove(&name)),
                        role => drop(self.members.insert(name, role.clone())),
                    }
                }
                Some("room") => self.settings = item["settings"].clone(),
                other => panic!("{other:?} is no type of an item"),
            }
        }
        self.rev = rev;
        true
    }
}
