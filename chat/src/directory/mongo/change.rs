//! Changes of rooms: each is decided on the room that was read, and results in an update of its document. Pure.

use mongodb::bson::{DateTime, Document, doc};
use proto::{
    Username,
    event::{Act, SettingsPatch},
};

use super::{
    document::{member_document, owner_of},
    settings,
};
use crate::{
    Error,
    directory::{Additions, ChangeKind, Member, Role, RoomInfo, RoomRecord},
};

/// A change of an existing room.
#[derive(Debug, Clone)]
pub enum Change {
    /// `user` joins, if they have created or joined fewer than `limit` rooms.
    Add { user: Username, limit: usize },
    /// `by`, the owner, adds `user`.
    AddBy { user: Username, by: Username, limits: Additions },
    /// `by`, the owner, removes `user`.
    Remove { user: Username, by: Username },
    /// `user` leaves.
    Leave { user: Username },
    /// `by`, the owner, changes settings.
    Settings { patch: SettingsPatch, by: Username },
    /// `by`, the owner, archives the room.
    Archive { by: Username },
}

/// Maximum number of departures kept in a room. The oldest are dropped.
const MAX_DEPARTURES: i32 = 1_000;

/// A new member of a room with the members `others`.
fn new_member(others: &[Member], user: &Username, added_by: Option<Username>) -> Member {
    let role = if others.is_empty() { Role::Owner } else { Role::Member };
    Member { username: user.clone(), role, added_by }
}

/// The update that ends the membership of `user`, and the remaining members. `None` when `user` is not a member.
fn removal(private: bool, mut members: Vec<Member>, user: &Username) -> Option<(Document, Vec<Member>)> {
    let removed = members.remove(index_of(&members, user)?);
    let update = match members.first_mut() {
        Some(successor) if removed.role == Role::Owner => {
            successor.role = Role::Owner;
            let members: Vec<Document> = members.iter().map(member_document).collect();
            doc! { "$set": { "members": members } }
        }
        // No user could ever join it again.
        None if private => {
            doc! { "$set": { "members": [], "archived": true, "ended": DateTime::now() } }
        }
        _ => doc! { "$pull": { "members": { "key": user.key() } } },
    };
    Some((update, members))
}

fn index_of(members: &[Member], user: &Username) -> Option<usize> {
    members.iter().position(|member| member.username.key() == user.key())
}

impl Change {
    /// Checks that the user who requests the change may make it in this room.
    ///
    /// # Errors
    /// As [`RoomRecord::check`].
    pub fn check(&self, room: &RoomRecord) -> Result<(), Error> {
        match self {
            Self::Add { user, .. } => room.check(user, Act::Enter),
            Self::AddBy { by, .. } => room.check(by, Act::AddMember),
            Self::Remove { by, .. } => room.check(by, Act::RemoveMember),
            Self::Settings { by, .. } => room.check(by, Act::ChangeSettings),
            Self::Archive { by } => room.check(by, Act::Archive),
            Self::Leave { .. } => Ok(()),
        }
    }

    /// The kind of the change.
    pub fn kind(&self) -> ChangeKind {
        match self {
            Self::Add { user, .. } | Self::AddBy { user, .. } => ChangeKind::Joined(user.clone()),
            Self::Remove { user, .. } | Self::Leave { user } => ChangeKind::Left(user.clone()),
            Self::Settings { .. } => ChangeKind::Other,
            Self::Archive { .. } => ChangeKind::Archived,
        }
    }

    /// The user that makes the change.
    pub fn by(&self) -> &Username {
        match self {
            Self::Add { user, .. } | Self::Leave { user } => user,
            Self::AddBy { by, .. }
            | Self::Remove { by, .. }
            | Self::Settings { by, .. }
            | Self::Archive { by } => by,
        }
    }

    /// The properties after the change of a room that had these properties and has `members` then.
    pub fn room_info_after(&self, room_info: &RoomInfo, members: &[Member]) -> RoomInfo {
        let owner = owner_of(members);
        match self {
            Self::Settings { patch, .. } => {
                RoomInfo { settings: patch.applied_to(&room_info.settings), owner, ..room_info.clone() }
            }
            _ => RoomInfo { owner, ..room_info.clone() },
        }
    }

    /// The update of a room with these members, and the members after it. `None` when there is nothing to change.
    pub fn apply(&self, private: bool, mut members: Vec<Member>) -> Option<(Document, Vec<Member>)> {
        let update = match self {
            Self::Add { user, .. } => {
                if index_of(&members, user).is_some() {
                    return None;
                }
                members.push(new_member(&members, user, None));
                doc! {
                    "$push": { "members": members.last().map(member_document) },
                    "$pull": { "departures": { "key": user.key() } },
                }
            }
            Self::AddBy { user, by, .. } => {
                if index_of(&members, user).is_some() {
                    return None;
                }
                members.push(new_member(&members, user, Some(by.clone())));
                doc! { "$push": { "members": members.last().map(member_document) } }
            }
            Self::Leave { user } => {
                let added_by = members[index_of(&members, user)?].added_by.clone();
                let (mut update, members) = removal(private, members, user)?;
                if let Some(by) = added_by {
                    let departure = doc! { "key": user.key(), "by": by.key(), "at": DateTime::now() };
                    let pushed = doc! { "$each": [departure], "$slice": -MAX_DEPARTURES };
                    update.insert("$push", doc! { "departures": pushed });
                }
                return Some((update, members));
            }
            Self::Remove { user, .. } => return removal(private, members, user),
            Self::Settings { patch, .. } if patch.is_empty() => return None,
            Self::Settings { patch, .. } => doc! { "$set": settings::update(patch) },
            Self::Archive { .. } => doc! { "$set": { "archived": true, "ended": DateTime::now() } },
        };
        Some((update, members))
    }
}
