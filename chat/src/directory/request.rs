//! Requests of users to change a room, and what they result in. A request is decided on the state of the room, in the same way by the
//! room's actor and by every backend. A backend only writes the [`Decision`]. Pure.

use proto::{
    Username,
    event::{Act, RoomKind, Settings, SettingsPatch},
};

use super::{Decision, Departure, DepartureChange, Member, MemberChange, Role, RoomRecord, refusal};
use crate::{Error, permission, room_change::ChangeKind};

/// What a user asks to change in an existing room.
#[derive(Debug, Clone)]
pub enum Request {
    /// `user` joins. The first member of a room becomes its owner. An existing member keeps their role.
    Join {
        /// The user.
        user: Username,
    },
    /// `by` adds `user`, otherwise as [`Request::Join`]. The membership does not count toward the user's own limit.
    Add {
        /// The new member.
        user: Username,
        /// The caller.
        by: Username,
    },
    /// `user` leaves. If another user had added them, the departure is kept for [`super::DEPARTURE_MS`] or until the user joins
    /// themselves.
    Leave {
        /// The user.
        user: Username,
    },
    /// `by` removes `user`. When the owner is removed, the member who joined first becomes the owner. A private room without members
    /// ends, because no user could ever join it.
    Remove {
        /// The member. A user who is not a member is no error.
        user: Username,
        /// The caller.
        by: Username,
    },
    /// `by` changes settings. A patch without fields changes nothing.
    Settings {
        /// The new values.
        patch: SettingsPatch,
        /// The caller.
        by: Username,
    },
    /// `by` ends the room. Its messages are kept, and its name stays taken unless it is ephemeral.
    Archive {
        /// The caller.
        by: Username,
    },
}

/// The limits that requests are subject to.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The maximum number of rooms that a user may have created or joined.
    pub rooms_per_user: usize,
    /// The maximum number of memberships that one user may have created for others.
    pub additions_per_user: usize,
}

impl Request {
    /// Makes `user` a member at the request of `by`, who may be the user.
    pub fn addition(by: Username, user: Username) -> Self {
        if by.key() == user.key() { Self::Join { user } } else { Self::Add { user, by } }
    }

    /// Ends the membership of `user` at the request of `by`, who may be the user.
    pub fn removal(by: Username, user: Username) -> Self {
        if by.key() == user.key() { Self::Leave { user } } else { Self::Remove { user, by } }
    }

    /// The user that makes the request.
    pub fn by(&self) -> &Username {
        match self {
            Self::Join { user } | Self::Leave { user } => user,
            Self::Add { by, .. }
            | Self::Remove { by, .. }
            | Self::Settings { by, .. }
            | Self::Archive { by } => by,
        }
    }

    /// What the user must be permitted to do.
    pub fn act(&self) -> Act {
        match self {
            Self::Join { .. } => Act::Enter,
            Self::Add { .. } => Act::AddMember,
            Self::Leave { .. } => Act::Leave,
            Self::Remove { .. } => Act::RemoveMember,
            Self::Settings { .. } => Act::ChangeSettings,
            Self::Archive { .. } => Act::Archive,
        }
    }

    /// The user who becomes a member.
    pub fn new_member(&self) -> Option<&Username> {
        match self {
            Self::Join { user } | Self::Add { user, .. } => Some(user),
            _ => None,
        }
    }

    /// The user whose membership ends.
    pub fn former_member(&self) -> Option<&Username> {
        match self {
            Self::Leave { user } | Self::Remove { user, .. } => Some(user),
            _ => None,
        }
    }

    /// Whether the request changes members only. Such a request changes nothing in a room that does not list its members.
    fn is_about_members(&self) -> bool {
        self.new_member().or(self.former_member()).is_some()
    }

    /// Checks that a caller with `role` may make this request in a room of this kind with these settings.
    ///
    /// # Errors
    /// As [`permission::check`]. [`Error::Forbidden`] when the membership of a room that does not list its members would end.
    pub fn check(&self, kind: RoomKind, role: Option<Role>, settings: &Settings) -> Result<(), Error> {
        if !kind.lists_members() && self.former_member().is_some() {
            return Err(Error::Forbidden("every user is a member of the lobby"));
        }
        permission::check(role, self.act(), settings)
    }

