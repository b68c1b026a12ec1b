//! Tests of the roster with tables and random histories: replayed diffs must equal its state.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits { lease: 15_000, typing: 8_000, users: 3, typing_entries: 4 };

fn user(name: &str) -> Username {
    name.parse().unwrap()
}

fn users(of: &[(&str, u32)]) -> Connections {
    of.iter().map(|(name, count)| (user(name), *count)).collect()
}

fn names(of: &[&str]) -> Vec<Username> {
    of.iter().map(|name| user(name)).collect()
}

/// Users that came online and went offline since the last diff.
fn moves(state: &mut State) -> (Vec<Username>, Vec<Username>) {
    state.take_diff().map(|diff| (diff.joined, diff.left)).unwrap_or_default()
}

#[test]
fn a_user_with_two_tabs_is_online_until_the_last_one_closes() {
    let mut state = State::new(LIMITS);
    let lease = state.open("n1", users(&[]), 0).unwrap();
    for (count, joined, left) in [(1, &["a"][..], &[][..]), (2, &[], &[]), (1, &[], &[]), (0, &[], &["a"])] {
        state.change(&lease, user("a"), count, 1).unwrap();
        assert_eq!(moves(&mut state), (names(joined), names(left)), "{count}");
    }
}

#[test]
fn a_later_stream_replaces_the_earlier_stream_whose_end_removes_no_user() {
    let mut state = State::new(LIMITS);
    let old = state.open("n1", users(&[("a", 1), ("b", 1)]), 0).unwrap();
    moves(&mut state);
    let new = state.open("n1", users(&[("b", 1), ("c", 1)]), 1).unwrap();
    assert_eq!(moves(&mut state), (names(&["c"]), names(&["a"])));
    assert!(!state.close(&old));
    assert!(matches!(state.change(&old, user("z"), 1, 2), Err(Error::Stale)));
    assert!(matches!(state.heartbeat(&old, 2), Err(Error::Stale)));
    assert_eq!(state.take_diff(), None);
    assert!(state.close(&new));
    assert_eq!(moves(&mut state), (vec![], names(&["b", "c"])));
}

#[test]
fn a_node_whose_lease_expires_is_removed_with_its_users() {
    let mut state = State::new(LIMITS);
    let quiet = state.open("n1", users(&[("a", 1)]), 0).unwrap();
    let alive = state.open("n2", users(&[("b", 1)]), 0).unwrap();
    state.connected(user("c")).unwrap();
    moves(&mut state);
    state.heartbeat(&alive, 14_000).unwrap();
    assert_eq!(state.sweep(14_999), []);
    assert_eq!(state.sweep(15_000), std::slice::from_ref(&quiet));
    assert_eq!(moves(&mut state), (vec![], names(&["a"])));
    assert!(matches!(state.heartbeat(&quiet, 15_001), Err(Error::Stale)));
    assert_eq!(state.sweep(29_000), [alive]);
    assert_eq!(state.sweep(u64::MAX), [], "calls without a lease never expire");
    assert_eq!(state.online().collect::<Vec<_>>(), [&user("c")]);
}

#[test]
fn a_node_name_is_short_and_printable() {
    let mut state = State::new(LIMITS);
    for good in ["chat-1.local:3000", &"n".repeat(64)] {
        state.open(good, users(&[]), 0).unwrap();
    }
    for bad in ["", "a b", "a\n", "é", &"n".repeat(65)] {
        assert!(state.open(bad, users(&[]), 0).is_err(), "{bad:?}");
    }
}

#[test]
fn typing_expires_and_the_expiry_is_published() {
    let mut state = State::new(LIMITS);
    let lobby = RoomName::lobby();
    state.set_typing(user("b"), lobby.clone(), true, 0).unwrap();
    state.set_typing(user("a"), lobby.clone(), true, 100).unwrap();
    let typing = |state: &mut State| state.take_diff().map(|diff| diff.typing).unwrap_or_default();
    assert_eq!(typing(&mut state), [(lobby.clone(), names(&["a", "b"]))]);
    state.set_typing(user("b"), lobby.clone(), true, 4_000).unwrap();
    assert_eq!(typing(&mut state), [], "a renewal is not published");
    state.sweep(8_099);
    assert_eq!(typing(&mut state), []);
    state.sweep(8_100);
    assert_eq!(typing(&mut state), [(lobby.clone(), names(&["b"]))]);
    state.sweep(12_000);
    assert_eq!(typing(&mut state), [(lobby, vec![])]);
}

