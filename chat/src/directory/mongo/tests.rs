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
    bson::{Document, doc},
    options::ClientOptions,
};
use proto::{
    RoomName, Username,
    event::{Settings, SettingsPatch},
};
use testkit::Mongo;

use super::MongoDirectory;
use crate::{
    Error,
    config::STORE_DEADLINE,
    directory::{Committed, Directory, NewRoom, Role, conformance},
};

mod changes;
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

/// The callback runs also when the caller was cancelled.
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

/// Makes every commit fail in a way that leaves its outcome unknown. `None` ends this.
async fn fail_commits(client: &Client, how: Option<Document>) {
    let mut fault = doc! { "configureFailPoint": "failCommand", "mode": "off" };
    if let Some(how) = how {
        let mut data = doc! { "failCommands": ["commitTransaction"] };
        data.extend(how);
        fault.extend(doc! { "mode": "alwaysOn", "data": data });
    }
    client.database("admin").run_command(fault).await.unwrap();
}

/// A commit that does not reach MongoDB, and one whose answer is lost. The request fails, and the commit is repeated until it is answered.
#[actix_rt::test]
async fn an_unanswered_commit_is_repeated_after_the_request_has_failed() {
    let mongo = Mongo::start().await;
    let client = client(&mongo).await;
    let directory = MongoDirectory::new(&client.default_database().unwrap());
    let (tea, commits) = (room("tea"), Arc::new(AtomicU32::new(0)));
    directory.create(new("tea", "alice"), LIMIT, no_callback()).await.unwrap();
    let lost = doc! { "writeConcernError": { "code": 64, "errmsg": "waiting for replication timed out" } };
    for (name, fault) in [("bob", doc! { "closeConnection": true }), ("carol", lost)] {
        fail_commits(&client, Some(fault)).await;
        let added = directory.add(&tea, &user(name), LIMIT, count_commits(&commits)).await;
        assert!(matches!(added, Err(Error::Store(_))), "{name}: {added:?}");
        assert_eq!(commits.load(Ordering::SeqCst), 0, "{name}");
        fail_commits(&client, None).await;
        wait_until(async || commits.swap(0, Ordering::SeqCst) == 1).await;
        let members = directory.find(&tea).await.unwrap().unwrap().members;
        assert_eq!(members.iter().filter(|member| member.username == user(name)).count(), 1);
    }
    assert_eq!(directory.find(&tea).await.unwrap().unwrap().rev, 3);
}

/// The transaction of an unanswered commit is aborted, for example by another primary. The callback does not run, and the room can be
/// changed.
#[actix_rt::test]
async fn an_unanswered_commit_of_an_aborted_transaction_has_no_effect() {
    let mongo = Mongo::start().await;
    let client = client(&mongo).await;
    let directory = MongoDirectory::new(&client.default_database().unwrap());
    let (tea, commits) = (room("tea"), Arc::new(AtomicU32::new(0)));
    directory.create(new("tea", "alice"), LIMIT, no_callback()).await.unwrap();
    fail_commits(&client, Some(doc! { "closeConnection": true })).await;
    let added = directory.add(&tea, &user("bob"), LIMIT, count_commits(&commits)).await;
    assert!(matches!(added, Err(Error::Store(_))), "{added:?}");
    client.database("admin").run_command(doc! { "killAllSessions": [] }).await.unwrap();
    fail_commits(&client, None).await;
    wait_until(async || directory.add(&tea, &user("carol"), LIMIT, no_callback()).await.is_ok()).await;
    let record = directory.find(&tea).await.unwrap().unwrap();
    assert_eq!((record.rev, record.members.len()), (2, 2), "{record:?}");
    assert_eq!(commits.load(Ordering::SeqCst), 0);
}

/// MongoDB answers reads and blocks writes until their callers have timed out. The request fails, and nothing is written later.
#[actix_rt::test]
async fn a_change_that_is_not_answered_before_its_commit_has_no_effect() {
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
    admin.run_command(doc! { "fsyncUnlock": 1 }).await.unwrap();
    wait_until(async || directory.add(&tea, &user("carol"), LIMIT, no_callback()).await.is_ok()).await;
    let record = directory.find(&tea).await.unwrap().unwrap();
    assert_eq!((record.rev, record.members.len()), (2, 2), "{record:?}");
    assert_eq!(commits.load(Ordering::SeqCst), 0);
}

