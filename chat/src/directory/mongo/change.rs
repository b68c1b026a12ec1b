//! Changes of rooms: each is decided on the room that was read, and results in writes to its document and those of its members. Pure.

use mongodb::bson::{DateTime, Document, doc};
use proto::{
    Username,
    event::{Act, SettingsPatch},
};

use super::{
    document::{RoomDocument, owner_of},
    settings,
};
use crate::{
    Error,
    directory::{Additions, ChangeKind, Member, NewRoom, Role, RoomInfo, RoomRecord},
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

/// What a change writes, and the members after it.
#[derive(Debug)]
pub struct Edit {
    /// The members after the change.
    pub members: Vec<Member>,
    /// The writes to documents of members.
    pub writes: Vec<MemberWrite>,
    /// The update of the room's document, without what every change writes.
    pub room: Document,
}

/// A write to the document of one member.
#[derive(Debug, PartialEq, Eq)]
pub enum MemberWrite {
    /// The member joins.
    Insert(Member),
    /// The membership of the user with this key ends.
    Delete(String),
    /// The member with this key becomes the owner.
    Promote(String),
}

impl Edit {
    /// The creation of a room, or its replacement, with its owner as the only member. `base` is the number of the last message of an earlier
    /// room of the name.
    pub fn creation(room: &NewRoom, base: i64) -> Self {
        let owner = Member { username: room.owner.clone(), role: Role::Owner, added_by: None };
        let document = RoomDocument::creation(room, base);
        Self { members: vec![owner.clone()], writes: vec![MemberWrite::Insert(owner)], room: document }
    }
}

/// A new member of a room with the members `others`.
fn new_member(others: &[Member], user: &Username, added_by: Option<Username>) -> Member {
    let role = if others.is_empty() { Role::Owner } else { Role::Member };
    Member { username: user.clone(), role, added_by }
}

/// Makes `user` a member. `None` when `user` is a member.
fn addition(
    mut members: Vec<Member>,
    user: &Username,
    by: Option<&Username>,
    room: Document,
) -> Option<Edit> {
    if index_of(&members, user).is_some() {
        return None;
    }
    let member = new_member(&members, user, by.cloned());
    members.push(member.clone());
    Some(Edit { members, writes: vec![MemberWrite::Insert(member)], room })
}

/// Ends the membership of `user`. `None` when `user` is not a member.
fn removal(private: bool, mut members: Vec<Member>, user: &Username) -> Option<Edit> {
    let removed = members.remove(index_of(&members, user)?);
    let mut writes = vec![MemberWrite::Delete(user.key())];
    let room = match members.first_mut() {
        Some(successor) if removed.role == Role::Owner => {
            successor.role = Role::Owner;
            writes.push(MemberWrite::Promote(successor.username.key()));
            doc! {}
        }
        // No user could ever join it again.
        None if private => doc! { "$set": { "archived": true, "ended": DateTime::now() } },
        _ => doc! {},
    };
    Some(Edit { members, writes, room })
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

    /// The change of a room with these members. `None` when there is nothing to change.
    pub fn apply(&self, private: bool, members: Vec<Member>) -> Option<Edit> {
        let room = match self {
            Self::Add { user, .. } => {
                let departures = doc! { "$pull": { "departures": { "key": user.key() } } };
                return addition(members, user, None, departures);
            }
            Self::AddBy { user, by, .. } => return addition(members, user, Some(by), doc! {}),
            Self::Leave { user } => {
                let added_by = members[index_of(&members, user)?].added_by.clone();
                let mut edit = removal(private, members, user)?;
                if let Some(by) = added_by {
                    let departure = doc! { "key": user.key(), "by": by.key(), "at": DateTime::now() };
                    let pushed = doc! { "$each": [departure], "$slice": -MAX_DEPARTURES };
                    edit.room.insert("$push", doc! { "departures": pushed });
                }
                return Some(edit);
            }
            Self::Remove { user, .. } => return removal(private, members, user),
            Self::Settings { patch, .. } if patch.is_empty() => return None,
            Self::Settings { patch, .. } => doc! { "$set": settings::update(patch) },
            Self::Archive { .. } => doc! { "$set": { "archived": true, "ended": DateTime::now() } },
        };
        Some(Edit { members, writes: vec![], room })
    }
}
