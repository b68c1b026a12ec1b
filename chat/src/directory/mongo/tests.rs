//! Tests of [`MongoDirectory`] on a real MongoDB: the conformance suite, concurrent changes, lost answers, damaged documents.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{TryStreamExt, future::join_all};
use mongodb::{
    Client, Database,
    bson::{Document, doc, oid::ObjectId},
    options::ClientOptions,
};
use proto::{
    RoomName, Username,
    event::{Settings, SettingsPatch},
};
use testkit::Mongo;

use super::{
    MongoDirectory, change,
    members::of_room,
    of_user::{By, pending_of},
    resolve_unknown::Unanswered,
};
use crate::{
    Error,
    config::STORE_DEADLINE,
    directory::{Committed, Decision, Directory, NewRoom, Request, Role, conformance, shorthand::Shorthand},
};

mod changes;
mod members;
mod migrations;

const LIMIT: usize = 100;

async fn client(mongo: &Mongo) -> Client {
    let mut options = ClientOptions::parse(mongo.uri()).await.unwrap();
    options.server_selection_timeout = Some(Duration::from_secs(2));
    options.connect_timeout = Some(Duration::from_secs(2));
    options.heartbeat_freq = Some(Duration::from_secs(1));
    Client::with_options(options).unwrap()
}

