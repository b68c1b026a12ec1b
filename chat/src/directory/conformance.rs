//! The conformance suite of [`Directory`]. The tests of each backend run it on real stores.

mod decisions;
mod others;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use proto::{RoomName, Username};

use super::{Additions, Committed, Directory, Member, NewRoom, Role};
use crate::Error;
use others::{
    bounds_what_others_do_to_a_user, gives_the_names_of_ended_rooms_again, keeps_away_who_has_left,
};

/// Runs the suite. `fresh` returns an empty store and a guard that keeps it alive.
pub async fn run<Guard>(fresh: impl Fn() -> (Arc<dyn Directory>, Guard)) {
    has_a_lobby_that_nobody_changes(&*fresh().0).await;
    creates_a_room_once(&*fresh().0).await;
    adds_and_removes_members(&*fresh().0).await;
    knows_a_user_in_any_case(&*fresh().0).await;
    bounds_a_users_rooms(&*fresh().0).await;
    bounds_what_others_do_to_a_user(&*fresh().0).await;
    keeps_away_who_has_left(&*fresh().0).await;
    hands_ownership_to_the_oldest_member(&*fresh().0).await;
    archives_a_private_room_that_is_empty(&*fresh().0).await;
    forgets_an_archived_room_but_not_its_name(&*fresh().0).await;
    gives_the_names_of_ended_rooms_again(&*fresh().0).await;
    changes_privacy(&*fresh().0).await;
    tells_of_changes_only(&*fresh().0).await;
    decisions::checks_each_change_against_the_room_as_it_is(&*fresh().0).await;
}

const LIMIT: usize = 100;

fn room(name: &str) -> RoomName {
    name.parse().expect("tests use good names")
}

fn user(name: &str) -> Username {
    name.parse().expect("tests use good names")
}

fn nobody() -> Committed {
    Box::new(|| ())
}

fn new(name: &str, owner: &str, private: bool) -> NewRoom {
    NewRoom { name: room(name), owner: user(owner), private, ephemeral: false }
}

async fn create(directory: &dyn Directory, name: &str, owner: &str, private: bool) {
    directory.create(new(name, owner, private), LIMIT, nobody()).await.expect("creates");
}

async fn add(directory: &dyn Directory, name: &str, who: &str) -> Result<Vec<Member>, Error> {
    directory.add(&room(name), &user(who), LIMIT, nobody()).await
}

async fn remove(directory: &dyn Directory, name: &str, who: &str) -> Result<Vec<Member>, Error> {
    let entry = directory.find(&room(name)).await.expect("answers");
    let owner = entry.and_then(|entry| entry.room_info.owner).unwrap_or_else(|| user(who));
    directory.remove(&room(name), &user(who), &owner, nobody()).await
}

async fn names_of(directory: &dyn Directory, who: &str) -> Vec<String> {
    let room_infos = directory.rooms_of(&user(who)).await.expect("answers");
    room_infos.iter().map(|room_info| room_info.name.to_string()).collect()
}

fn spelled(members: &[Member]) -> Vec<(&str, Role)> {
    members.iter().map(|member| (member.username.as_str(), member.role)).collect()
}

async fn has_a_lobby_that_nobody_changes(directory: &dyn Directory) {
    assert_eq!(names_of(directory, "alice").await, ["lobby"]);
    let lobby = directory.find(&room("lobby")).await.expect("answers").expect("exists");
    assert_eq!((lobby.room_info.private, lobby.room_info.owner, lobby.members), (false, None, vec![]));
    assert_eq!(add(directory, "lobby", "alice").await, Ok(vec![]));
    assert_eq!(remove(directory, "lobby", "alice").await, Ok(vec![]));
    assert_eq!(directory.archive(&room("lobby"), &user("alice"), nobody()).await, Err(Error::NotFound));
    assert_eq!(
        directory.set_private(&room("lobby"), &user("alice"), true, nobody()).await,
        Err(Error::NotFound)
    );
    let taken = directory.create(new("lobby", "alice", false), LIMIT, nobody()).await;
    assert!(matches!(taken, Err(Error::Conflict(_))), "{taken:?}");
}

async fn creates_a_room_once(directory: &dyn Directory) {
    create(directory, "tea", "alice", true).await;
    let entry = directory.find(&room("tea")).await.expect("answers").expect("exists");
    assert_eq!(
        (entry.room_info.private, entry.room_info.ephemeral, entry.room_info.owner),
        (true, false, Some(user("alice")))
    );
    assert_eq!(spelled(&entry.members), [("alice", Role::Owner)]);
    let again = directory.create(new("tea", "bob", false), LIMIT, nobody()).await;
    assert!(matches!(again, Err(Error::Conflict(_))), "{again:?}");
    assert_eq!(names_of(directory, "bob").await, ["lobby"]);
    create(directory, "Tea", "bob", false).await;
    assert_eq!(directory.find(&room("coffee")).await, Ok(None));
}

async fn adds_and_removes_members(directory: &dyn Directory) {
    create(directory, "b", "alice", false).await;
    create(directory, "a", "bob", false).await;
    let members = add(directory, "b", "bob").await.expect("adds");
    assert_eq!(spelled(&members), [("alice", Role::Owner), ("bob", Role::Member)]);
    assert_eq!(names_of(directory, "bob").await, ["lobby", "a", "b"]);
    let owners: Vec<_> =
        directory.rooms_of(&user("bob")).await.expect("answers").into_iter().map(|c| c.owner).collect();
    assert_eq!(owners, [None, Some(user("bob")), Some(user("alice"))]);
    let members = remove(directory, "b", "bob").await.expect("removes");
    assert_eq!(spelled(&members), [("alice", Role::Owner)]);
    assert_eq!(names_of(directory, "bob").await, ["lobby", "a"]);
    assert_eq!(add(directory, "nowhere", "bob").await, Err(Error::NotFound));
    assert_eq!(remove(directory, "nowhere", "bob").await, Err(Error::NotFound));
}

