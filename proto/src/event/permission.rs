//! Permissions: the roles of members, what users do in rooms, and the table of what each role may do.

use serde::{Deserialize, Serialize};

use super::Settings;

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

/// Whether a user may do an act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The user may do it.
    Allowed,
    /// The room does not exist for the user.
    Hidden,
    /// The user must be a member.
    MembersOnly,
    /// The member must have this role, or a later one.
    Requires(Role),
}

impl Act {
    /// The least role that may do this in a room with these settings. `None` if a user who is not a member may do it in a public room.
    pub fn least_role(self, _settings: &Settings) -> Option<Role> {
        match self {
            Self::Describe | Self::Enter => None,
            Self::Read | Self::Post | Self::Leave => Some(Role::Member),
            Self::AddMember | Self::RemoveMember | Self::ChangeSettings | Self::Archive => Some(Role::Owner),
        }
    }
}

impl Role {
    /// The roles, and the names and numbers under which they are stored. A name or number never changes.
    const STORED: [(Self, &'static str, i64); 2] = [(Self::Member, "member", 0), (Self::Owner, "owner", 1)];

    /// The name under which the role is stored.
    pub fn name(self) -> &'static str {
        self.stored().0
    }

    /// The number under which the role is stored.
    pub fn number(self) -> i64 {
        self.stored().1
    }

    fn stored(self) -> (&'static str, i64) {
        let found = Self::STORED.into_iter().find(|(role, ..)| *role == self);
        found.map(|(_, name, number)| (name, number)).expect("every role has a row")
    }

    /// The role that is stored as `name`. A role of a later release is a member's.
    pub fn named(name: &str) -> Self {
        let found = Self::STORED.into_iter().find(|(_, stored, _)| *stored == name);
        found.map_or(Self::Member, |(role, ..)| role)
    }

    /// The role that is stored as `number`. `None` for a number that no role has.
    pub fn numbered(number: i64) -> Option<Self> {
        Self::STORED.into_iter().find(|(.., stored)| *stored == number).map(|(role, ..)| role)
    }

    /// Whether a user with `role`, or one who is not a member, may do `act` in a room with these settings. The room's actor and the stores
    /// decide by this table.
    pub fn can(role: Option<Self>, act: Act, settings: &Settings) -> Verdict {
        match (role, act.least_role(settings)) {
            (None, _) if settings.private => Verdict::Hidden,
            (None, Some(_)) => Verdict::MembersOnly,
            (Some(role), Some(least)) if role < least => Verdict::Requires(least),
            (_, None) | (Some(_), Some(_)) => Verdict::Allowed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACTS: [Act; 9] = [
        Act::Describe,
        Act::Enter,
        Act::Read,
        Act::Post,
        Act::Leave,
        Act::AddMember,
        Act::RemoveMember,
        Act::ChangeSettings,
        Act::Archive,
    ];

    /// One letter for each of [`ACTS`]: allowed, hidden, members only, owners only.
    fn verdicts(role: Option<Role>, private: bool) -> String {
        let settings = Settings { private, ..Settings::default() };
        let letter = |act| match Role::can(role, act, &settings) {
            Verdict::Allowed => 'a',
            Verdict::Hidden => 'h',
            Verdict::MembersOnly => 'm',
            Verdict::Requires(Role::Owner) => 'o',
            Verdict::Requires(Role::Member) => '!',
        };
        ACTS.into_iter().map(letter).collect()
    }

    #[test]
    fn each_role_is_read_as_it_was_stored() {
        for role in [Role::Member, Role::Owner] {
            assert_eq!((Role::named(role.name()), Role::numbered(role.number())), (role, Some(role)));
            assert_eq!(serde_json::to_value(role).unwrap(), role.name());
        }
        assert_eq!((Role::named("later"), Role::numbered(2)), (Role::Member, None));
    }

    #[test]
    fn each_role_may_do_what_the_table_lists() {
        for (role, private, expected) in [
            (None, false, "aammmmmmm"),
            (None, true, "hhhhhhhhh"),
            (Some(Role::Member), false, "aaaaaoooo"),
            (Some(Role::Member), true, "aaaaaoooo"),
            (Some(Role::Owner), false, "aaaaaaaaa"),
            (Some(Role::Owner), true, "aaaaaaaaa"),
        ] {
            assert_eq!(verdicts(role, private), expected, "{role:?}, private: {private}");
        }
    }
}
