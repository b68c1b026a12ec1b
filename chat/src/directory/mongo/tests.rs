//! Tests of [`MongoDirectory`] on a real MongoDB: the conformance suite, concurrent changes, indexes.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use futures_util::future::join_all;
use mongodb::bson::doc;
use proto::{
    RoomName, Username,
    event::{Settings, SettingsPatch},
};
use remote::{Deployment, mongo::Store};
use testkit::Mongo;

use super::MongoDirectory;
use crate::{
    Error,
    changes::Changes,
    directory::{ChangeKind, Committed, Directory, NewRoom, Role, conformance, shorthand::Shorthand},
};

const LIMIT: usize = 100;

async fn store(mongo: &Mongo) -> Store {
    Store::new(&mongo.uri(), &Deployment::default()).await.unwrap()
}

fn room(name: &str) -> RoomName {
    name.parse().unwrap()
}

fn user(name: &str) -> Username {
    name.parse().unwrap()
}

fn new(name: &str, owner: &str) -> NewRoom {
    NewRoom { name: room(name), owner: user(owner), settings: Settings::default() }
}

fn set_private(private: bool) -> SettingsPatch {
    SettingsPatch { private: Some(private) }
}

fn no_callback() -> Committed {
    Box::new(drop)
}

/// Counts its calls in `commits`.
fn count_commits(commits: &Arc<AtomicU32>) -> Committed {
    let commits = commits.clone();
    Box::new(move |_| {
        commits.fetch_add(1, Ordering::SeqCst);
    })
}

#[actix_rt::test]
async fn passes_the_conformance_suite() {
    let mongo = Mongo::start().await;
    let (store, number) = (store(&mongo).await, AtomicU32::new(0));
    let fresh = || {
        let deployment = format!("suite{}", number.fetch_add(1, Ordering::Relaxed)).parse().unwrap();
        let store = Store { deployment, ..store.clone() };
        (Arc::new(MongoDirectory::new(store)) as Arc<dyn Directory>, ())
    };
    conformance::run(fresh).await;
}

#[actix_rt::test]
async fn concurrent_changes_of_two_nodes_are_each_committed_once() {
    let mongo = Mongo::start().await;
    let nodes = [MongoDirectory::new(store(&mongo).await), MongoDirectory::new(store(&mongo).await)];
    nodes[0].prepare().await.unwrap();
    nodes[0].prepare().await.unwrap();
    let (tea, commits) = (room("tea"), Arc::new(AtomicU32::new(0)));
    let made =
        join_all((0..8).map(|n| nodes[n % 2].create(new("tea", "alice"), LIMIT, count_commits(&commits))))
            .await;
    assert_eq!(made.iter().filter(|made| made.is_ok()).count(), 1, "{made:?}");
    assert!(
        made.iter().filter_map(|made| made.as_ref().err()).all(|error| matches!(error, Error::Conflict(_)))
    );
    assert_eq!(commits.swap(0, Ordering::SeqCst), 1);

    let names: Vec<Username> = (0..8).map(|n| user(&format!("user{n}"))).collect();
    // Each user is added twice. Only the first addition is a change.
    let joins = (0..16).map(|n| nodes[n % 2].add(&tea, &names[n / 2], LIMIT, count_commits(&commits)));
    join_all(joins).await.into_iter().for_each(|joined| drop(joined.unwrap()));
    assert_eq!(commits.swap(0, Ordering::SeqCst), 8);
    let alice = user("Alice");
    let leaves = names.iter().skip(1).chain([&alice]).zip(0..);
    let left =
        join_all(leaves.map(|(name, n)| nodes[n % 2].leave(&tea, name, count_commits(&commits)))).await;
    left.into_iter().for_each(|left| drop(left.unwrap()));
    assert_eq!(commits.load(Ordering::SeqCst), 8);
    let record = nodes[0].find(&tea).await.unwrap().unwrap();
    let members: Vec<_> =
        record.members.iter().map(|member| (member.username.as_str(), member.role)).collect();
    assert_eq!(members, [("user0", Role::Owner)]);
}

/// Every change is in the room's document, with its version, for all nodes.
#[actix_rt::test]
async fn every_change_is_stored_for_all_nodes() {
    let mongo = Mongo::start().await;
    let store = store(&mongo).await;
    let (here, there) = (MongoDirectory::new(&store), MongoDirectory::new(&store));
    let tea = room("tea");
    here.create(new("tea", "Alice"), LIMIT, no_callback()).await.unwrap();
    there.add_by(&tea, &user("Bob"), &user("alice"), LIMIT, no_callback()).await.unwrap();
    there.leave(&tea, &user("bob"), no_callback()).await.unwrap();
    here.change_settings(&tea, &user("alice"), &set_private(true), no_callback()).await.unwrap();
    here.remove(&tea, &user("dave"), &user("alice"), no_callback()).await.unwrap();
    here.archive(&tea, &user("alice"), no_callback()).await.unwrap();
    let found = here.of(&[tea.clone(), room("absent")]).await.unwrap();
    let [changed] = &found[..] else { panic!("{found:?}") };
    assert_eq!((changed.is_open, changed.version), (false, 5));
    let stored: Vec<_> =
        changed.changes.iter().map(|change| (change.version, change.what.clone(), change.is_own)).collect();
    let expected = [
        (1, ChangeKind::Joined(user("Alice")), true),
        (2, ChangeKind::Joined(user("Bob")), false),
        (3, ChangeKind::Left(user("Bob")), false),
        (4, ChangeKind::Other, true),
        (5, ChangeKind::Archived, true),
    ];
    assert_eq!(stored, expected);
    let items: Vec<usize> = changed.changes.iter().map(|change| change.items.len()).collect();
    assert_eq!(items, [2, 1, 1, 1, 1]);
    assert_eq!(there.recent().await.unwrap(), [(tea.clone(), 5)]);
    assert_eq!(there.versions(std::slice::from_ref(&tea)).await.unwrap(), [(tea.clone(), 5)]);
    assert_eq!(there.members(&tea).await.unwrap(), [user("Alice")]);
}

#[actix_rt::test]
async fn rooms_and_recent_changes_are_found_by_indexes() {
    let mongo = Mongo::start().await;
    let store = store(&mongo).await;
    let directory = MongoDirectory::new(&store);
    directory.prepare().await.unwrap();
    directory.create(new("tea", "alice"), LIMIT, no_callback()).await.unwrap();
    for find in [
        doc! { "find": "rooms", "filter": super::rooms_with(&user("alice")) },
        doc! { "find": "rooms", "filter": super::changes::recent_filter(), "sort": { "changed": -1 } },
    ] {
        let plan = store.database.run_command(doc! { "explain": find }).await.unwrap().to_string();
        assert!(plan.contains("IXSCAN") && !plan.contains("COLLSCAN"), "{plan}");
    }
}