async fn knows_a_user_in_any_case(directory: &dyn Directory) {
    create(directory, "tea", "Alice", false).await;
    let members = add(directory, "tea", "ALICE").await.expect("answers");
    assert_eq!(spelled(&members), [("Alice", Role::Owner)]);
    assert_eq!(names_of(directory, "alice").await, ["lobby", "tea"]);
    assert_eq!(remove(directory, "tea", "aLiCe").await, Ok(vec![]));
    assert_eq!(names_of(directory, "Alice").await, ["lobby"]);
}

async fn bounds_a_users_rooms(directory: &dyn Directory) {
    for name in ["r1", "r2", "r3"] {
        create(directory, name, "alice", false).await;
    }
    let bob = user("bob");
    for name in ["r1", "r2"] {
        directory.add(&room(name), &bob, 2, nobody()).await.expect("adds up to the limit");
    }
    let over = directory.add(&room("r3"), &bob, 2, nobody()).await;
    assert!(matches!(over, Err(Error::Forbidden(_))), "{over:?}");
    let over = directory.create(new("r4", "bob", false), 2, nobody()).await;
    assert!(matches!(over, Err(Error::Forbidden(_))), "{over:?}");
    assert!(directory.add(&room("r1"), &bob, 2, nobody()).await.is_ok(), "who is in it already may be");
    directory.archive(&room("r1"), &user("alice"), nobody()).await.expect("archives");
    directory.add(&room("r3"), &bob, 2, nobody()).await.expect("an archived room does not count");
}

async fn hands_ownership_to_the_oldest_member(directory: &dyn Directory) {
    create(directory, "tea", "alice", false).await;
    for name in ["zoe", "bob"] {
        add(directory, "tea", name).await.expect("adds");
    }
    let left = remove(directory, "tea", "alice").await.expect("removes");
    assert_eq!(spelled(&left), [("zoe", Role::Owner), ("bob", Role::Member)]);
    let entry = directory.find(&room("tea")).await.expect("answers").expect("exists");
    assert_eq!((entry.room_info.owner, entry.members), (Some(user("zoe")), left));
    for name in ["zoe", "bob"] {
        remove(directory, "tea", name).await.expect("removes");
    }
    assert_eq!(spelled(&add(directory, "tea", "carol").await.expect("adds")), [("carol", Role::Owner)]);
}

async fn archives_a_private_room_that_is_empty(directory: &dyn Directory) {
    create(directory, "den", "alice", true).await;
    assert_eq!(remove(directory, "den", "alice").await, Ok(vec![]));
    assert_eq!(directory.find(&room("den")).await, Ok(None));
    assert_eq!(add(directory, "den", "alice").await, Err(Error::NotFound));
}

async fn forgets_an_archived_room_but_not_its_name(directory: &dyn Directory) {
    create(directory, "tea", "alice", false).await;
    directory.archive(&room("tea"), &user("alice"), nobody()).await.expect("archives");
    assert_eq!(directory.find(&room("tea")).await, Ok(None));
    assert_eq!(names_of(directory, "alice").await, ["lobby"]);
    assert_eq!(add(directory, "tea", "bob").await, Err(Error::NotFound));
    assert_eq!(directory.archive(&room("tea"), &user("alice"), nobody()).await, Err(Error::NotFound));
    let again = directory.create(new("tea", "alice", false), LIMIT, nobody()).await;
    assert!(matches!(again, Err(Error::Conflict(_))), "{again:?}");
}

async fn changes_privacy(directory: &dyn Directory) {
    create(directory, "tea", "alice", false).await;
    for private in [true, false] {
        directory.set_private(&room("tea"), &user("alice"), private, nobody()).await.expect("changes");
        let entry = directory.find(&room("tea")).await.expect("answers").expect("exists");
        assert_eq!(entry.room_info.private, private);
    }
    assert_eq!(
        directory.set_private(&room("nowhere"), &user("alice"), true, nobody()).await,
        Err(Error::NotFound)
    );
}

async fn tells_of_changes_only(directory: &dyn Directory) {
    let told = Arc::new(AtomicUsize::new(0));
    let note = || -> Committed {
        let told = told.clone();
        Box::new(move || {
            told.fetch_add(1, Ordering::SeqCst);
        })
    };
    let tea = room("tea");
    directory.create(new("tea", "alice", false), LIMIT, note()).await.expect("creates");
    directory.add(&tea, &user("bob"), LIMIT, note()).await.expect("adds");
    assert_eq!(told.load(Ordering::SeqCst), 2);
    directory.add(&tea, &user("bob"), LIMIT, note()).await.expect("answers");
    directory.remove(&tea, &user("carol"), &user("alice"), note()).await.expect("answers");
    assert!(directory.create(new("tea", "alice", false), LIMIT, note()).await.is_err());
    assert_eq!(told.load(Ordering::SeqCst), 2, "nothing changed");
    directory.remove(&tea, &user("bob"), &user("alice"), note()).await.expect("removes");
    directory.archive(&tea, &user("alice"), note()).await.expect("archives");
    assert_eq!(told.load(Ordering::SeqCst), 4);
}