    /// What the request results in. `None` when nothing is to be changed. The caller of the request may have read an earlier state.
    ///
    /// # Errors
    /// As [`RoomRecord::check`]. [`Error::NotFound`] for a change of a room that always exists. [`Error::Forbidden`] when the user to add has
    /// left the room to which the caller had added them.
    pub fn decide(&self, record: &RoomRecord) -> Result<Option<Decision>, Error> {
        let kind = record.room_info.kind();
        if self.is_about_members() && !kind.lists_members() {
            return Ok(None);
        }
        if kind.is_built_in() {
            return Err(Error::NotFound);
        }
        // A user who is not a member has left.
        if !matches!(self, Self::Leave { .. }) {
            record.check(self.by(), self.act())?;
        }
        let (room_info, members) = (record.room_info.clone(), record.members.clone());
        Ok(match self {
            Self::Join { user } => addition(record, user, None),
            Self::Add { user, by } if record.member(user).is_none() && has_left(record, user, by) => {
                return Err(refusal::left_room());
            }
            Self::Add { user, by } => addition(record, user, Some(by)),
            Self::Leave { user } => removal(record, user, None),
            Self::Remove { user, by } => removal(record, user, Some(by)),
            Self::Settings { patch, .. } if patch.is_empty() => None,
            Self::Settings { patch, by } => {
                let mut decision = Decision::new(ChangeKind::Other, by, room_info, members);
                decision.room_info.settings = patch.applied_to(&decision.room_info.settings);
                decision.settings = Some(patch.clone());
                Some(decision)
            }
            Self::Archive { by } => {
                let mut decision = Decision::new(ChangeKind::Archived, by, room_info, members);
                decision.ends = true;
                Some(decision)
            }
        })
    }
}

/// Whether `user` has left the room to which `by` had added them.
fn has_left(record: &RoomRecord, user: &Username, by: &Username) -> bool {
    record.departures.iter().any(|left| left.user.key() == user.key() && left.adder.key() == by.key())
}

/// `user` becomes a member. `by` is the user who adds, `None` when `user` joins. `None` when `user` is a member.
fn addition(record: &RoomRecord, user: &Username, by: Option<&Username>) -> Option<Decision> {
    if record.member(user).is_some() {
        return None;
    }
    let role = if record.members.is_empty() { Role::Owner } else { Role::Member };
    let member = Member { username: user.clone(), role, added_by: by.cloned() };
    let members = record.members.iter().cloned().chain([member.clone()]).collect();
    let what = ChangeKind::Joined(user.clone());
    let mut decision = Decision::new(what, by.unwrap_or(user), record.room_info.clone(), members);
    decision.members = vec![MemberChange::Joined(member)];
    decision.departure = by.is_none().then(|| DepartureChange::Clear(user.clone()));
    Some(decision)
}

/// The membership of `user` ends. `by` is the user who removes, `None` when `user` leaves. `None` when `user` is not a member.
fn removal(record: &RoomRecord, user: &Username, by: Option<&Username>) -> Option<Decision> {
    let mut members = record.members.clone();
    let removed = members.remove(members.iter().position(|member| member.username.key() == user.key())?);
    let mut changed = vec![MemberChange::Left(removed.username.clone())];
    if let Some(successor) = members.first_mut().filter(|_| removed.role == Role::Owner) {
        successor.role = Role::Owner;
        changed.push(MemberChange::Role(successor.clone()));
    }
    let ends = members.is_empty() && record.room_info.settings.private;
    let what = ChangeKind::Left(removed.username.clone());
    let mut decision =
        Decision::new(what, by.unwrap_or(&removed.username), record.room_info.clone(), members);
    decision.departure = match (by, removed.added_by) {
        (None, Some(adder)) => Some(DepartureChange::Record(Departure { user: removed.username, adder })),
        _ => None,
    };
    (decision.members, decision.ends) = (changed, ends);
    Some(decision)
}
