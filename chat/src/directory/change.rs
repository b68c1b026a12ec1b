//! A change of a room before it is committed: what it changes, and how clients see it. Pure.

use std::collections::HashMap;

use proto::{
    Username,
    event::{Item, MemberState, RoomState},
};

use super::{Member, RoomInfo};
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
        let member = |user: &Username| {
            let by = (user.key() != self.by.key()).then(|| self.by.clone());
            Item::Member { member: state_of(members, user), by }
        };
        match &self.what {
            ChangeKind::Joined(user) | ChangeKind::Renewed(user) => {
                let is_owner = room_info.owner.as_ref().is_some_and(|owner| owner.key() == user.key());
                let settings = is_owner.then(|| room(Some(settings(room_info, members))));
                settings.into_iter().chain([member(user)]).collect()
            }
            ChangeKind::Left(user) => {
                let settings = match self.ends {
                    true => Some(room(None)),
                    false => self.successor.map(|_| room(Some(settings(room_info, members)))),
                };
                settings.into_iter().chain([member(user)]).chain(self.successor.map(member)).collect()
            }
            ChangeKind::Archived => vec![room(None)],
            ChangeKind::Other => vec![room(Some(settings(room_info, members)))],
        }
    }
}

/// The properties of a room as clients receive them.
pub fn settings(room_info: &RoomInfo, members: &[Member]) -> RoomState {
    RoomState {
        kind: room_info.kind(),
        settings: room_info.settings.clone(),
        owner: room_info.owner.clone(),
        member_count: members.len() as u64,
    }
}

/// The members of a room by [`Username::key`], for many look-ups.
#[derive(Debug)]
pub struct Roles<'a>(HashMap<String, &'a Member>);

impl<'a> Roles<'a> {
    /// The roles of `members`.
    pub fn of(members: &'a [Member]) -> Self {
        Self(members.iter().map(|member| (member.username.key(), member)).collect())
    }

    /// The membership of `user`, who may not be a member.
    pub fn state_of(&self, user: &Username) -> MemberState {
        match self.0.get(&user.key()) {
            Some(member) => MemberState { username: member.username.clone(), role: Some(member.role) },
            None => MemberState { username: user.clone(), role: None },
        }
    }
}

/// The membership of `user`, who is one of `members` or not a member.
pub fn state_of(members: &[Member], user: &Username) -> MemberState {
    match members.iter().find(|member| member.username.key() == user.key()) {
        Some(member) => MemberState { username: member.username.clone(), role: Some(member.role) },
        None => MemberState { username: user.clone(), role: None },
    }
}