/// A refused request writes nothing: neither the room, nor members, nor rows of the change log.
#[actix_rt::test]
async fn refused_changes_write_nothing() {
    let mongo = Mongo::start().await;
    let database = database(&mongo).await;
    let directory = MongoDirectory::new(&database);
    directory.prepare().await.unwrap();
    directory.create(new("tea", "alice"), LIMIT, no_callback()).await.unwrap();
    directory.add(&room("tea"), &user("bob"), LIMIT, no_callback()).await.unwrap();
    let all = async || {
        let mut all = vec![];
        for name in ["rooms", "members", "changes"] {
            let found = database.collection::<Document>(name).find(doc! {}).sort(doc! { "_id": 1 }).await;
            all.push(found.unwrap().try_collect::<Vec<_>>().await.unwrap());
        }
        all
    };
    let before = all().await;
    let (tea, bob, carol) = (room("tea"), user("bob"), user("carol"));
    assert!(directory.remove(&tea, &carol, &bob, no_callback()).await.is_err());
    assert!(directory.archive(&tea, &bob, no_callback()).await.is_err());
    assert!(directory.change_settings(&tea, &bob, &set_private(true), no_callback()).await.is_err());
    assert!(directory.add(&tea, &carol, 0, no_callback()).await.is_err());
    assert!(directory.create(new("tea", "carol"), LIMIT, no_callback()).await.is_err());
    directory.leave(&tea, &carol, no_callback()).await.unwrap();
    assert_eq!(all().await, before);
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
    let alice = |room: &str| {
        let id = doc! { "room": room, "key": "alice" };
        doc! { "_id": id, "username": "Alice", "role": "owner", "since": 1_i64, "hat": "blue" }
    };
    let good = |name: &str| {
        doc! { "_id": name, "private": false, "ephemeral": true, "archived": false, "owner": "Alice", "member_count": 1_i64,
        "rev": 1_i64, "log": { "rows": 0_i64, "sum": 0_i64 }, "topic": { "$gt": 1 } }
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
        (doc! { "member_count": "one" }, doc! {}),
        (doc! { "owner": 7 }, doc! {}),
        (doc! {}, doc! { "username": "not a name" }),
        (doc! {}, doc! { "role": "king" }),
        (doc! { "rev": "one" }, doc! {}),
    ];
    for damage in damages {
        rooms.delete_one(doc! { "_id": "bad" }).await.unwrap();
        members.delete_one(doc! { "_id.room": "bad" }).await.unwrap();
        let (mut bad, mut owner) = (good("bad"), alice("bad"));
        bad.extend(damage.0.clone());
        owner.extend(damage.1.clone());
        rooms.insert_one(bad).await.unwrap();
        members.insert_one(owner).await.unwrap();
        let bad = room("bad");
        let found = directory.find(&bad).await.map(drop);
        let added = directory.add(&bad, &user("carol"), LIMIT, no_callback()).await.map(drop);
        for answer in [found, added] {
            assert!(
                matches!(&answer, Err(Error::Store(why)) if why.contains("damaged")),
                "{damage:?}: {answer:?}"
            );
        }
    }
    rooms.delete_one(doc! { "_id": "bad" }).await.unwrap();
    rooms.insert_one(good("not a name")).await.unwrap();
    members.insert_one(alice("not a name")).await.unwrap();
    let listed = directory.rooms_of(&user("alice")).await;
    assert!(matches!(&listed, Err(Error::Store(why)) if why.contains("damaged")), "{listed:?}");
}

/// The collection of members or of rooms is changed, restored or dropped alone.
#[actix_rt::test]
async fn a_room_without_the_members_that_it_states_is_unavailable() {
    let mongo = Mongo::start().await;
    let database = database(&mongo).await;
    let directory = MongoDirectory::new(&database);
    directory.prepare().await.unwrap();
    let (tea, bob) = (room("tea"), user("bob"));
    directory.create(new("tea", "alice"), LIMIT, no_callback()).await.unwrap();
    directory.add(&tea, &bob, LIMIT, no_callback()).await.unwrap();
    let members = database.collection::<Document>("members");
    let stored: Vec<Document> = members.find(doc! {}).await.unwrap().try_collect().await.unwrap();
    let is_of = |key: &str| doc! { "_id.key": key };
    let owner = |role: &str| doc! { "$set": { "role": role } };
    for loss in ["a member", "another owner", "two owners", "all", "one more"] {
        match loss {
            "a member" => drop(members.delete_one(is_of("bob")).await.unwrap()),
            "another owner" => {
                members.update_one(is_of("bob"), owner("owner")).await.unwrap();
                members.update_one(is_of("alice"), owner("member")).await.unwrap();
            }
            "two owners" => drop(members.update_one(is_of("bob"), owner("owner")).await.unwrap()),
            "all" => members.drop().await.unwrap(),
            _ => {
                let mut carol = stored[1].clone();
                carol.extend(doc! { "_id": { "room": "tea", "key": "carol" }, "username": "carol" });
                members.insert_one(carol).await.unwrap();
            }
        }
        let found = directory.find(&tea).await.map(drop);
        let left = directory.leave(&tea, &bob, no_callback()).await.map(drop);
        let since = directory.changes_since(&tea, 0, &proto::event::ItemType::ALL).await.map(drop);
        for answer in [found, left, since] {
            let Err(Error::Store(why)) = &answer else { panic!("{loss}: {answer:?}") };
            assert!(why.contains("the members of the room tea are") && why.contains("restore both"), "{why}");
        }
        members.delete_many(doc! {}).await.unwrap();
        members.insert_many(&stored).await.unwrap();
        assert_eq!(directory.find(&tea).await.unwrap().unwrap().members.len(), 2, "{loss}");
    }
}

