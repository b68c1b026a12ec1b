//! The conformance suite of [`Directory`]. The tests of each backend run it on real stores.

mod changes;
mod decisions;
mod others;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use proto::{
    RoomName, Username,
    event::{Settings, SettingsPatch},
};

use super::{Committed, Directory, Member, NewRoom, Role, shorthand::Shorthand};
use crate::Error;
use others::{additions_by_others_are_limited, departed_users_are_not_added_again};

/// Runs the suite. `fresh` returns an empty store and a guard that keeps it alive.
pub async fn run<Guard>(fresh: impl Fn() -> (Arc<dyn Directory>, Guard)) {
    lobby_exists_and_cannot_be_changed(&*fresh().0).await;
    room_is_created_once(&*fresh().0).await;
    members_are_added_and_removed(&*fresh().0).await;
    usernames_ignore_case(&*fresh().0).await;
    rooms_of_a_user_are_limited(&*fresh().0).await;
    additions_by_others_are_limited(&*fresh().0).await;
    departed_users_are_not_added_again(&*fresh().0).await;
    oldest_member_inherits_ownership(&*fresh().0).await;
    empty_private_room_is_archived(&*fresh().0).await;
    archived_room_is_absent_and_keeps_its_name(&*fresh().0).await;
    privacy_can_be_changed(&*fresh().0).await;
    callback_runs_for_changes_only(&*fresh().0).await;
    decisions::changes_are_checked_against_the_current_room(&*fresh().0).await;
    changes::each_change_has_a_number_and_its_items(&*fresh().0).await;
    changes::changed_parts_are_returned_once_in_their_present_state(&*fresh().0).await;
    changes::old_changes_are_returned_or_a_reset(&*fresh().0).await;
}

const LIMIT: usize = 100;

fn room(name: &str) -> RoomName {
    name.parse().expect("tests use good names")
}

fn user(name: &str) -> Username {
    name.parse().expect("tests use good names")
}

fn no_callback() -> Committed {
    Box::new(drop)
}

fn settings(private: bool, ephemeral: bool) -> Settings {
    Settings { private, ephemeral }
}

fn set_private(private: bool) -> SettingsPatch {
    SettingsPatch { private: Some(private) }
}

fn new(name: &str, owner: &str, private: bool) -> NewRoom {
    NewRoom { name: room(name), owner: user(owner), settings: settings(private, false) }
}

async fn create(directory: &dyn Directory, name: &str, owner: &str, private: bool) {
    directory.create(new(name, owner, private), LIMIT, no_callback()).await.expect("creates");
}

async fn add(directory: &dyn Directory, name: &str, user_name: &str) -> Result<Vec<Member>, Error> {
    directory.add(&room(name), &user(user_name), LIMIT, no_callback()).await
}

async fn remove(directory: &dyn Directory, name: &str, user_name: &str) -> Result<Vec<Member>, Error> {
    let record = directory.find(&room(name)).await.expect("answers");
    let owner = record.and_then(|record| record.room_info.owner).unwrap_or_else(|| user(user_name));
    directory.remove(&room(name), &user(user_name), &owner, no_callback()).await
}

async fn names_of(directory: &dyn Directory, user_name: &str) -> Vec<String> {
    let room_infos = directory.rooms_of(&user(user_name)).await.expect("answers");
    room_infos.iter().map(|room_info| room_info.name.to_string()).collect()
}

fn names_and_roles(members: &[Member]) -> Vec<(&str, Role)> {
    members.iter().map(|member| (member.username.as_str(), member.role)).collect()
}

async fn lobby_exists_and_cannot_be_changed(directory: &dyn Directory) {
    assert_eq!(names_of(directory, "alice").await, ["lobby"]);
    let lobby = directory.find(&room("lobby")).await.expect("answers").expect("exists");
    assert_eq!(
        (lobby.room_info.settings.private, lobby.room_info.owner, lobby.members),
        (false, None, vec![])
    );
    assert_eq!(add(directory, "lobby", "alice").await, Ok(vec![]));
    assert_eq!(remove(directory, "lobby", "alice").await, Ok(vec![]));
    assert_eq!(directory.archive(&room("lobby"), &user("alice"), no_callback()).await, Err(Error::NotFound));
    assert_eq!(
        directory.change_settings(&room("lobby"), &user("alice"), &set_private(true), no_callback()).await,
        Err(Error::NotFound)
    );
    let conflict = directory.create(new("lobby", "alice", false), LIMIT, no_callback()).await;
    assert!(matches!(conflict, Err(Error::Conflict(_))), "{conflict:?}");
}

