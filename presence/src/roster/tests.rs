//! The roster by tables and by random histories: what it says in diffs must always add up to what it holds.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits { lease: 15_000, typing: 8_000, users: 3, stamps: 4 };

fn user(name: &str) -> Username {
    name.parse().unwrap()
}

fn users(of: &[(&str, u32)]) -> Connections {
    of.iter().map(|(name, count)| (user(name), *count)).collect()
}

fn names(of: &[&str]) -> Vec<Username> {
    of.iter().map(|name| user(name)).collect()
}

fn node(name: &str) -> Node {
    name.parse().unwrap()
}

/// What came and went since the last look.
fn moves(state: &mut State) -> (Vec<Username>, Vec<Username>) {
    state.take_diff().map(|diff| (diff.joined, diff.left)).unwrap_or_default()
}

#[test]
fn a_user_with_two_tabs_is_online_until_the_last_one_closes() {
    let mut state = State::new(LIMITS);
    let lease = state.open(node("n1"), users(&[]), 0).unwrap();
    for (count, joined, left) in [(1, &["a"][..], &[][..]), (2, &[], &[]), (1, &[], &[]), (0, &[], &["a"])] {
        state.change(&lease, user("a"), count, 1).unwrap();
        assert_eq!(moves(&mut state), (names(joined), names(left)), "{count}");
    }
}

#[test]
fn a_user_on_two_nodes_is_online_until_both_are_gone() {
    let mut state = State::new(LIMITS);
    let first = state.open(node("n1"), users(&[("a", 1)]), 0).unwrap();
    let second = state.open(node("n2"), users(&[("a", 2), ("b", 1)]), 0).unwrap();
    assert_eq!(moves(&mut state), (names(&["a", "b"]), vec![]));
    assert!(state.close(&second));
    assert_eq!(moves(&mut state), (vec![], names(&["b"])));
    assert!(state.close(&first));
    assert_eq!(moves(&mut state), (vec![], names(&["a"])));
}

#[test]
fn a_later_stream_of_a_node_replaces_the_earlier_and_its_end_takes_nobody_away() {
    let mut state = State::new(LIMITS);
    let old = state.open(node("n1"), users(&[("a", 1), ("b", 1)]), 0).unwrap();
    moves(&mut state);
    let new = state.open(node("n1"), users(&[("b", 1), ("c", 1)]), 1).unwrap();
    assert_eq!(moves(&mut state), (names(&["c"]), names(&["a"])));
    assert!(!state.close(&old));
    assert!(matches!(state.change(&old, user("z"), 1, 2), Err(Error::Stale)));
    assert!(matches!(state.beat(&old, 2), Err(Error::Stale)));
    assert_eq!(state.take_diff(), None);
    assert!(state.close(&new));
    assert_eq!(moves(&mut state), (vec![], names(&["b", "c"])));
}

#[test]
fn a_snapshot_in_the_middle_replaces_the_nodes_truth() {
    let mut state = State::new(LIMITS);
    let lease = state.open(node("n1"), users(&[("a", 1), ("b", 3)]), 0).unwrap();
    moves(&mut state);
    state.replace(&lease, users(&[("b", 1), ("c", 1), ("d", 0)]), 1).unwrap();
    assert_eq!(moves(&mut state), (names(&["c"]), names(&["a"])));
}

#[test]
fn a_node_that_is_silent_for_the_lease_is_lost_with_its_users() {
    let mut state = State::new(LIMITS);
    let quiet = state.open(node("n1"), users(&[("a", 1)]), 0).unwrap();
    let alive = state.open(node("n2"), users(&[("b", 1)]), 0).unwrap();
    state.connected(user("c")).unwrap();
    moves(&mut state);
    state.beat(&alive, 14_000).unwrap();
    assert_eq!(state.sweep(14_999), []);
    assert_eq!(state.sweep(15_000), std::slice::from_ref(&quiet));
    assert_eq!(moves(&mut state), (vec![], names(&["a"])));
    assert!(matches!(state.beat(&quiet, 15_001), Err(Error::Stale)));
    assert_eq!(state.sweep(29_000), [alive]);
    assert_eq!(state.sweep(u64::MAX), [], "the calls without lease never expire");
    assert_eq!(state.online().collect::<Vec<_>>(), [&user("c")]);
}

