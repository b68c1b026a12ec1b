//! Who is shown typing where, to whom. Pure: time is an argument. Owned by [`super::fanout_actor`].
//!
//! Nobody is shown their own name: the sockets of a typing user get the list without that user. A user whose membership has
//! ended is not shown from then on, whatever the presence service still reports.

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
    Entry, StreamPosition,
    fanout::{encode, fanouts, of_room, of_user},
    pacing::Pacers,
};

/// Up to this number of typing users, each gets a list of its own. Beyond it, typing users get no list.
const PERSONAL: usize = 16;

/// How long a membership that has ended is kept: as long as the presence service may keep a typing stamp.
const GONE_FOR: Duration = Duration::from_secs(600);

/// The most ended memberships kept.
const MAX_GONE: usize = 10_000;

/// Who was last shown typing, and who may not be shown.
#[derive(Debug, Default)]
pub struct Typists {
    /// By room; no room is empty.
    shown: HashMap<RoomName, BTreeSet<String>>,
    /// When memberships have ended, by room and [`Username::key`].
    gone: HashMap<(RoomName, String), Instant>,
}

impl Typists {
    /// What to do with the sockets because of `entry`, in order.
    pub fn fanouts(
        &mut self,
        entry: Entry,
        position: &StreamPosition,
        pacers: &Pacers,
        now: Instant,
    ) -> Vec<Operation> {
        match &entry {
            Entry::Typing { room, users } => self.show(room, users, now),
            Entry::Joined { room, user } | Entry::Seated { room, user, is_in: true } => {
                self.gone.remove(&(room.clone(), user.key()));
                fanouts(entry, position, pacers)
            }
            Entry::Left { room, user } | Entry::Seated { room, user, is_in: false } => {
                let stopped = self.leave(room, user, now);
                // The user's sockets are out of the room by then.
                fanouts(entry, position, pacers).into_iter().chain(stopped).collect()
            }
            Entry::Archived { room, .. } => {
                self.shown.remove(room);
                fanouts(entry, position, pacers)
            }
            _ => fanouts(entry, position, pacers),
        }
    }

    fn leave(&mut self, room: &RoomName, user: &Username, now: Instant) -> Vec<Operation> {
        if self.gone.len() >= MAX_GONE {
            self.gone.retain(|_, since| now.saturating_duration_since(*since) < GONE_FOR);
        }
        if self.gone.len() >= MAX_GONE
            && let Some(earliest) =
                self.gone.iter().min_by_key(|(_, since)| **since).map(|(key, _)| key.clone())
        {
            self.gone.remove(&earliest);
        }
        self.gone.insert((room.clone(), user.key()), now);
        let left: Vec<String> = self.shown.get(room).into_iter().flatten().cloned().collect();
        self.show(room, &left, now)
    }

    /// Shows who types in a room. Nothing when that was shown before.
    fn show(&mut self, room: &RoomName, users: &[String], now: Instant) -> Vec<Operation> {
        let new: BTreeSet<String> =
            users.iter().filter(|user| !self.is_gone(room, user, now)).cloned().collect();
        let old = self.shown.remove(room).unwrap_or_default();
        let changed: BTreeSet<&String> = new.symmetric_difference(&old).collect();
        if changed.is_empty() {
            if !new.is_empty() {
                self.shown.insert(room.clone(), new);
            }
            return vec![];
        }
        let fanouts = lists(room, &new, &old, &changed);
        if !new.is_empty() {
            self.shown.insert(room.clone(), new);
        }
        fanouts
    }

    fn is_gone(&self, room: &RoomName, user: &str, now: Instant) -> bool {
        let since = self.gone.get(&(room.clone(), user.to_ascii_lowercase()));
        since.is_some_and(|since| now.saturating_duration_since(*since) < GONE_FOR)
    }
}