async fn database(mongo: &Mongo) -> Database {
    client(mongo).await.default_database().unwrap()
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

/// Waits until `condition` is true.
async fn wait_until(condition: impl AsyncFn() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !condition().await {
        assert!(Instant::now() < until, "the condition did not become true within 30 s");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[actix_rt::test]
async fn passes_the_conformance_suite() {
    let mongo = Mongo::start().await;
    let client = client(&mongo).await;
    let number = AtomicU32::new(0);
    let fresh = || {
        let name = format!("suite{}", number.fetch_add(1, Ordering::Relaxed));
        (
            Arc::new(MongoDirectory::new(&client.database(&name)).without_reuse_delay())
                as Arc<dyn Directory>,
            (),
        )
    };
    conformance::run(fresh).await;
}

#[actix_rt::test]
async fn concurrent_changes_of_two_nodes_are_each_committed_once() {
    let mongo = Mongo::start().await;
    let nodes = [MongoDirectory::new(&database(&mongo).await), MongoDirectory::new(&database(&mongo).await)];
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

/// The callback runs even when the caller was cancelled.
#[actix_rt::test]
async fn change_completes_after_its_caller_was_cancelled() {
    let mongo = Mongo::start().await;
    let directory = MongoDirectory::new(&database(&mongo).await);
    let commits = Arc::new(AtomicU32::new(0));
    assert_eq!(directory.find(&room("tea")).await, Ok(None));
    let create = directory.create(new("tea", "alice"), LIMIT, count_commits(&commits));
    assert!(tokio::time::timeout(Duration::from_micros(1), create).await.is_err());
    wait_until(async || commits.load(Ordering::SeqCst) == 1).await;
    assert!(directory.find(&room("tea")).await.unwrap().is_some());
}

#[actix_rt::test]
async fn unknown_outcome_is_committed_if_written_and_invalidated_if_not() {
    let mongo = Mongo::start().await;
    let directory = MongoDirectory::new(&database(&mongo).await);
    let (tea, bob, commits) = (room("tea"), user("bob"), Arc::new(AtomicU32::new(0)));
    directory.create(new("tea", "alice"), LIMIT, no_callback()).await.unwrap();
    directory.add(&tea, &bob, LIMIT, no_callback()).await.unwrap();
    let version =
        async || directory.load(&tea, crate::mongo::deadline_now()).await.unwrap().unwrap().document.version;
    let remove = Request::Remove { user: bob.clone(), by: user("alice") };
    let decided = async || {
        let found = directory.find(&tea).await.unwrap().unwrap();
        remove.decide(&found).unwrap().expect("bob is a member")
    };
    let deadline = crate::mongo::deadline_now;
    let update = async |decision: &Decision| {
        change::update(decision, &directory.load(&tea, deadline()).await.unwrap().unwrap())
    };

    // The write to version 2 was sent and never arrives: the callback does not run, and the write can no longer apply.
    let (decision, attempt) = (decided().await, ObjectId::new());
    let never_arrived = update(&decision).await;
    let sent = || Unanswered { version: 2, attempt, decision: decision.clone() };
    directory.resolve_unknown(&tea, sent(), count_commits(&commits)).await;
    assert_eq!((commits.load(Ordering::SeqCst), version().await), (0, 3));
    let late = directory.write(&tea, 2, (&never_arrived, attempt, Some(&decision)), deadline()).await;
    assert_eq!(late, Ok(false));

    // The write was applied, and only its answer was lost. Another change was made since.
    let update = update(&decision).await;
    let written = directory.write(&tea, 3, (&update, attempt, Some(&decision)), deadline()).await;
    assert_eq!(written, Ok(true));
    directory.change_settings(&tea, &user("alice"), &set_private(true), no_callback()).await.unwrap();
    let sent = || Unanswered { version: 3, attempt, decision: decision.clone() };
    directory.resolve_unknown(&tea, sent(), count_commits(&commits)).await;
    assert_eq!((commits.load(Ordering::SeqCst), version().await), (1, 5));

    // Another write was applied to the version.
    let other = Unanswered { attempt: ObjectId::new(), ..sent() };
    directory.resolve_unknown(&tea, other, count_commits(&commits)).await;
    assert_eq!((commits.load(Ordering::SeqCst), version().await), (1, 5));
}

/// MongoDB answers reads and blocks writes until their callers have timed out.
#[actix_rt::test]
async fn outcome_of_an_unanswered_change_is_resolved_later() {
    let mongo = Mongo::start().await;
    let client = client(&mongo).await;
    let directory = MongoDirectory::new(&client.default_database().unwrap());
    let (tea, bob, commits) = (room("tea"), user("bob"), Arc::new(AtomicU32::new(0)));
    directory.create(new("tea", "alice"), LIMIT, no_callback()).await.unwrap();
    let admin = client.database("admin");
    admin.run_command(doc! { "fsync": 1, "lock": true }).await.unwrap();
    let started = Instant::now();
    let added = directory.add(&tea, &bob, LIMIT, count_commits(&commits)).await;
    assert!(matches!(added, Err(Error::Store(_))), "{added:?}");
    assert!(started.elapsed() < STORE_DEADLINE, "{:?}", started.elapsed());
    assert_eq!(commits.load(Ordering::SeqCst), 0);
    admin.run_command(doc! { "fsyncUnlock": 1 }).await.unwrap();
    // The change was applied or invalidated. Either increments the room's version.
    wait_until(async || {
        directory.load(&tea, crate::mongo::deadline_now()).await.unwrap().unwrap().document.version == 2
    })
    .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let is_member = directory.find(&tea).await.unwrap().unwrap().members.len() == 2;
    assert_eq!(commits.load(Ordering::SeqCst), u32::from(is_member));
}

#[actix_rt::test]
async fn frozen_mongodb_fails_within_the_deadline() {
    let mongo = Mongo::start().await;
    let directory = MongoDirectory::new(&database(&mongo).await);
    let tea = room("tea");
    directory.create(new("tea", "alice"), LIMIT, no_callback()).await.unwrap();
    mongo.pause();
    let (started, alice) = (Instant::now(), user("alice"));
    let patch = set_private(true);
    let (find, rooms, create, add, remove, private, archive) = tokio::join!(
        directory.find(&tea),
        directory.rooms_of(&alice),
        directory.create(new("milk", "bob"), LIMIT, no_callback()),
        directory.add(&tea, &alice, LIMIT, no_callback()),
        directory.remove(&tea, &alice, &alice, no_callback()),
        directory.change_settings(&tea, &alice, &patch, no_callback()),
        directory.archive(&tea, &alice, no_callback()),
    );
    let took = started.elapsed();
    assert!(took < STORE_DEADLINE, "{took:?}");
    let errors = [
        find.unwrap_err(),
        rooms.unwrap_err(),
        create.unwrap_err(),
        add.unwrap_err(),
        remove.unwrap_err(),
        private.unwrap_err(),
        archive.unwrap_err(),
    ];
    assert!(errors.iter().all(|error| matches!(error, Error::Store(_))), "{errors:?}");
    mongo.resume();
    wait_until(async || directory.find(&tea).await.is_ok_and(|found| found.is_some())).await;
}

#[actix_rt::test]
async fn damaged_document_is_an_error_and_unknown_field_is_ignored() {
    let mongo = Mongo::start().await;
    let database = database(&mongo).await;
    let directory = MongoDirectory::new(&database);
    let rooms = database.collection::<Document>("rooms");
    let members = database.collection::<Document>("members");
    let alice = |name: &str| {
        doc! { "_id": { "room": name, "key": "alice" }, "room": name, "username": "Alice", "key": "alice", "role": "owner",
        "place": 1_i64, "rev": 1_i64, "hat": "blue" }
    };
    let good = |name: &str| {
        doc! { "_id": name, "private": false, "ephemeral": true, "archived": false, "owner": "Alice", "count": 1_i64,
        "sum": 1_i64, "version": 1_i64, "applied": 1_i64, "topic": { "$gt": 1 } }
    };
    rooms.insert_one(good("tea")).await.unwrap();
    members.insert_one(alice("tea")).await.unwrap();
    let room_info = directory.find(&room("tea")).await.unwrap().unwrap().room_info;
    assert_eq!((room_info.settings.ephemeral, room_info.owner), (true, Some(user("Alice"))));
    directory.add(&room("tea"), &user("bob"), LIMIT, no_callback()).await.unwrap();
    let document = rooms.find_one(doc! { "_id": "tea" }).await.unwrap().unwrap();
    assert!(document.contains_key("topic"), "unknown fields are kept");
    let damages = [
        (doc! { "private": "yes" }, doc! {}),
        (doc! { "owner": "Bob" }, doc! {}),
        (doc! { "owner": 7 }, doc! {}),
        (doc! { "count": 2_i64 }, doc! {}),
        (doc! { "version": "one" }, doc! {}),
        (doc! { "version": 2_i64 }, doc! {}),
        (doc! {}, doc! { "username": "not a name" }),
        (doc! {}, doc! { "role": "king" }),
        (doc! {}, doc! { "role": "member" }),
        (doc! {}, doc! { "role": 7 }),
        (doc! {}, doc! { "rev": 2_i64 }),
        (doc! {}, doc! { "place": "first" }),
    ];
    for (of_room, of_member) in damages {
        rooms.delete_one(doc! { "_id": "bad" }).await.unwrap();
        members.delete_many(doc! { "room": "bad" }).await.unwrap();
        let (mut bad, mut owner) = (good("bad"), alice("bad"));
        bad.extend(of_room.clone());
        owner.extend(of_member.clone());
        rooms.insert_one(bad).await.unwrap();
        members.insert_one(owner).await.unwrap();
        let bad = room("bad");
        let found = directory.find(&bad).await.map(drop);
        let added = directory.add(&bad, &user("carol"), LIMIT, no_callback()).await.map(drop);
        for answer in [found, added] {
            assert!(
                matches!(&answer, Err(Error::Store(why)) if why.contains("damaged")),
                "{of_room} {of_member}: {answer:?}"
            );
        }
    }
    members.delete_many(doc! { "room": "bad" }).await.unwrap();
    rooms.delete_one(doc! { "_id": "bad" }).await.unwrap();
    rooms.insert_one(good("not a name")).await.unwrap();
    members.insert_one(alice("not a name")).await.unwrap();
    let listed = directory.rooms_of(&user("alice")).await;
    assert!(matches!(&listed, Err(Error::Store(why)) if why.contains("damaged")), "{listed:?}");
}

/// The members of a room, the rooms of a user, the additions by a user, and changes that are not applied.
#[actix_rt::test]
async fn members_are_found_by_indexes() {
    let mongo = Mongo::start().await;
    let database = database(&mongo).await;
    let directory = MongoDirectory::new(&database);
    directory.prepare().await.unwrap();
    let queries = [
        ("members", of_room(&room("tea"), 0), "of_room"),
        ("members", By::Key.filter("alice"), "of_user"),
        ("members", By::AdderKey.filter("alice"), "of_adder"),
        ("members", doc! { "room": "tea" }, "of_room"),
        ("rooms", pending_of("alice"), "pending"),
        ("rooms", doc! { "pending": { "$exists": true } }, "pending"),
    ];
    for (collection, filter, index) in queries {
        let find = doc! { "find": collection, "filter": filter.clone() };
        let explained =
            database.run_command(doc! { "explain": find, "verbosity": "queryPlanner" }).await.unwrap();
        let plan = explained.get_document("queryPlanner").unwrap().get_document("winningPlan").unwrap();
        let plan = plan.to_string();
        let is_used = plan.contains("IXSCAN") && plan.contains(&format!("\"{index}\""));
        assert!(is_used && !plan.contains("COLLSCAN"), "{filter}: {plan}");
    }
}

#[actix_rt::test]
async fn settings_of_earlier_and_later_releases_are_read_and_kept() {
    let mongo = Mongo::start().await;
    let database = database(&mongo).await;
    let directory = MongoDirectory::new(&database);
    let rooms = database.collection::<Document>("rooms");
    let (tea, alice) = (room("tea"), user("alice"));
    directory.create(new("tea", "alice"), LIMIT, no_callback()).await.unwrap();
    let settings = async || directory.find(&tea).await.unwrap().unwrap().room_info.settings;

    // The release before stores no subdocument.
    rooms.update_one(doc! { "_id": "tea" }, doc! { "$unset": { "settings": "" } }).await.unwrap();
    assert_eq!(settings().await, Settings::default());
    assert_eq!(directory.rooms_of(&alice).await.unwrap()[1].settings, Settings::default());
    directory.change_settings(&tea, &alice, &set_private(true), no_callback()).await.unwrap();
    assert!(settings().await.private);

    // A later release stores further settings.
    let later = doc! { "$set": { "settings.later": { "text": "x" } } };
    rooms.update_one(doc! { "_id": "tea" }, later).await.unwrap();
    directory.change_settings(&tea, &alice, &set_private(false), no_callback()).await.unwrap();
    assert!(!settings().await.private);
    let stored = rooms.find_one(doc! { "_id": "tea" }).await.unwrap().unwrap();
    assert_eq!(stored.get_document("settings").unwrap(), &doc! { "later": { "text": "x" } });
}