#[test]
fn typing_ends_with_the_last_connection_of_a_user() {
    let mut state = State::new(LIMITS);
    let lease = state.open("n1", users(&[("a", 2)]), 0).unwrap();
    state.set_typing(user("a"), RoomName::lobby(), true, 0).unwrap();
    state.take_diff();
    state.change(&lease, user("a"), 1, 1).unwrap();
    assert_eq!(state.take_diff(), None);
    state.change(&lease, user("a"), 0, 2).unwrap();
    let diff = state.take_diff().unwrap();
    assert_eq!((diff.left, diff.count, diff.typing), (names(&["a"]), 0, vec![(RoomName::lobby(), vec![])]));
}

#[test]
fn a_full_roster_refuses_additions_and_keeps_its_users() {
    let mut state = State::new(LIMITS);
    let four = users(&[("a", 1), ("b", 1), ("c", 1), ("d", 1)]);
    assert!(matches!(state.open("n1", four.clone(), 0), Err(Error::Full)));
    let lease = state.open("n1", users(&[("a", 1), ("b", 1), ("c", 1)]), 0).unwrap();
    assert!(matches!(state.change(&lease, user("d"), 1, 0), Err(Error::Full)));
    assert!(matches!(state.replace(&lease, four, 0), Err(Error::Full)));
    state.change(&lease, user("a"), 9, 0).unwrap();
    assert_eq!(state.online().len(), 3);
    for name in ["a", "b", "c", "d"] {
        state.set_typing(user(name), RoomName::lobby(), true, 0).unwrap();
    }
    assert!(matches!(state.set_typing(user("e"), RoomName::lobby(), true, 0), Err(Error::Full)));
    state.set_typing(user("a"), RoomName::lobby(), true, 1).unwrap();
    state.set_typing(user("a"), RoomName::lobby(), false, 1).unwrap();
    state.set_typing(user("e"), RoomName::lobby(), true, 2).unwrap();
}

/// One operation on the roster. Names and nodes are small numbers, so that operations collide.
#[derive(Debug, Clone)]
enum Step {
    Open(u8, Vec<(u8, u32)>),
    Replace(u8, Vec<(u8, u32)>),
    Change(u8, u8, u32),
    Close(u8),
    Connected(u8),
    Disconnected(u8),
    Typing(u8, u8, bool),
    Wait(u64),
    TakeDiff,
}

fn step() -> impl Strategy<Value = Step> {
    let users = || prop::collection::vec((0..6u8, 0..3u32), 0..5);
    prop_oneof![
        (0..3u8, users()).prop_map(|(at, of)| Step::Open(at, of)),
        (0..3u8, users()).prop_map(|(at, of)| Step::Replace(at, of)),
        (0..3u8, 0..6u8, 0..3u32).prop_map(|(at, who, count)| Step::Change(at, who, count)),
        (0..3u8).prop_map(Step::Close),
        (0..6u8).prop_map(Step::Connected),
        (0..6u8).prop_map(Step::Disconnected),
        (0..6u8, 0..3u8, any::<bool>()).prop_map(|(who, room, on)| Step::Typing(who, room, on)),
        (0..20_000u64).prop_map(Step::Wait),
        Just(Step::TakeDiff),
    ]
}

/// A simpler model: counts of each node as numbers, and the state that a subscriber computes from diffs.
#[derive(Default)]
struct Model {
    now: u64,
    /// Node (3 has no lease) -> time of the last report, users.
    nodes: HashMap<u8, (u64, HashMap<u8, u32>)>,
    leases: HashMap<u8, Lease>,
    online_by_diffs: BTreeSet<Username>,
    typing_by_diffs: BTreeMap<RoomName, Vec<Username>>,
}