/// The list for everybody else, then one for each typing user whose own list has changed.
fn lists(
    room: &RoomName,
    new: &BTreeSet<String>,
    old: &BTreeSet<String>,
    changed: &BTreeSet<&String>,
) -> Vec<Operation> {
    let is_personal = new.len().max(old.len()) <= PERSONAL;
    // For the only user who has started or stopped nothing has changed.
    let alone = changed.iter().filter(|_| is_personal && changed.len() == 1).copied();
    let except: BTreeSet<&String> = new.iter().chain(alone).collect();
    let except = except.into_iter().filter_map(|user| sockets_of(user)).collect();
    let others = Target { except, ..Target::room("/", of_room(room)) };
    let mut fanouts: Vec<Operation> = list(others, room, new.iter().cloned().collect()).into_iter().collect();
    for user in new.iter().filter(|_| is_personal) {
        let Some(sockets) = sockets_of(user).filter(|_| changed.iter().any(|other| *other != user)) else {
            continue;
        };
        let own = Target { within: Some(of_room(room)), ..Target::room("/", sockets) };
        fanouts.extend(list(own, room, new.iter().filter(|other| *other != user).cloned().collect()));
    }
    fanouts
}

fn list(to: Target, room: &RoomName, users: Vec<String>) -> Option<Operation> {
    let packet = encode(name::TYPING, &Typing { users, room: room.to_string() }, None)?;
    Some(Operation::Send { to, packet, volatile: true })
}

fn sockets_of(user: &str) -> Option<Room> {
    user.parse::<Username>().ok().map(|user| of_user(&user))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tea() -> RoomName {
        "tea".parse().unwrap()
    }

    fn entry(users: &[&str]) -> Entry {
        Entry::Typing { room: tea(), users: users.iter().map(ToString::to_string).collect() }
    }

    fn left(user: &str) -> Entry {
        Entry::Left { room: tea(), user: user.parse().unwrap() }
    }

    /// Whom the typing events of `entry` go to.
    fn told(typists: &mut Typists, entry: Entry, now: Instant) -> Vec<String> {
        let fanouts = typists.fanouts(entry, &StreamPosition::new("e", 0), &Pacers::default(), now);
        let sends = fanouts.into_iter().filter_map(|fanout| match fanout {
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
    fn nobody_is_shown_their_own_name() {
        let (mut typists, now) = (Typists::default(), Instant::now());
        let mut tell = |users: &[&str]| told(&mut typists, entry(users), now);
        assert_eq!(tell(&["alice"]), ["room:tea in - but user:alice: alice"]);
        assert_eq!(tell(&["alice"]), [""; 0], "nothing has changed");
        assert_eq!(
            tell(&["alice", "bob"]),
            ["room:tea in - but user:alice,user:bob: alice+bob", "user:alice in room:tea but : bob"]
        );
        assert_eq!(
            tell(&["bob"]),
            ["room:tea in - but user:alice,user:bob: bob", "user:bob in room:tea but : "]
        );
        assert_eq!(
            tell(&["carol"]),
            ["room:tea in - but user:carol: carol", "user:carol in room:tea but : "]
        );
        assert_eq!(tell(&[]), ["room:tea in - but user:carol: "]);
    }

    #[test]
    fn a_user_who_has_left_is_shown_no_more_until_they_are_back() {
        let (mut typists, now) = (Typists::default(), Instant::now());
        told(&mut typists, entry(&["alice", "Bob"]), now);
        let stopped = told(&mut typists, left("BOB"), now);
        assert_eq!(stopped[0], "room:tea in - but user:bob,user:alice: alice");
        assert_eq!(told(&mut typists, entry(&["alice", "Bob"]), now), [""; 0], "an old report");
        typists.fanouts(
            Entry::Joined { room: tea(), user: "bob".parse().unwrap() },
            &StreamPosition::new("e", 0),
            &Pacers::default(),
            now,
        );
        assert_eq!(told(&mut typists, entry(&["alice", "Bob"]), now).len(), 2);
    }

    #[test]
    fn what_is_kept_is_bounded_in_number_and_time() {
        let (mut typists, now) = (Typists::default(), Instant::now());
        for n in 0..=MAX_GONE {
            typists.fanouts(left(&format!("u{n}")), &StreamPosition::new("e", 0), &Pacers::default(), now);
        }
        assert_eq!(typists.gone.len(), MAX_GONE);
        typists.fanouts(left("alice"), &StreamPosition::new("e", 0), &Pacers::default(), now + GONE_FOR);
        assert_eq!(typists.gone.len(), 1);
        let online: Vec<String> = (0..=PERSONAL).map(|n| format!("u{n}")).collect();
        let online: Vec<&str> = online.iter().map(String::as_str).collect();
        assert_eq!(
            told(&mut typists, entry(&online), now + GONE_FOR).len(),
            1,
            "one list, however many type"
        );
    }
}
