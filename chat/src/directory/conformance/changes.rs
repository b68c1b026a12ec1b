//! The change log of rooms: numbers without gaps, and what has changed after a number.

use std::sync::{Arc, Mutex};

use proto::event::{Item, ItemType};

use super::{
    Additions, Committed, Directory, Error, LIMIT, NewRoom, Role, Shorthand, add, create, new, no_callback,
    remove, room, set_private, settings, user,
};
use crate::directory::{ChangesSince, RoomChange};

const LIMITS: Additions = Additions { per_user: LIMIT, per_adder: LIMIT };

/// A short text for an item, with the user that made the change in live events.
fn text(item: &Item) -> String {
    let by = |by: &Option<proto::Username>| by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
    match item {
        Item::Member { member, by: actor } => {
            let role = match member.role {
                Some(Role::Owner) => "owner",
                Some(Role::Member) => "member",
                None => "out",
            };
            format!("{} {role}{}", member.username, by(actor))
        }
        Item::Room { settings: None, by: actor } => format!("ended{}", by(actor)),
        Item::Room { settings: Some(settings), by: actor } => {
            let owner = settings.owner.as_ref().map_or("-", |owner| owner.as_str());
            let private = if settings.settings.private { "private" } else { "public" };
            format!("{private} of {owner} with {}{}", settings.member_count, by(actor))
        }
    }
}

fn texts(items: &[Item]) -> Vec<String> {
    items.iter().map(text).collect()
}

/// What has changed after `rev`, as numbers and texts.
async fn since(directory: &dyn Directory, name: &str, rev: u64) -> Vec<(u64, Vec<String>)> {
    let found = directory.changes_since(&room(name), rev, &ItemType::ALL).await.expect("answers");
    let ChangesSince { changes, more, reset, .. } = found.expect("the room exists");
    assert!(!more && !reset, "{name} after {rev}");
    changes.iter().map(|(rev, items)| (*rev, texts(items))).collect()
}

pub async fn each_change_has_a_number_and_its_items(directory: &dyn Directory) {
    let committed: Arc<Mutex<Vec<RoomChange>>> = Arc::default();
    let record = || -> Committed {
        let committed = committed.clone();
        Box::new(move |change| committed.lock().expect("not poisoned").push(change))
    };
    let (tea, alice, bob, carol) = (room("tea"), user("alice"), user("bob"), user("carol"));
    directory.create(new("tea", "alice", false), LIMIT, record()).await.expect("creates");
    directory.add(&tea, &bob, LIMIT, record()).await.expect("joins");
    directory.add_by(&tea, &carol, &alice, LIMITS, record()).await.expect("adds");
    directory.add(&tea, &bob, LIMIT, record()).await.expect("is a member already");
    directory.change_settings(&tea, &alice, &set_private(true), record()).await.expect("changes");
    directory.leave(&tea, &alice, record()).await.expect("leaves");
    directory.remove(&tea, &carol, &bob, record()).await.expect("removes");
    directory.leave(&tea, &bob, record()).await.expect("leaves");
    let public = directory.create(new("open", "alice", false), LIMIT, record()).await.expect("creates");
    directory.archive(&public.name, &alice, record()).await.expect("archives");

    let committed = committed.lock().expect("not poisoned").clone();
    let found: Vec<_> =
        committed.iter().map(|change| (change.room.as_str(), change.rev, texts(&change.items))).collect();
    let expected: [(&str, u64, &[&str]); 9] = [
        ("tea", 1, &["public of alice with 1 by alice", "alice owner"]),
        ("tea", 2, &["bob member"]),
        ("tea", 3, &["carol member by alice"]),
        ("tea", 4, &["private of alice with 3 by alice"]),
        ("tea", 5, &["private of bob with 2 by alice", "alice out", "bob owner by alice"]),
        ("tea", 6, &["carol out by bob"]),
        ("tea", 7, &["ended by bob", "bob out"]),
        ("open", 1, &["public of alice with 1 by alice", "alice owner"]),
        ("open", 2, &["ended by alice"]),
    ];
    let expected: Vec<_> = expected
        .map(|(room, rev, items)| (room, rev, items.iter().map(ToString::to_string).collect::<Vec<_>>()))
        .into();
    assert_eq!(found, expected);
    assert_eq!(committed.last().map(|change| change.members.clone()), Some(vec![alice]));
    let gone = directory.changes_since(&tea, 0, &ItemType::ALL).await;
    assert_eq!(gone, Ok(None), "the room has ended");
}