async fn room_is_created_once(directory: &dyn Directory) {
    create(directory, "tea", "alice", true).await;
    let record = directory.find(&room("tea")).await.expect("answers").expect("exists");
    assert_eq!(
        (record.room_info.settings.private, record.room_info.settings.ephemeral, record.room_info.owner),
        (true, false, Some(user("alice")))
    );
    assert_eq!(names_and_roles(&record.members), [("alice", Role::Owner)]);
    let again = directory.create(new("tea", "bob", false), LIMIT, no_callback()).await;
    assert!(matches!(again, Err(Error::Conflict(_))), "{again:?}");
    assert_eq!(names_of(directory, "bob").await, ["lobby"]);
    create(directory, "Tea", "bob", false).await;
    assert_eq!(directory.find(&room("coffee")).await, Ok(None));
}

async fn members_are_added_and_removed(directory: &dyn Directory) {
    create(directory, "b", "alice", false).await;
    create(directory, "a", "bob", false).await;
    let members = add(directory, "b", "bob").await.expect("adds");
    assert_eq!(names_and_roles(&members), [("alice", Role::Owner), ("bob", Role::Member)]);
    assert_eq!(names_of(directory, "bob").await, ["lobby", "a", "b"]);
    let owners: Vec<_> =
        directory.rooms_of(&user("bob")).await.expect("answers").into_iter().map(|c| c.owner).collect();
    assert_eq!(owners, [None, Some(user("bob")), Some(user("alice"))]);
    let members = remove(directory, "b", "bob").await.expect("removes");
    assert_eq!(names_and_roles(&members), [("alice", Role::Owner)]);
    assert_eq!(names_of(directory, "bob").await, ["lobby", "a"]);
    assert_eq!(add(directory, "nowhere", "bob").await, Err(Error::NotFound));
    assert_eq!(remove(directory, "nowhere", "bob").await, Err(Error::NotFound));
}

async fn usernames_ignore_case(directory: &dyn Directory) {
    create(directory, "tea", "Alice", false).await;
    let members = add(directory, "tea", "ALICE").await.expect("answers");
    assert_eq!(names_and_roles(&members), [("Alice", Role::Owner)]);
    assert_eq!(names_of(directory, "alice").await, ["lobby", "tea"]);
    assert_eq!(remove(directory, "tea", "aLiCe").await, Ok(vec![]));
    assert_eq!(names_of(directory, "Alice").await, ["lobby"]);
}

async fn rooms_of_a_user_are_limited(directory: &dyn Directory) {
    for name in ["r1", "r2", "r3"] {
        create(directory, name, "alice", false).await;
    }
    let bob = user("bob");
    for name in ["r1", "r2"] {
        directory.add(&room(name), &bob, 2, no_callback()).await.expect("adds up to the limit");
    }
    let over = directory.add(&room("r3"), &bob, 2, no_callback()).await;
    assert!(matches!(over, Err(Error::Forbidden(_))), "{over:?}");
    let over = directory.create(new("r4", "bob", false), 2, no_callback()).await;
    assert!(matches!(over, Err(Error::Forbidden(_))), "{over:?}");
    assert!(directory.add(&room("r1"), &bob, 2, no_callback()).await.is_ok(), "the user is a member already");
    directory.archive(&room("r1"), &user("alice"), no_callback()).await.expect("archives");
    directory.add(&room("r3"), &bob, 2, no_callback()).await.expect("an archived room does not count");
}