#[test]
fn who_comes_and_goes_between_two_looks_was_never_there() {
    let mut state = State::new(LIMITS);
    let lease = state.open(node("n1"), users(&[("stays", 1)]), 0).unwrap();
    moves(&mut state);
    state.change(&lease, user("a"), 1, 1).unwrap();
    state.change(&lease, user("a"), 0, 2).unwrap();
    state.change(&lease, user("stays"), 0, 3).unwrap();
    state.change(&lease, user("stays"), 1, 4).unwrap();
    assert_eq!(state.take_diff(), None);
}

#[test]
fn counts_of_the_plain_calls_never_fall_below_none() {
    let mut state = State::new(LIMITS);
    for _ in 0..3 {
        state.disconnected(user("a")).unwrap();
    }
    state.connected(user("a")).unwrap();
    assert_eq!(moves(&mut state), (names(&["a"]), vec![]));
    state.disconnected(user("a")).unwrap();
    assert_eq!(moves(&mut state), (vec![], names(&["a"])));
}

#[test]
fn typing_expires_and_the_expiry_is_told() {
    let mut state = State::new(LIMITS);
    let lobby = RoomName::lobby();
    state.set_typing(user("b"), lobby.clone(), true, 0).unwrap();
    state.set_typing(user("a"), lobby.clone(), true, 100).unwrap();
    let typing = |state: &mut State| state.take_diff().map(|diff| diff.typing).unwrap_or_default();
    assert_eq!(typing(&mut state), [(lobby.clone(), names(&["a", "b"]))]);
    state.set_typing(user("b"), lobby.clone(), true, 4_000).unwrap();
    assert_eq!(typing(&mut state), [], "a renewal is no news");
    state.sweep(8_099);
    assert_eq!(typing(&mut state), []);
    state.sweep(8_100);
    assert_eq!(typing(&mut state), [(lobby.clone(), names(&["b"]))]);
    state.sweep(12_000);
    assert_eq!(typing(&mut state), [(lobby, vec![])]);
}

#[test]
fn typing_stops_when_told_and_start_and_stop_in_one_interval_is_nothing() {
    let mut state = State::new(LIMITS);
    let room: RoomName = "r".parse().unwrap();
    state.set_typing(user("a"), room.clone(), true, 0).unwrap();
    state.set_typing(user("a"), room.clone(), false, 1).unwrap();
    assert_eq!(state.take_diff(), None);
    state.set_typing(user("a"), room.clone(), true, 2).unwrap();
    state.take_diff();
    state.set_typing(user("a"), room.clone(), false, 3).unwrap();
    assert_eq!(state.take_diff().unwrap().typing, [(room, vec![])]);
}

#[test]
fn the_last_connection_of_a_user_takes_the_typing_along() {
    let mut state = State::new(LIMITS);
    let lease = state.open(node("n1"), users(&[("a", 2)]), 0).unwrap();
    state.set_typing(user("a"), RoomName::lobby(), true, 0).unwrap();
    state.take_diff();
    state.change(&lease, user("a"), 1, 1).unwrap();
    assert_eq!(state.take_diff(), None);
    state.change(&lease, user("a"), 0, 2).unwrap();
    let diff = state.take_diff().unwrap();
    assert_eq!((diff.left, diff.count, diff.typing), (names(&["a"]), 0, vec![(RoomName::lobby(), vec![])]));
}

#[test]
fn a_full_roster_refuses_one_more_and_keeps_what_it_has() {
    let mut state = State::new(LIMITS);
    let four = users(&[("a", 1), ("b", 1), ("c", 1), ("d", 1)]);
    assert!(matches!(state.open(node("n1"), four.clone(), 0), Err(Error::Full)));
    let lease = state.open(node("n1"), users(&[("a", 1), ("b", 1), ("c", 1)]), 0).unwrap();
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

/// One thing that can happen to the roster; names and nodes are small numbers so that they meet.
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
    Look,
}

