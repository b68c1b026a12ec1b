//! A change of a room before it is committed: what a backend writes, and how clients see it. The parts of a room that can change. Pure.

use std::collections::HashMap;

use proto::{
    Username,
    event::{Item, ItemType, MemberState, RoomState, SettingsPatch},
};

use super::{Member, NewRoom, Role, RoomInfo, RoomRecord};
use crate::room_change::{ChangeKind, RoomChange};

/// A change that a backend is about to commit.
#[derive(Debug, Clone)]
pub struct Decision {
    /// The kind.
    pub what: ChangeKind,
    /// The user that makes the change.
    pub by: Username,
    /// The properties after it.
    pub room_info: RoomInfo,
    /// All members after it, in the order in which they joined.
    pub all_members: Vec<Member>,
    /// The memberships to write, at most two.
    pub members: Vec<MemberChange>,
    /// The settings to write.
    pub settings: Option<SettingsPatch>,
    /// The departure to write.
    pub departure: Option<DepartureChange>,
    /// Whether the room ends by it.
    pub ends: bool,
}

/// A membership to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberChange {
    /// A user becomes a member, after all others.
    Joined(Member),
    /// A member has another role and keeps their place.
    Role(Member),
    /// The membership of the user ends.
    Left(Username),
}

/// A user has left a room to which another user had added them. The other user cannot add them again for
/// [`DEPARTURE_MS`](super::DEPARTURE_MS).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Departure {
    /// The user.
    pub user: Username,
    /// The user who had added them.
    pub adder: Username,
}

/// A departure to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DepartureChange {
    /// The user has left.
    Record(Departure),
    /// The user has joined the room themselves.
    Clear(Username),
}

impl Decision {
    /// A change after which the room has these properties and members. Their owner replaces the one of `room_info`.
    pub fn new(what: ChangeKind, by: &Username, room_info: RoomInfo, all_members: Vec<Member>) -> Self {
        let room_info = RoomInfo { owner: owner_of(&all_members), ..room_info };
        let (members, settings, departure) = (vec![], None, None);
        Self { what, by: by.clone(), room_info, all_members, members, settings, departure, ends: false }
    }

    /// The creation of a room.
    pub fn creation(room: &NewRoom) -> Self {
        let owner = Member { username: room.owner.clone(), role: Role::Owner, added_by: None };
        let what = ChangeKind::Joined(room.owner.clone());
        let mut decision = Self::new(what, &room.owner, room.room_info(), vec![owner.clone()]);
        decision.members = vec![MemberChange::Joined(owner)];
        decision
    }

    /// The changed parts of the room in their state after the change: the properties before the members.
    pub fn items(&self) -> Vec<Item> {
        let has_new_owner = self.members.iter().any(MemberChange::is_owner);
        let is_of_room = self.ends || self.settings.is_some() || has_new_owner;
        let room = || {
            let count = self.all_members.len() as u64;
            let present = (!self.ends).then(|| settings(&self.room_info, count));
            Item::Room { settings: present, by: Some(self.by.clone()) }
        };
        let member = |change: &MemberChange| {
            let user = change.user();
            let by = (user.key() != self.by.key()).then(|| self.by.clone());
            Item::Member { member: state_of(&self.all_members, user), by }
        };
        is_of_room.then(room).into_iter().chain(self.members.iter().map(member)).collect()
    }

    /// The change after its commit, with its number, and its offset in a log that the store keeps.
    pub fn committed(&self, rev: u64, offset: Option<u64>) -> RoomChange {
        let is_archived = self.what == ChangeKind::Archived;
        let members = self.all_members.iter().filter(|_| is_archived);
        RoomChange {
            room: self.room_info.name.clone(),
            rev,
            what: self.what.clone(),
            by: Some(self.by.clone()),
            items: self.items(),
            members: members.map(|member| member.username.clone()).collect(),
            offset,
        }
    }

    /// The room after the change, which has the number `rev`, without its departures. `None` when it has ended.
    pub fn record(self, rev: u64) -> Option<RoomRecord> {
        let Self { room_info, all_members: members, ends, .. } = self;
        (!ends).then_some(RoomRecord { room_info, members, departures: vec![], rev })
    }
}

impl MemberChange {
    /// The user.
    pub fn user(&self) -> &Username {
        match self {
            Self::Joined(member) | Self::Role(member) => &member.username,
            Self::Left(user) => user,
        }
    }

    fn is_owner(&self) -> bool {
        matches!(self, Self::Joined(member) | Self::Role(member) if member.role == Role::Owner)
    }
}

/// The owner among `members`.
pub fn owner_of(members: &[Member]) -> Option<Username> {
    members.iter().find(|member| member.role == Role::Owner).map(|member| member.username.clone())
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

    /// The part's key, which is unique among the parts of the same type in a room: the user's key for a member, empty for the properties.
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