pub async fn changed_parts_are_returned_once_in_their_present_state(directory: &dyn Directory) {
    create(directory, "tea", "alice", false).await;
    for name in ["bob", "carol"] {
        add(directory, "tea", name).await.expect("joins");
    }
    remove(directory, "tea", "BOB").await.expect("removes");
    add(directory, "tea", "bob").await.expect("joins");
    remove(directory, "tea", "carol").await.expect("removes");
    let record = directory.find(&room("tea")).await.expect("answers").expect("exists");
    assert_eq!(record.rev, 6);
    let part = |rev, items: &[&str]| (rev, items.iter().map(ToString::to_string).collect::<Vec<_>>());
    let all = [
        part(1, &["public of alice with 2", "alice owner"]),
        part(5, &["bob member"]),
        part(6, &["carol out"]),
    ];
    assert_eq!(since(directory, "tea", 0).await, all);
    assert_eq!(since(directory, "tea", 3).await, all[1..]);
    assert_eq!(since(directory, "tea", 6).await, []);
    let (tea, types) = (room("tea"), [ItemType::Room]);
    let only = directory.changes_since(&tea, 0, &types).await.expect("answers").expect("exists");
    assert_eq!((only.rev, only.changes.len()), (6, 1), "without members");
    assert_eq!(text(&only.changes[0].1[0]), "public of alice with 2");
    let future = directory.changes_since(&tea, 7, &types).await.expect("answers").expect("exists");
    assert_eq!(future, ChangesSince::reset(6));
    let lobby = directory.changes_since(&room("lobby"), 0, &types).await.expect("answers").expect("exists");
    assert_eq!((lobby.rev, lobby.changes.len(), lobby.reset), (0, 0, false));
    assert_eq!(directory.changes_since(&room("nowhere"), 0, &types).await, Ok(None));
}

/// More changes than a room's document keeps in MongoDB, and more items than one answer has.
pub async fn old_changes_are_kept(directory: &dyn Directory) {
    create(directory, "tea", "alice", false).await;
    let mut members = 1;
    for n in 0..150 {
        add(directory, "tea", &format!("user{n}")).await.expect("joins");
        members += 1;
    }
    for n in 0..50 {
        remove(directory, "tea", &format!("user{n}")).await.expect("removes");
        members -= 1;
    }
    let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
    let all = loop {
        let found = directory.changes_since(&room("tea"), 0, &ItemType::ALL).await.expect("answers");
        let found = found.expect("exists");
        // MongoDB copies old changes in the background.
        if !found.reset {
            break found;
        }
        assert!(std::time::Instant::now() < until, "the log is not complete");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    let items = all.changes.iter().flat_map(|(_, items)| items);
    let states: Vec<_> = items
        .filter_map(|item| match item {
            Item::Member { member, .. } => Some(member.role.is_some()),
            Item::Room { .. } => None,
        })
        .collect();
    assert_eq!((all.rev, states.len()), (201, 151), "each member once");
    assert_eq!(states.iter().filter(|is_member| **is_member).count(), members);
    assert!(all.changes.is_sorted_by_key(|(rev, _)| *rev));
    assert_eq!(since(directory, "tea", 200).await, [(201, vec!["user49 out".to_owned()])]);
}

pub async fn changes_of_an_earlier_room_are_not_returned(directory: &dyn Directory) {
    let ephemeral = |owner: &str| NewRoom { settings: settings(false, true), ..new("short", owner, false) };
    directory.create(ephemeral("alice"), LIMIT, no_callback()).await.expect("creates");
    add(directory, "short", "bob").await.expect("joins");
    directory.archive(&room("short"), &user("alice"), no_callback()).await.expect("archives");
    directory.create(ephemeral("carol"), LIMIT, no_callback()).await.expect("the name is free");
    add(directory, "short", "dave").await.expect("joins");
    for rev in 0..3 {
        let found = directory.changes_since(&room("short"), rev, &ItemType::ALL).await.expect("answers");
        assert_eq!(found, Some(ChangesSince::reset(5)), "{rev} is of the earlier room");
    }
    let later = since(directory, "short", 3).await;
    let expected = [(4, vec!["public of carol with 2".to_owned(), "carol owner".to_owned()])];
    assert_eq!(later[..1], expected);
    assert_eq!(later[1..], [(5, vec!["dave member".to_owned()])]);
    let refused = directory.remove(&room("short"), &user("dave"), &user("bob"), no_callback()).await;
    assert!(matches!(refused, Err(Error::Forbidden(_))), "{refused:?}");
}
