//! Permissions: the roles of members, what users do in rooms, and the table of what each role may do.

use serde::{Deserialize, Serialize};

/// A member's permissions in a room. A later role may do more than an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// May read and post.
    Member,
    /// May change and archive the room, and add and remove members.
    Owner,
}

/// What a user does in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Act {
    /// Read the room's settings.
    Describe,
    /// Become a member.
    Enter,
    /// Read messages, changes and members.
    Read,
    /// Post messages and type.
    Post,
    /// End the own membership.
    Leave,
    /// Make another user a member.
    AddMember,
    /// End the membership of another user.
    RemoveMember,
    /// Change the room's settings.
    ChangeSettings,
    /// End the room.
    Archive,
}
