//! The changes of rooms that a client has missed, from the records of the stream. Called by [`super::journal`].

use std::collections::{BTreeMap, HashMap, HashSet};

use proto::{
    RoomName, Username,
    event::{Change, Item, MemberState},
};

use super::{Stream, record::StreamRecord};
use crate::{
    Error,
    changes::Changes,
    history::{MissedBy, MissedChange},
};

/// The changes in a part of the stream.
#[derive(Debug, Default)]
pub struct MissedChanges {
    /// The changed rooms that the client is in.
    rooms: HashMap<RoomName, Window>,
    /// The changes that have ended the client's membership of other rooms.
    ended: Vec<(u64, MissedChange)>,
    /// The rooms that the client has entered since its rooms were read.
    begun: HashSet<RoomName>,
}

/// The changes of one room.
#[derive(Debug, Default)]
struct Window {
    /// The numbers of the changes that have records, each with the offset of its first record.
    offsets: BTreeMap<u64, u64>,
    /// The users whose memberships began or ended.
    users: Vec<Username>,
}

impl MissedChanges {
    /// Adds a record with its offset. Returns false when the client cannot recover, because it may have received the change already.
    pub fn add(&mut self, stream: &Stream, client: MissedBy<'_>, record: StreamRecord, offset: u64) -> bool {
        let Some(room) = record.room().cloned() else { return true };
        let is_member = client.rooms.contains(&room);
        let is_user = |user: &Username| user.key() == client.user.key();
        let has_ended = match &record {
            StreamRecord::Left { user, .. } => is_user(user),
            StreamRecord::Archived { members, .. } => members.iter().any(is_user),
            _ => false,
        };
        if !is_member && !has_ended {
            if matches!(&record, StreamRecord::Joined { user, .. } if is_user(user)) {
                self.begun.insert(room);
            }
            return true;
        }
        let Some(rev) = record.rev().filter(|rev| !stream.is_fallback_change(&room, *rev)) else {
            return false;
        };
        if !is_member {
            self.begun.remove(&room);
            self.ended.push((offset, ended(client.user, room, rev, &record)));
            return true;
        }
        let window = self.rooms.entry(room).or_default();
        window.offsets.entry(rev).or_insert(offset);
        if let StreamRecord::Joined { user, .. } | StreamRecord::Left { user, .. } = record {
            window.users.push(user);
        }
        true
    }

    /// The number of rooms and ended memberships.
    pub fn len(&self) -> usize {
        self.rooms.len() + self.ended.len()
    }

    /// Reads the changed parts of the rooms. Returns the changes in the order of their offsets. `None` when they are too many, or when a
    /// membership of `user` has begun or ended since the client's rooms were read: its record may be before the offset that the client
    /// recovers to, and is then not delivered live.
    pub async fn read(
        self,
        store: &dyn Changes,
        user: &Username,
    ) -> Result<Option<Vec<(u64, MissedChange)>>, Error> {
        if !self.begun.is_empty() {
            return Ok(None);
        }
        let mut changes = self.ended;
        for (room, window) in self.rooms {
            let Some(mut after) = window.offsets.keys().next().map(|first| first.saturating_sub(1)) else {
                continue;
            };
            // A room that has ended is `None`.
            let Some(since) = store.since(&room, after).await? else { return Ok(None) };
            let mut items = since.changes.iter().flat_map(|(_, items)| items);
            if since.reset || since.more || items.any(|item| ends_membership(item, user)) {
                return Ok(None);
            }
            for (rev, items) in since.changes {
                // Later changes are delivered live.
                let Some(offset) = window.offset_of(rev) else { break };
                let memberships = items.iter().filter_map(|item| window.membership(item)).collect();
                let change = Change { room: room.clone(), rev, after, items };
                changes.push((offset, MissedChange { change, memberships, is_last: true }));
                after = rev;
            }
        }
        changes.sort_by_key(|(offset, missed)| (*offset, missed.change.rev));
        let last: Vec<bool> = (1..=changes.len())
            .map(|next| changes.get(next).is_none_or(|(offset, _)| *offset != changes[next - 1].0))
            .collect();
        changes.iter_mut().zip(last).for_each(|((_, missed), is_last)| missed.is_last = is_last);
        Ok(Some(changes))
    }
}

impl Window {
    /// The offset of the record of the change `rev`. If this change has no record of its own, that of the next change that has one. `None`
    /// for a change after all records.
    fn offset_of(&self, rev: u64) -> Option<u64> {
        self.offsets.range(rev..).map(|(_, offset)| *offset).next()
    }

    /// The membership of an item, if it began or ended.
    fn membership(&self, item: &Item) -> Option<MemberState> {
        let is_changed =
            |member: &&MemberState| self.users.iter().any(|user| user.key() == member.username.key());
        item.member().filter(is_changed).cloned()
    }
}

/// Whether this item ends the membership of `user`.
fn ends_membership(item: &Item, user: &Username) -> bool {
    item.member_named(user).is_some_and(|member| member.role.is_none())
}

/// The change that has ended the membership of `user`.
fn ended(user: &Username, room: RoomName, rev: u64, record: &StreamRecord) -> MissedChange {
    let member = MemberState { username: user.clone(), role: None };
    let item = match record {
        StreamRecord::Archived { .. } => Item::Room { settings: None, by: None },
        _ => Item::Member { member: member.clone(), by: None },
    };
    let change = Change { room, rev, after: rev.saturating_sub(1), items: vec![item] };
    MissedChange { change, memberships: vec![member], is_last: true }
}
