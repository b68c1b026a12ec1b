//! The table against a simple model.

use std::collections::{BTreeSet, HashSet};

use proptest::prelude::*;

use super::*;

fn selected(table: &mut RoomTable<usize>, rooms: &[&str]) -> Vec<usize> {
    let rooms: Vec<Room> = rooms.iter().map(|room| Room::from(*room)).collect();
    let mut items = Vec::new();
    table.select(&rooms, |_, item| items.push(*item));
    items.sort_unstable();
    items
}

#[test]
fn a_selection_contains_each_member_once() {
    let mut table = RoomTable::default();
    let keys: Vec<usize> = (0..4).map(|item| table.add(item)).collect();
    for (key, room) in [(0, "a"), (1, "a"), (1, "b"), (2, "b")] {
        assert!(table.join(keys[key], &room.into()));
    }
    assert!(!table.join(keys[0], &"a".into()), "joined already");
    assert_eq!(selected(&mut table, &["a"]), [0, 1]);
    assert_eq!(selected(&mut table, &["a", "b"]), [0, 1, 2]);
    assert_eq!(selected(&mut table, &["nowhere"]), [0; 0]);
    assert_eq!(selected(&mut table, &[]), [0, 1, 2, 3]);
}

#[test]
fn a_selection_excludes_the_members_of_excepted_rooms() {
    let mut table = RoomTable::default();
    let keys: Vec<usize> = (0..4).map(|item| table.add(item)).collect();
    for (key, room) in [(0, "a"), (1, "a"), (1, "b"), (2, "b"), (2, "a")] {
        assert!(table.join(keys[key], &room.into()));
    }
    let named = |names: &[&str]| names.iter().map(|room| Room::from(*room)).collect::<Vec<_>>();
    let mut selected = |rooms: &[&str], except: &[&str]| {
        let mut items = Vec::new();
        table.select_except(&named(rooms), &named(except), |_, item| items.push(*item));
        items.sort_unstable();
        items
    };
    assert_eq!(selected(&["a"], &[]), [0, 1, 2]);
    assert_eq!(selected(&["a"], &["b"]), [0]);
    assert_eq!(selected(&["a", "b"], &["nowhere"]), [0, 1, 2]);
    assert_eq!(selected(&["a", "b"], &["b"]), [0]);
    assert_eq!(selected(&[], &["b"]), [0, 3]);
    assert_eq!(selected(&[], &["a", "b"]), [3]);
    let mut rooms = table.rooms_of(keys[2]);
    rooms.sort_unstable();
    assert_eq!(rooms, ["a".into(), "b".into()] as [Room; 2]);
}

#[test]
fn an_empty_room_is_removed() {
    let mut table = RoomTable::default();
    let key = table.add(());
    assert!(table.join(key, &"a".into()));
    assert_eq!(table.room_count(), 1);
    assert!(table.leave(key, &"a".into()));
    assert!(!table.leave(key, &"a".into()));
    assert_eq!(table.room_count(), 0);
}

#[derive(Debug, Clone)]
enum Step {
    Add,
    Remove(usize),
    Join(usize, u8),
    Leave(usize, u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => Just(Step::Add),
        1 => (0..12_usize).prop_map(Step::Remove),
        6 => (0..12_usize, 0..5_u8).prop_map(|(key, room)| Step::Join(key, room)),
        3 => (0..12_usize, 0..5_u8).prop_map(|(key, room)| Step::Leave(key, room)),
    ];
    prop::collection::vec(step, 0..120)
}

fn name(room: u8) -> Room {
    format!("r{room}").into()
}

proptest! {
    #[test]
    fn any_order_of_joins_and_leaves_agrees_with_a_simple_model(steps in steps()) {
        let mut table = RoomTable::default();
        let mut keys: Vec<usize> = Vec::new();
        let mut model: HashSet<(usize, u8)> = HashSet::new();
        let mut serial = 0;
        for step in steps {
            match step {
                Step::Add => {
                    let key = table.add(serial);
                    serial += 1;
                    keys.push(key);
                }
                Step::Remove(at) if at < keys.len() => {
                    let key = keys.swap_remove(at);
                    prop_assert!(table.remove(key).is_some());
                    model.retain(|(member, _)| *member != key);
                }
                Step::Join(at, room) if at < keys.len() => {
                    prop_assert_eq!(table.join(keys[at], &name(room)), model.insert((keys[at], room)));
                }
                Step::Leave(at, room) if at < keys.len() => {
                    prop_assert_eq!(table.leave(keys[at], &name(room)), model.remove(&(keys[at], room)));
                }
                _ => {}
            }
            for room in 0..5 {
                let mut members = BTreeSet::new();
                table.select(&[name(room)], |key, _| assert!(members.insert(key)));
                let want: BTreeSet<usize> = model.iter().filter(|(_, r)| *r == room).map(|(key, _)| *key).collect();
                prop_assert_eq!(members, want);
            }
        }
        prop_assert_eq!(table.len(), keys.len());
    }
}