#[actix_rt::test]
async fn members_and_the_rooms_of_a_user_are_found_by_indexes() {
    let mongo = Mongo::start().await;
    let database = database(&mongo).await;
    let directory = MongoDirectory::new(&database);
    directory.prepare().await.unwrap();
    for (filter, sort) in [
        (doc! { "_id.key": "alice" }, doc! {}),
        (doc! { "_id.key": "alice", "by_key": null }, doc! {}),
        (doc! { "by_key": "alice" }, doc! {}),
        (doc! { "_id.room": "tea" }, doc! { "_id.room": 1, "since": 1, "_id.key": 1 }),
    ] {
        let find = doc! { "find": "members", "filter": filter, "sort": sort };
        let explained =
            database.run_command(doc! { "explain": find, "verbosity": "queryPlanner" }).await.unwrap();
        let plan =
            explained.get_document("queryPlanner").unwrap().get_document("winningPlan").unwrap().to_string();
        assert!(plan.contains("IXSCAN") && !plan.contains("SORT"), "{plan}");
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

/// Readers get the room, its members and its changes of one moment while other nodes change them, without gaps.
#[actix_rt::test]
async fn reads_are_of_one_moment_while_the_room_changes() {
    let mongo = Mongo::start().await;
    let database = database(&mongo).await;
    let (reader, writer) = (MongoDirectory::new(&database), MongoDirectory::new(&database));
    let tea = room("tea");
    writer.prepare().await.unwrap();
    writer.create(new("tea", "alice"), LIMIT, no_callback()).await.unwrap();
    let write = async {
        for n in 0..100 {
            let name = user(&format!("user{n}"));
            writer.add(&tea, &name, LIMIT, no_callback()).await.unwrap();
            if n % 2 == 0 {
                writer.leave(&tea, &name, no_callback()).await.unwrap();
            }
        }
    };
    let (mut reads, mut revs) = (0, vec![]);
    let read = async {
        loop {
            let record = reader.find(&tea).await.unwrap().expect("the room exists");
            // Each change adds a member, or removes one of those that were added last.
            revs.push(record.rev);
            let since = reader.changes_since(&tea, 0, &proto::event::ItemType::ALL).await.unwrap();
            assert!(!since.expect("the room exists").reset);
            reads += 1;
        }
    };
    futures_util::future::select(Box::pin(write), Box::pin(read)).await;
    assert!(reads > 10 && revs.is_sorted(), "{reads}");
}

/// Latency of changes of members: one after the other, and by 3 nodes with 8 tasks each in one room.
#[actix_rt::test]
#[ignore = "a measurement"]
async fn latency_of_changes() {
    let mongo = Mongo::start().await;
    let mut nodes = vec![];
    for _ in 0..3 {
        nodes.push(MongoDirectory::new(&database(&mongo).await));
    }
    nodes[0].prepare().await.unwrap();
    let report = |what: &str, mut took: Vec<Duration>, all: Duration| {
        took.sort();
        let at = |part: usize| took[(took.len() - 1) * part / 100];
        println!(
            "{what}: {} changes in {all:?}, p50 {:?}, p90 {:?}, p99 {:?}, max {:?}",
            took.len(),
            at(50),
            at(90),
            at(99),
            at(100)
        );
    };
    for size in [1, 200, 2_000] {
        let name = format!("seq{size}");
        let tea = room(&name);
        nodes[0].create(new(&name, "alice"), LIMIT, no_callback()).await.unwrap();
        for n in 1..size {
            nodes[0].add(&tea, &user(&format!("m{n}")), LIMIT, no_callback()).await.unwrap();
        }
        let (mut took, begun) = (vec![], Instant::now());
        for n in 0..200 {
            let at = Instant::now();
            nodes[n % 3].add(&tea, &user("bob"), LIMIT, no_callback()).await.unwrap();
            took.push(at.elapsed());
            let at = Instant::now();
            nodes[n % 3].leave(&tea, &user("bob"), no_callback()).await.unwrap();
            took.push(at.elapsed());
        }
        report(&format!("one after the other, {size} members"), took, begun.elapsed());
    }
    for tasks in [1, 2, 8] {
        let name = format!("many{tasks}");
        let tea = room(&name);
        nodes[0].create(new(&name, "alice"), LIMIT, no_callback()).await.unwrap();
        let begun = Instant::now();
        let all = join_all((0..3 * tasks).map(|task| {
            let (node, tea) = (&nodes[task % 3], &tea);
            async move {
                let (name, mut took, mut refused) = (user(&format!("user{task}")), vec![], 0);
                for _ in 0..20 {
                    let at = Instant::now();
                    refused += u32::from(node.add(tea, &name, LIMIT, no_callback()).await.is_err());
                    took.push(at.elapsed());
                    let at = Instant::now();
                    refused += u32::from(node.leave(tea, &name, no_callback()).await.is_err());
                    took.push(at.elapsed());
                }
                (took, refused)
            }
        }))
        .await;
        let refused: u32 = all.iter().map(|(_, refused)| refused).sum();
        let took: Vec<Duration> = all.into_iter().flat_map(|(took, _)| took).collect();
        report(&format!("3 nodes, {tasks} tasks each, one room, {refused} refused"), took, begun.elapsed());
    }
}