fn step() -> impl Strategy<Value = Step> {
    let crowd = || prop::collection::vec((0..6u8, 0..3u32), 0..5);
    prop_oneof![
        (0..3u8, crowd()).prop_map(|(at, of)| Step::Open(at, of)),
        (0..3u8, crowd()).prop_map(|(at, of)| Step::Replace(at, of)),
        (0..3u8, 0..6u8, 0..3u32).prop_map(|(at, who, count)| Step::Change(at, who, count)),
        (0..3u8).prop_map(Step::Close),
        (0..6u8).prop_map(Step::Connected),
        (0..6u8).prop_map(Step::Disconnected),
        (0..6u8, 0..3u8, any::<bool>()).prop_map(|(who, room, on)| Step::Typing(who, room, on)),
        (0..20_000u64).prop_map(Step::Wait),
        Just(Step::Look),
    ]
}

/// A second, simpler roster: every node's counts as plain numbers, and what a listener made of the diffs.
#[derive(Default)]
struct Model {
    now: u64,
    /// Node (3 is the one without lease) -> when it was heard, its users.
    nodes: HashMap<u8, (u64, HashMap<u8, u32>)>,
    leases: HashMap<u8, Lease>,
    heard_online: BTreeSet<Username>,
    heard_typing: BTreeMap<RoomName, Vec<Username>>,
}

impl Model {
    fn online(&self) -> BTreeSet<Username> {
        let counts = self.nodes.values().flat_map(|(_, users)| users);
        counts.filter(|(_, count)| **count > 0).map(|(who, _)| user(&format!("u{who}"))).collect()
    }

    fn apply(&mut self, state: &mut State, step: Step) {
        let name = |who: u8| user(&format!("u{who}"));
        let crowd =
            |of: &[(u8, u32)]| of.iter().map(|(who, count)| (name(*who), *count)).collect::<Connections>();
        let now = self.now;
        match step {
            Step::Open(at, of) => {
                let lease = state.open(node(&format!("n{at}")), crowd(&of), now).unwrap();
                self.leases.insert(at, lease);
                self.nodes.insert(at, (now, of.into_iter().collect()));
            }
            Step::Replace(at, of) => {
                let Some(lease) = self.leases.get(&at) else { return };
                let held = state.replace(lease, crowd(&of), now).is_ok();
                assert_eq!(held, self.nodes.contains_key(&at));
                self.nodes.entry(at).and_modify(|node| *node = (now, of.into_iter().collect()));
            }
            Step::Change(at, who, count) => {
                let Some(lease) = self.leases.get(&at) else { return };
                let held = state.change(lease, name(who), count, now).is_ok();
                assert_eq!(held, self.nodes.contains_key(&at));
                if let Some((heard, users)) = self.nodes.get_mut(&at) {
                    *heard = now;
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
                self.nodes.retain(|at, (heard, _)| *at == 3 || now - *heard < 15_000);
            }
            Step::Look => self.listen(state),
        }
    }

    /// Takes the diff as a listener does, and compares what it makes of it with the truth.
    fn listen(&mut self, state: &mut State) {
        if let Some(diff) = state.take_diff() {
            assert!(diff.joined.is_sorted() && diff.left.is_sorted());
            for name in diff.joined {
                assert!(self.heard_online.insert(name), "joined twice");
            }
            for name in diff.left {
                assert!(self.heard_online.remove(&name), "left without having joined");
            }
            assert_eq!(diff.count, self.heard_online.len());
            for (room, typists) in diff.typing {
                assert!(typists.is_sorted());
                if typists.is_empty() {
                    assert!(self.heard_typing.remove(&room).is_some(), "stopped without having typed");
                } else {
                    assert_ne!(self.heard_typing.insert(room, typists.clone()), Some(typists), "no news");
                }
            }
        }
        assert_eq!(self.heard_online, state.online().cloned().collect());
        let typing = state.typing().map(|(room, users)| (room.clone(), users.into_iter().cloned().collect()));
        assert_eq!(self.heard_typing, typing.collect::<BTreeMap<_, Vec<_>>>());
    }
}

proptest! {
    #[test]
    fn diffs_replayed_equal_the_truth_after_any_history(steps in prop::collection::vec(step(), 0..80)) {
        let mut state = State::new(Limits { users: 100, stamps: 100, ..LIMITS });
        let mut model = Model::default();
        for step in steps {
            model.apply(&mut state, step);
            prop_assert_eq!(model.online(), state.online().cloned().collect());
        }
        model.listen(&mut state);
    }
}
