//! Changes of a room: what members can see of a room beside its messages.

use serde::{Deserialize, Serialize};

use super::{Role, Settings};
use crate::{RoomName, Username};

/// Payload of [`super::name::CHANGE`]: one change of a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The room.
    pub room: RoomName,
    /// The number of the change in its room: 1, 2, 3, ... without gaps.
    pub rev: u64,
    /// The number of the change before it. A client whose last change of the room has a smaller number has missed changes: it asks
    /// for them with `join`.
    pub after: u64,
    /// What changed, 1 to 100 items.
    pub items: Vec<Item>,
}

/// A part of a room in its state after a change. In live events it is the state at the time of the change, in answers and replays the
/// present state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Item {
    /// A membership.
    Member {
        /// The user and their role.
        member: MemberState,
        /// The user that made the change, if it was another one. Only in live events.
        #[serde(skip_serializing_if = "Option::is_none")]
        by: Option<Username>,
    },
    /// The properties of the room.
    Room {
        /// The properties; null when the room was archived.
        settings: Option<RoomState>,
        /// The user that made the change. Only in live events.
        #[serde(skip_serializing_if = "Option::is_none")]
        by: Option<Username>,
    },
}

/// The kinds of [`Item`], as clients name them in [`super::Join::types`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ItemType {
    /// [`Item::Member`].
    Member,
    /// [`Item::Room`].
    Room,
}

/// A user's membership of a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberState {
    /// The user.
    pub username: Username,
    /// The role; null when the user is not a member.
    pub role: Option<Role>,
}

/// The properties of a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoomState {
    /// The kind of the room.
    pub kind: RoomKind,
    /// The settings.
    #[serde(flatten)]
    pub settings: Settings,
    /// The owner; null for a public room without members.
    pub owner: Option<Username>,
    /// The number of members at the time of the event or answer. It changes without a change of its own.
    pub member_count: u64,
}

/// The kind of a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RoomKind {
    /// The room of all users.
    Lobby,
    /// A room with a name that its owner has chosen.
    Room,
}

impl RoomKind {
    /// The kind of the room with this name.
    pub fn of(room: &RoomName) -> Self {
        if room.is_lobby() { Self::Lobby } else { Self::Room }
    }

    /// Whether the room always exists. It is not created, changed or archived.
    pub fn is_built_in(self) -> bool {
        match self {
            Self::Lobby => true,
            Self::Room => false,
        }
    }

    /// Whether the members are listed. Otherwise every user is a member.
    pub fn lists_members(self) -> bool {
        match self {
            Self::Lobby => false,
            Self::Room => true,
        }
    }
}

impl Item {
    /// The type.
    pub fn kind(&self) -> ItemType {
        match self {
            Self::Member { .. } => ItemType::Member,
            Self::Room { .. } => ItemType::Room,
        }
    }

    /// The membership that the item describes.
    pub fn member(&self) -> Option<&MemberState> {
        match self {
            Self::Member { member, .. } => Some(member),
            _ => None,
        }
    }

    /// The membership of `user` that the item describes.
    pub fn member_named(&self, user: &Username) -> Option<&MemberState> {
        self.member().filter(|member| member.username.key() == user.key())
    }
}

impl ItemType {
    /// All types.
    pub const ALL: [Self; 2] = [Self::Member, Self::Room];

    /// The type's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Room => "room",
        }
    }

    /// The types with these names. Unknown names are ignored.
    pub fn named<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Vec<Self> {
        Self::ALL.into_iter().filter(|kind| names.clone().any(|name| name == kind.name())).collect()
    }
}
