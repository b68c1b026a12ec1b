//! The change log of rooms: numbers without gaps, and what has changed after a number.

use std::sync::{Arc, Mutex};

use proto::event::{Item, ItemType};

use super::{
    Committed, Directory, LIMIT, Role, Shorthand, add, create, new, remove, room, set_private, user,
};
use crate::directory::{ChangesSince, RoomChange};

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
    directory.add_by(&tea, &carol, &alice, LIMIT, record()).await.expect("adds");
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

/// A store that keeps the latest changes only answers an earlier number with a reset.
pub async fn old_changes_are_returned_or_a_reset(directory: &dyn Directory) {
    create(directory, "tea", "alice", false).await;
    for n in 0..80 {
        add(directory, "tea", &format!("user{n}")).await.expect("joins");
    }
    for n in 0..20 {
        remove(directory, "tea", &format!("user{n}")).await.expect("removes");
    }
    let found = directory.changes_since(&room("tea"), 0, &ItemType::ALL).await.expect("answers");
    let found = found.expect("exists");
    let items: Vec<&Item> = found.changes.iter().flat_map(|(_, items)| items).collect();
    let members = items.iter().filter(|item| item.member().is_some_and(|member| member.role.is_some()));
    if !found.reset {
        assert_eq!((items.len(), members.count()), (82, 61), "each part once");
    }
    assert!(found.changes.is_sorted_by_key(|(rev, _)| *rev) && found.rev == 101);
    assert_eq!(since(directory, "tea", 100).await, [(101, vec!["user19 out".to_owned()])]);
}
