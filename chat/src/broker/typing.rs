//! Lists of typing users, and the sockets that receive each. Pure: time is an argument. Owned by [`super::fanout_actor`].
//!
//! The sockets of a typing user receive the list without that user. A user whose membership ended is not listed from then on, even
//! if the presence service still reports the user.

use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, Instant},
};

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

/// How long an ended membership is kept: as long as the presence service may keep a typing stamp.
const ENDED_FOR: Duration = Duration::from_secs(600);

/// The maximum number of ended memberships that are kept.
const MAX_ENDED: usize = 10_000;

/// The lists that were last sent, and the users that must not be listed.
#[derive(Debug, Default)]
pub struct TypingLists {
    /// The last list by room. No list is empty.
    listed: HashMap<RoomName, BTreeSet<String>>,
    /// The time at which memberships ended, by room and [`Username::key`].
    ended: HashMap<(RoomName, String), Instant>,
}

impl TypingLists {
    /// The operations on sockets that deliver `entry`, in order.
    pub fn operations(
        &mut self,
        entry: Entry,
        position: &StreamPosition,
        tokens: &RoomTokens,
        now: Instant,
    ) -> Vec<Operation> {
        match &entry {
            Entry::Signal(Signal::Typing { room, users }) => self.update(room, users, now),
            Entry::Control(Control::SetMembership { room, user, is_member: true }) => {
                self.ended.remove(&(room.clone(), user.key()));
                operations(entry, position, tokens)
            }
            Entry::Control(Control::SetMembership { room, user, is_member: false }) => {
                let stopped = self.end_membership(room, user, now);
                operations(entry, position, tokens).into_iter().chain(stopped).collect()
            }
            Entry::Event(RoomEvent { kind: RoomEventKind::Change(change), .. }) => {
                let stopped = match &change.what {
                    ChangeKind::Joined(user) | ChangeKind::Renewed(user) => {
                        self.ended.remove(&(change.room.clone(), user.key()));
                        vec![]
                    }
                    // By then the user's sockets have left the room, so they do not receive the list.
                    ChangeKind::Left(user) => self.end_membership(&change.room, user, now),
                    ChangeKind::Archived => {
                        self.listed.remove(&change.room);
                        vec![]
                    }
                    ChangeKind::Other => vec![],
                };
                operations(entry, position, tokens).into_iter().chain(stopped).collect()
            }
            _ => operations(entry, position, tokens),
        }
    }

    fn end_membership(&mut self, room: &RoomName, user: &Username, now: Instant) -> Vec<Operation> {
        if self.ended.len() >= MAX_ENDED {
            self.ended.retain(|_, since| now.saturating_duration_since(*since) < ENDED_FOR);
        }
        if self.ended.len() >= MAX_ENDED
            && let Some(earliest) =
                self.ended.iter().min_by_key(|(_, since)| **since).map(|(key, _)| key.clone())
        {
            self.ended.remove(&earliest);
        }
        self.ended.insert((room.clone(), user.key()), now);
        let left: Vec<String> = self.listed.get(room).into_iter().flatten().cloned().collect();
        self.update(room, &left, now)
    }

    /// Sends the typing users of a room. Empty when the list has not changed.
    fn update(&mut self, room: &RoomName, users: &[String], now: Instant) -> Vec<Operation> {
        let new: BTreeSet<String> =
            users.iter().filter(|user| !self.has_left(room, user, now)).cloned().collect();
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

    fn has_left(&self, room: &RoomName, user: &str, now: Instant) -> bool {
        let since = self.ended.get(&(room.clone(), user.to_ascii_lowercase()));
        since.is_some_and(|since| now.saturating_duration_since(*since) < ENDED_FOR)
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

    fn left(user: &str) -> Entry {
        change(ChangeKind::Left(user.parse().unwrap()))
    }

    fn change(what: ChangeKind) -> Entry {
        let (room, items, members) = (tea(), vec![], vec![]);
        let change = RoomChange { room, rev: 1, what, by: None, items, members, offset: None };
        RoomEvent::change(change, None).into()
    }

    /// The recipients of the typing events of `entry`, and the names in each.
    fn sent(typing_lists: &mut TypingLists, entry: Entry, now: Instant) -> Vec<String> {
        let operations =
            typing_lists.operations(entry, &StreamPosition::new("e", 0), &RoomTokens::default(), now);
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
        let (mut typing_lists, now) = (TypingLists::default(), Instant::now());
        let mut type_now = |users: &[&str]| sent(&mut typing_lists, entry(users), now);
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
    fn a_user_that_left_is_not_listed_until_the_user_joins_again() {
        let (mut typing_lists, now) = (TypingLists::default(), Instant::now());
        sent(&mut typing_lists, entry(&["alice", "Bob"]), now);
        let stopped = sent(&mut typing_lists, left("BOB"), now);
        assert_eq!(stopped[0], "room:tea in - but user:bob,user:alice: alice");
        assert_eq!(sent(&mut typing_lists, entry(&["alice", "Bob"]), now), [""; 0], "a stale report");
        typing_lists.operations(
            change(ChangeKind::Joined("bob".parse().unwrap())),
            &StreamPosition::new("e", 0),
            &RoomTokens::default(),
            now,
        );
        assert_eq!(sent(&mut typing_lists, entry(&["alice", "Bob"]), now).len(), 2);
    }

    #[test]
    fn ended_memberships_are_bounded_in_number_and_time() {
        let (mut typing_lists, now) = (TypingLists::default(), Instant::now());
        for n in 0..=MAX_ENDED {
            typing_lists.operations(
                left(&format!("u{n}")),
                &StreamPosition::new("e", 0),
                &RoomTokens::default(),
                now,
            );
        }
        assert_eq!(typing_lists.ended.len(), MAX_ENDED);
        typing_lists.operations(
            left("alice"),
            &StreamPosition::new("e", 0),
            &RoomTokens::default(),
            now + ENDED_FOR,
        );
        assert_eq!(typing_lists.ended.len(), 1);
        let online: Vec<String> = (0..=PERSONAL).map(|n| format!("u{n}")).collect();
        let online: Vec<&str> = online.iter().map(String::as_str).collect();
        assert_eq!(
            sent(&mut typing_lists, entry(&online), now + ENDED_FOR).len(),
            1,
            "one list for any number of typing users"
        );
    }
}