async fn oldest_member_inherits_ownership(directory: &dyn Directory) {
    create(directory, "tea", "alice", false).await;
    for name in ["zoe", "bob"] {
        add(directory, "tea", name).await.expect("adds");
    }
    let left = remove(directory, "tea", "alice").await.expect("removes");
    assert_eq!(names_and_roles(&left), [("zoe", Role::Owner), ("bob", Role::Member)]);
    let record = directory.find(&room("tea")).await.expect("answers").expect("exists");
    assert_eq!((record.room_info.owner, record.members), (Some(user("zoe")), left));
    for name in ["zoe", "bob"] {
        remove(directory, "tea", name).await.expect("removes");
    }
    assert_eq!(
        names_and_roles(&add(directory, "tea", "carol").await.expect("adds")),
        [("carol", Role::Owner)]
    );
}

async fn empty_private_room_is_archived(directory: &dyn Directory) {
    create(directory, "den", "alice", true).await;
    assert_eq!(remove(directory, "den", "alice").await, Ok(vec![]));
    assert_eq!(directory.find(&room("den")).await, Ok(None));
    assert_eq!(add(directory, "den", "alice").await, Err(Error::NotFound));
    let again = directory.create(new("den", "alice", false), LIMIT, no_callback()).await;
    assert!(matches!(again, Err(Error::Conflict(_))), "{again:?}");
}

async fn archived_room_is_absent_and_keeps_its_name(directory: &dyn Directory) {
    create(directory, "tea", "alice", false).await;
    directory.archive(&room("tea"), &user("alice"), no_callback()).await.expect("archives");
    assert_eq!(directory.find(&room("tea")).await, Ok(None));
    assert_eq!(names_of(directory, "alice").await, ["lobby"]);
    assert_eq!(add(directory, "tea", "bob").await, Err(Error::NotFound));
    assert_eq!(directory.archive(&room("tea"), &user("alice"), no_callback()).await, Err(Error::NotFound));
    let again = directory.create(new("tea", "alice", false), LIMIT, no_callback()).await;
    assert!(matches!(again, Err(Error::Conflict(_))), "{again:?}");
}

async fn privacy_can_be_changed(directory: &dyn Directory) {
    create(directory, "tea", "alice", false).await;
    for private in [true, false] {
        directory
            .change_settings(&room("tea"), &user("alice"), &set_private(private), no_callback())
            .await
            .expect("changes");
        let record = directory.find(&room("tea")).await.expect("answers").expect("exists");
        assert_eq!(record.room_info.settings.private, private);
    }
    let nothing = SettingsPatch::default();
    directory.change_settings(&room("tea"), &user("alice"), &nothing, no_callback()).await.expect("answers");
    let record = directory.find(&room("tea")).await.expect("answers").expect("exists");
    assert_eq!(record.rev, 3, "a patch without fields is not a change");
    assert_eq!(
        directory.change_settings(&room("nowhere"), &user("alice"), &set_private(true), no_callback()).await,
        Err(Error::NotFound)
    );
}

async fn callback_runs_for_changes_only(directory: &dyn Directory) {
    let commits = Arc::new(AtomicUsize::new(0));
    let count_commits = || -> Committed {
        let commits = commits.clone();
        Box::new(move |_| {
            commits.fetch_add(1, Ordering::SeqCst);
        })
    };
    let tea = room("tea");
    directory.create(new("tea", "alice", false), LIMIT, count_commits()).await.expect("creates");
    directory.add(&tea, &user("bob"), LIMIT, count_commits()).await.expect("adds");
    assert_eq!(commits.load(Ordering::SeqCst), 2);
    directory.add(&tea, &user("bob"), LIMIT, count_commits()).await.expect("answers");
    directory.remove(&tea, &user("carol"), &user("alice"), count_commits()).await.expect("answers");
    assert!(directory.create(new("tea", "alice", false), LIMIT, count_commits()).await.is_err());
    assert_eq!(commits.load(Ordering::SeqCst), 2, "nothing changed");
    directory.remove(&tea, &user("bob"), &user("alice"), count_commits()).await.expect("removes");
    directory.archive(&tea, &user("alice"), count_commits()).await.expect("archives");
    assert_eq!(commits.load(Ordering::SeqCst), 4);
}
