//! Lists of typing users, and the sockets that receive each. Pure. Owned by [`super::fanout_actor`].
//!
//! The sockets of a typing user receive the list without that user.

use std::collections::{BTreeSet, HashMap};

use proto::{
    RoomName, Username,
    event::{Typing, name},
};
use socketio::{Operation, Room, Target};

use super::{
    Control, Entry, RoomEvent, RoomEventKind, Signal, StreamPosition,
    fanout::{encode, member_sockets, operations, user_sockets},
    room_backpressure::RoomTokens,
};
use crate::directory::ChangeKind;

/// Up to this number of typing users in a room, each typing user receives a list of its own. Above it, typing users receive no list.
const PERSONAL: usize = 16;

/// The lists that were last sent.
#[derive(Debug, Default)]
pub struct TypingLists {
    /// The last list by room. No list is empty.
    listed: HashMap<RoomName, BTreeSet<String>>,
}

impl TypingLists {
    /// The operations on sockets that deliver `entry`, in order.
    pub fn operations(
        &mut self,
        entry: Entry,
        position: &StreamPosition,
        tokens: &RoomTokens,
    ) -> Vec<Operation> {
        let stopped = match &entry {
            Entry::Signal(Signal::Typing { room, users }) => return self.update(room, users),
            // By then the user's sockets have left the room, so they do not receive the list.
            Entry::Control(Control::SetMembership { room, user, is_member: false }) => {
                self.remove(room, user)
            }
            Entry::Event(RoomEvent { kind: RoomEventKind::Change(change), .. }) => match &change.what {
                ChangeKind::Left(user) => self.remove(&change.room, user),
                ChangeKind::Archived => {
                    self.listed.remove(&change.room);
                    vec![]
                }
                ChangeKind::Joined(_) | ChangeKind::Other => vec![],
            },
            _ => vec![],
        };
        operations(entry, position, tokens).into_iter().chain(stopped).collect()
    }

    /// Removes a user whose membership has ended from the list of a room.
    fn remove(&mut self, room: &RoomName, user: &Username) -> Vec<Operation> {
        let listed = self.listed.get(room).into_iter().flatten();
        let others: Vec<String> =
            listed.filter(|other| !other.eq_ignore_ascii_case(user.as_str())).cloned().collect();
        self.update(room, &others)
    }

    /// Sends the typing users of a room. Empty when the list has not changed.
    fn update(&mut self, room: &RoomName, users: &[String]) -> Vec<Operation> {
        let new: BTreeSet<String> = users.iter().cloned().collect();
        let old = self.listed.remove(room).unwrap_or_default();
        let changed: BTreeSet<&String> = new.symmetric_difference(&old).collect();
        if changed.is_empty() {
            if !new.is_empty() {
                self.listed.insert(room.clone(), new);
            }
            return vec![];
        }
        let operations = lists(room, &new, &old, &changed);
        if !new.is_empty() {
            self.listed.insert(room.clone(), new);
        }
        operations
    }
}

/// The list for users that do not type, then one for each typing user whose own list has changed.
fn lists(
    room: &RoomName,
    new: &BTreeSet<String>,
    old: &BTreeSet<String>,
    changed: &BTreeSet<&String>,
) -> Vec<Operation> {
    let is_personal = new.len().max(old.len()) <= PERSONAL;
    // The list of the only user that has started or stopped does not change.
    let only_changed = changed.iter().filter(|_| is_personal && changed.len() == 1).copied();
    let except: BTreeSet<&String> = new.iter().chain(only_changed).collect();
    let except = except.into_iter().filter_map(|user| sockets_of(user)).collect();
    let others = Target { except, ..Target::room("/", member_sockets(room)) };
    let mut operations: Vec<Operation> =
        list(others, room, new.iter().cloned().collect()).into_iter().collect();
    for user in new.iter().filter(|_| is_personal) {
        let Some(sockets) = sockets_of(user).filter(|_| changed.iter().any(|other| *other != user)) else {
            continue;
        };
        let own = Target { within: Some(member_sockets(room)), ..Target::room("/", sockets) };
        operations.extend(list(own, room, new.iter().filter(|other| *other != user).cloned().collect()));
    }
    operations
}

fn list(to: Target, room: &RoomName, users: Vec<String>) -> Option<Operation> {
    let packet = encode(name::TYPING, &Typing { users, room: room.to_string() }, None)?;
    Some(Operation::Send { to, packet, volatile: true })
}

fn sockets_of(user: &str) -> Option<Room> {
    user.parse::<Username>().ok().map(|user| user_sockets(&user))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::RoomChange;

    fn tea() -> RoomName {
        "tea".parse().unwrap()
    }

    fn entry(users: &[&str]) -> Entry {
        Signal::Typing { room: tea(), users: users.iter().map(ToString::to_string).collect() }.into()
    }

    /// The recipients of the typing events of `entry`, and the names in each.
    fn sent(typing_lists: &mut TypingLists, entry: Entry) -> Vec<String> {
        let operations = typing_lists.operations(entry, &StreamPosition::new("e", 0), &RoomTokens::default());
        let sends = operations.into_iter().filter_map(|operation| match operation {
            Operation::Send { to, packet, volatile: true } => Some((to, packet)),
            _ => None,
        });
        let names = |packet: &socketio::Encoded| {
            let all = ["alice", "bob", "carol"];
            let is_named = |name: &&str| {
                let text = format!("{packet:?}");
                text.contains(&format!("\\\"{name}\\\"")) || text.contains(&format!("\"{name}\""))
            };
            all.into_iter().filter(is_named).collect::<Vec<_>>().join("+")
        };
        sends
            .map(|(to, packet)| {
                let within = to.within.as_deref().unwrap_or("-");
                format!("{} in {within} but {}: {}", to.rooms.join(","), to.except.join(","), names(&packet))
            })
            .collect()
    }

    #[test]
    fn typing_users_do_not_receive_their_own_name() {
        let mut typing_lists = TypingLists::default();
        let mut type_now = |users: &[&str]| sent(&mut typing_lists, entry(users));
        assert_eq!(type_now(&["alice"]), ["room:tea in - but user:alice: alice"]);
        assert_eq!(type_now(&["alice"]), [""; 0], "nothing has changed");
        assert_eq!(
            type_now(&["alice", "bob"]),
            ["room:tea in - but user:alice,user:bob: alice+bob", "user:alice in room:tea but : bob"]
        );
        assert_eq!(
            type_now(&["bob"]),
            ["room:tea in - but user:alice,user:bob: bob", "user:bob in room:tea but : "]
        );
        assert_eq!(
            type_now(&["carol"]),
            ["room:tea in - but user:carol: carol", "user:carol in room:tea but : "]
        );
        assert_eq!(type_now(&[]), ["room:tea in - but user:carol: "]);
    }

    #[test]
    fn a_user_that_left_is_no_longer_listed() {
        let mut typing_lists = TypingLists::default();
        sent(&mut typing_lists, entry(&["alice", "Bob"]));
        let (room, items, members) = (tea(), vec![], vec![]);
        let what = ChangeKind::Left("BOB".parse().unwrap());
        let change = RoomChange { room, rev: 1, what, by: None, items, members, offset: None };
        let stopped = sent(&mut typing_lists, RoomEvent::change(change, None).into());
        assert_eq!(stopped[0], "room:tea in - but user:bob,user:alice: alice");
    }
}
