//! The settings of a room. A new setting is added here; it is stored, sent and changed without further code.

use serde::{Deserialize, Serialize};

use crate::lenient::or_default;

/// The settings of a room. In a new room, absent fields and `null` are the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// Whether the room is visible to its members only.
    #[serde(default, deserialize_with = "or_default")]
    pub private: bool,
    /// Whether old messages of the room are deleted. It is chosen when the room is created.
    #[serde(default, deserialize_with = "or_default")]
    pub ephemeral: bool,
}