impl Model {
    fn online(&self) -> BTreeSet<Username> {
        let counts = self.nodes.values().flat_map(|(_, users)| users);
        counts.filter(|(_, count)| **count > 0).map(|(who, _)| user(&format!("u{who}"))).collect()
    }

    fn apply(&mut self, state: &mut State, step: Step) {
        let name = |who: u8| user(&format!("u{who}"));
        let connections =
            |of: &[(u8, u32)]| of.iter().map(|(who, count)| (name(*who), *count)).collect::<Connections>();
        let now = self.now;
        match step {
            Step::Open(at, of) => {
                let lease = state.open(&format!("n{at}"), connections(&of), now).unwrap();
                self.leases.insert(at, lease);
                self.nodes.insert(at, (now, of.into_iter().collect()));
            }
            Step::Replace(at, of) => {
                let Some(lease) = self.leases.get(&at) else { return };
                let held = state.replace(lease, connections(&of), now).is_ok();
                assert_eq!(held, self.nodes.contains_key(&at));
                self.nodes.entry(at).and_modify(|node| *node = (now, of.into_iter().collect()));
            }
            Step::Change(at, who, count) => {
                let Some(lease) = self.leases.get(&at) else { return };
                let held = state.change(lease, name(who), count, now).is_ok();
                assert_eq!(held, self.nodes.contains_key(&at));
                if let Some((last_report, users)) = self.nodes.get_mut(&at) {
                    *last_report = now;
                    users.insert(who, count);
                }
            }
            Step::Close(at) => {
                let Some(lease) = self.leases.get(&at) else { return };
                assert_eq!(state.close(lease), self.nodes.remove(&at).is_some());
            }
            Step::Connected(who) => {
                state.connected(name(who)).unwrap();
                *self.nodes.entry(3).or_default().1.entry(who).or_default() += 1;
            }
            Step::Disconnected(who) => {
                state.disconnected(name(who)).unwrap();
                let count = self.nodes.entry(3).or_default().1.entry(who).or_default();
                *count = count.saturating_sub(1);
            }
            Step::Typing(who, room, on) => {
                state.set_typing(name(who), format!("r{room}").parse().unwrap(), on, now).unwrap();
            }
            Step::Wait(time) => {
                self.now += time;
                state.sweep(self.now);
                let now = self.now;
                self.nodes.retain(|at, (last_report, _)| *at == 3 || now - *last_report < 15_000);
            }
            Step::TakeDiff => self.take_diff(state),
        }
    }

    /// Applies the diff as a subscriber does, and compares the result with the roster.
    fn take_diff(&mut self, state: &mut State) {
        if let Some(diff) = state.take_diff() {
            assert!(diff.joined.is_sorted() && diff.left.is_sorted());
            for name in diff.joined {
                assert!(self.online_by_diffs.insert(name), "joined twice");
            }
            for name in diff.left {
                assert!(self.online_by_diffs.remove(&name), "left without having joined");
            }
            assert_eq!(diff.count, self.online_by_diffs.len());
            for (room, typists) in diff.typing {
                assert!(typists.is_sorted());
                self.typing_by_diffs.remove(&room);
                if !typists.is_empty() {
                    self.typing_by_diffs.insert(room, typists);
                }
            }
        }
        assert_eq!(self.online_by_diffs, state.online().cloned().collect());
        let typing = state.typing().map(|(room, users)| (room.clone(), users.into_iter().cloned().collect()));
        assert_eq!(self.typing_by_diffs, typing.collect::<BTreeMap<_, Vec<_>>>());
    }
}

proptest! {
    #[test]
    fn replayed_diffs_equal_the_roster_after_any_history(steps in prop::collection::vec(step(), 0..80)) {
        let mut state = State::new(Limits { users: 100, typing_entries: 100, ..LIMITS });
        let mut model = Model::default();
        for step in steps {
            model.apply(&mut state, step);
            prop_assert_eq!(model.online(), state.online().cloned().collect());
        }
        model.take_diff(&mut state);
    }
}
