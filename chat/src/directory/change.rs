//! A change of a room before it is committed: what it changes, and how clients see it. The parts of a room that can change. Pure.

use std::collections::HashMap;

use proto::{
    Username,
    event::{Item, ItemType, MemberState, RoomState},
};

use super::{Member, RoomInfo, RoomRecord};
use crate::room_change::ChangeKind;

/// A change that a backend is about to commit: its kind, the user that makes it, and who inherits the room.
#[derive(Debug, Clone)]
pub struct NewChange<'a> {
    /// The kind.
    pub what: ChangeKind,
    /// The user that makes the change.
    pub by: &'a Username,
    /// The member who becomes the owner because the owner has left.
    pub successor: Option<&'a Username>,
    /// Whether the room ends because its last member has left.
    pub ends: bool,
}

impl<'a> NewChange<'a> {
    /// A change without consequences for other members.
    pub fn new(what: ChangeKind, by: &'a Username) -> Self {
        Self { what, by, successor: None, ends: false }
    }

    /// The changed parts of the room in their state after the change. `room_info` and `members` are the state after it.
    pub fn items(&self, room_info: &RoomInfo, members: &[Member]) -> Vec<Item> {
        let room = |settings| Item::Room { settings, by: Some(self.by.clone()) };
        let present = || Some(settings(room_info, members.len() as u64));
        let member = |user: &Username| {
            let by = (user.key() != self.by.key()).then(|| self.by.clone());
            Item::Member { member: state_of(members, user), by }
        };
        match &self.what {
            ChangeKind::Joined(user) | ChangeKind::Renewed(user) => {
                let is_owner = room_info.owner.as_ref().is_some_and(|owner| owner.key() == user.key());
                is_owner.then(|| room(present())).into_iter().chain([member(user)]).collect()
            }
            ChangeKind::Left(user) => {
                let settings = match self.ends {
                    true => Some(room(None)),
                    false => self.successor.map(|_| room(present())),
                };
                settings.into_iter().chain([member(user)]).chain(self.successor.map(member)).collect()
            }
            ChangeKind::Archived => vec![room(None)],
            ChangeKind::Other => vec![room(present())],
        }
    }
}

/// A part of a room that can change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// The membership of a user.
    Member(Username),
    /// The properties of the room.
    Room,
}

impl Part {
    /// The part that an item describes.
    pub fn of(item: &Item) -> Self {
        match item {
            Item::Member { member, .. } => Self::Member(member.username.clone()),
            Item::Room { .. } => Self::Room,
        }
    }

    /// The part that is stored under a type and a name, as [`Part::kind`] and [`Part::name`] return them. `None` for a type that a later
    /// release stores.
    ///
    /// # Errors
    /// When the name of a member is not valid.
    pub fn stored(kind: &str, name: String) -> Result<Option<Self>, proto::NameError> {
        match kind {
            kind if kind == ItemType::Member.name() => Username::try_from(name).map(Self::Member).map(Some),
            kind if kind == ItemType::Room.name() => Ok(Some(Self::Room)),
            _ => Ok(None),
        }
    }

    /// The type of its items.
    pub fn kind(&self) -> ItemType {
        match self {
            Self::Member(_) => ItemType::Member,
            Self::Room => ItemType::Room,
        }
    }

    /// The name of the member. Empty for the properties.
    pub fn name(&self) -> String {
        match self {
            Self::Member(user) => user.to_string(),
            Self::Room => String::new(),
        }
    }

    /// The part in its present state, for a single look-up. [`PresentState`] is for many.
    pub fn present(&self, record: &RoomRecord) -> Item {
        match self {
            Self::Member(user) => Item::Member { member: state_of(&record.members, user), by: None },
            Self::Room => {
                let settings = settings(&record.room_info, record.members.len() as u64);
                Item::Room { settings: Some(settings), by: None }
            }
        }
    }

    /// The name under which the part is unique in its room among those of its type.
    pub fn key(&self) -> String {
        match self {
            Self::Member(user) => user.key(),
            Self::Room => String::new(),
        }
    }
}

/// The present state of a room, indexed for many look-ups of [`Part`]s. It may contain only the members that are looked up.
#[derive(Debug)]
pub struct PresentState<'a> {
    /// The properties. `None` for a room that has ended.
    settings: Option<RoomState>,
    /// The members by [`Username::key`].
    members: HashMap<String, &'a Member>,
}

impl<'a> PresentState<'a> {
    /// The state of a room that has not ended.
    pub fn of(record: &'a RoomRecord) -> Self {
        Self::new(Some(settings(&record.room_info, record.members.len() as u64)), &record.members)
    }

    /// The state with these properties (`None`: the room has ended) and members. A user who is not among `members` counts as not a member,
    /// so they must contain all members whose parts are looked up.
    pub fn new(settings: Option<RoomState>, members: &'a [Member]) -> Self {
        Self { settings, members: members.iter().map(|member| (member.username.key(), member)).collect() }
    }

    /// The part in its present state.
    pub fn item(&self, part: &Part) -> Item {
        match part {
            Part::Member(user) => {
                let member = self.members.get(&user.key()).copied();
                Item::Member { member: state(member, user), by: None }
            }
            Part::Room => Item::Room { settings: self.settings.clone(), by: None },
        }
    }
}

/// The properties of a room as clients receive them.
pub fn settings(room_info: &RoomInfo, member_count: u64) -> RoomState {
    RoomState {
        kind: room_info.kind(),
        settings: room_info.settings.clone(),
        owner: room_info.owner.clone(),
        member_count,
    }
}

/// The membership of `user`, who is one of `members` or not a member.
fn state_of(members: &[Member], user: &Username) -> MemberState {
    state(members.iter().find(|member| member.username.key() == user.key()), user)
}

/// The membership of `user`. `member` is the user as a member, `None` when the user is not a member.
fn state(member: Option<&Member>, user: &Username) -> MemberState {
    MemberState {
        username: member.map_or(user, |member| &member.username).clone(),
        role: member.map(|member| member.role),
    }
}
