//! Rooms in a real MongoDB: the suite that every backend passes, changes side by side, lost answers, damaged documents.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use mongodb::{
    Client, Database,
    bson::{Document, doc},
    options::ClientOptions,
};
use proto::{RoomName, Username};
use testkit::Mongo;

use super::{MongoDirectory, Noted};
use crate::{
    Error,
    config::STORE_DEADLINE,
    directory::{Committed, Directory, NewRoom, Role, conformance},
};

mod changes;

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
    NewRoom { name: room(name), owner: user(owner), private: false, ephemeral: false }
}

fn nobody() -> Committed {
    Box::new(|| ())
}

/// Counts in `heard`.
fn note(heard: &Arc<AtomicU32>) -> Committed {
    let heard = heard.clone();
    Box::new(move || {
        heard.fetch_add(1, Ordering::SeqCst);
    })
}

/// Waits until it is so.
async fn becomes(so: impl AsyncFn() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !so().await {
        assert!(Instant::now() < until, "it never was so");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[actix_rt::test]
async fn keeps_what_every_directory_promises() {
    let mongo = Mongo::start().await;
    let client = client(&mongo).await;
    let number = AtomicU32::new(0);
    let fresh = || {
        let name = format!("law{}", number.fetch_add(1, Ordering::Relaxed));
        (Arc::new(MongoDirectory::new(&client.database(&name)).without_quiet()) as Arc<dyn Directory>, ())
    };
    conformance::run(fresh).await;
}

#[actix_rt::test]
async fn changes_from_two_nodes_at_once_are_all_made_and_told_once() {
    let mongo = Mongo::start().await;
    let nodes = [MongoDirectory::new(&database(&mongo).await), MongoDirectory::new(&database(&mongo).await)];
    nodes[0].prepare().await.unwrap();
    nodes[0].prepare().await.unwrap();
    let (tea, heard) = (room("tea"), Arc::new(AtomicU32::new(0)));
    let made = join_all((0..8).map(|n| nodes[n % 2].create(new("tea", "alice"), LIMIT, note(&heard)))).await;
    assert_eq!(made.iter().filter(|made| made.is_ok()).count(), 1, "{made:?}");
    assert!(
        made.iter().filter_map(|made| made.as_ref().err()).all(|error| matches!(error, Error::Conflict(_)))
    );
    assert_eq!(heard.swap(0, Ordering::SeqCst), 1);

    let names: Vec<Username> = (0..8).map(|n| user(&format!("user{n}"))).collect();
    // Each twice: once it is a change, once it is none.
    let joins = (0..16).map(|n| nodes[n % 2].add(&tea, &names[n / 2], LIMIT, note(&heard)));
    join_all(joins).await.into_iter().for_each(|joined| drop(joined.unwrap()));
    assert_eq!(heard.swap(0, Ordering::SeqCst), 8);
    let alice = user("Alice");
    let leaves = names.iter().skip(1).chain([&alice]).zip(0..);
    let left = join_all(leaves.map(|(name, n)| nodes[n % 2].leave(&tea, name, note(&heard)))).await;
    left.into_iter().for_each(|left| drop(left.unwrap()));
    assert_eq!(heard.load(Ordering::SeqCst), 8);
    let entry = nodes[0].find(&tea).await.unwrap().unwrap();
    let members: Vec<_> =
        entry.members.iter().map(|member| (member.username.as_str(), member.role)).collect();
    assert_eq!(members, [("user0", Role::Owner)]);
}

/// Whoever asked is gone; the room hears of it all the same.
#[actix_rt::test]
async fn a_change_goes_on_without_whoever_asked_for_it() {
    let mongo = Mongo::start().await;
    let directory = MongoDirectory::new(&database(&mongo).await);
    let heard = Arc::new(AtomicU32::new(0));
    assert_eq!(directory.find(&room("tea")).await, Ok(None));
    let create = directory.create(new("tea", "alice"), LIMIT, note(&heard));
    assert!(tokio::time::timeout(Duration::from_micros(1), create).await.is_err());
    becomes(async || heard.load(Ordering::SeqCst) == 1).await;
    assert!(directory.find(&room("tea")).await.unwrap().is_some());
}

#[actix_rt::test]
async fn a_change_whose_answer_was_lost_is_told_if_it_was_made_and_never_made_if_not() {
    let mongo = Mongo::start().await;
    let directory = MongoDirectory::new(&database(&mongo).await);
    let (tea, bob, heard) = (room("tea"), user("bob"), Arc::new(AtomicU32::new(0)));
    directory.create(new("tea", "alice"), LIMIT, nobody()).await.unwrap();
    directory.add(&tea, &bob, LIMIT, nobody()).await.unwrap();
    let version =
        async || directory.stored(&tea, crate::mongo::deadline_now()).await.unwrap().unwrap().version;
    let remove = super::Change::Remove { user: bob.clone(), by: user("alice") };

    // The write was sent from version 2 and will never arrive: nothing is told, and it cannot be made any more.
    directory.settle(&tea, 2, &remove, note(&heard)).await;
    assert_eq!((heard.load(Ordering::SeqCst), version().await), (0, 3));
    let (update, _) = remove.on(false, directory.find(&tea).await.unwrap().unwrap().members).unwrap();
    assert_eq!(
        directory.write(&tea, 2, (update.clone(), Noted::Other), crate::mongo::deadline_now()).await,
        Ok(false)
    );

    // It was made, and only its answer was lost.
    assert_eq!(
        directory.write(&tea, 3, (update, Noted::Other), crate::mongo::deadline_now()).await,
        Ok(true)
    );
    directory.settle(&tea, 3, &remove, note(&heard)).await;
    assert_eq!((heard.load(Ordering::SeqCst), version().await), (1, 4));
}

/// MongoDB answers reads and holds up writes until nobody waits for them any more.
#[actix_rt::test]
async fn what_became_of_a_change_without_an_answer_is_told_later() {
    let mongo = Mongo::start().await;
    let client = client(&mongo).await;
    let directory = MongoDirectory::new(&client.default_database().unwrap());
    let (tea, bob, heard) = (room("tea"), user("bob"), Arc::new(AtomicU32::new(0)));
    directory.create(new("tea", "alice"), LIMIT, nobody()).await.unwrap();
    let admin = client.database("admin");
    admin.run_command(doc! { "fsync": 1, "lock": true }).await.unwrap();
    let started = Instant::now();
    let added = directory.add(&tea, &bob, LIMIT, note(&heard)).await;
    assert!(matches!(added, Err(Error::Store(_))), "{added:?}");
    assert!(started.elapsed() < STORE_DEADLINE, "{:?}", started.elapsed());
    assert_eq!(heard.load(Ordering::SeqCst), 0);
    admin.run_command(doc! { "fsyncUnlock": 1 }).await.unwrap();
    // Made after all, or made impossible: either takes the room to its next version.
    becomes(async || {
        directory.stored(&tea, crate::mongo::deadline_now()).await.unwrap().unwrap().version == 2
    })
    .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let is_in = directory.find(&tea).await.unwrap().unwrap().members.len() == 2;
    assert_eq!(heard.load(Ordering::SeqCst), u32::from(is_in));
}

#[actix_rt::test]
async fn a_frozen_mongodb_is_an_error_in_time() {
    let mongo = Mongo::start().await;
    let directory = MongoDirectory::new(&database(&mongo).await);
    let tea = room("tea");
    directory.create(new("tea", "alice"), LIMIT, nobody()).await.unwrap();
    mongo.pause();
    let (started, alice) = (Instant::now(), user("alice"));
    let (find, rooms, create, add, remove, private, archive) = tokio::join!(
        directory.find(&tea),
        directory.rooms_of(&alice),
        directory.create(new("milk", "bob"), LIMIT, nobody()),
        directory.add(&tea, &alice, LIMIT, nobody()),
        directory.remove(&tea, &alice, &alice, nobody()),
        directory.set_private(&tea, &alice, true, nobody()),
        directory.archive(&tea, &alice, nobody()),
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
    becomes(async || directory.find(&tea).await.is_ok_and(|found| found.is_some())).await;
}

#[actix_rt::test]
async fn a_damaged_document_is_an_error_with_words_and_an_unknown_field_is_none() {
    let mongo = Mongo::start().await;
    let database = database(&mongo).await;
    let directory = MongoDirectory::new(&database);
    let rooms = database.collection::<Document>("rooms");
    let alice = || doc! { "username": "Alice", "key": "alice", "role": "owner", "hat": "blue" };
    let good = |name: &str| {
        doc! { "_id": name, "private": false, "ephemeral": true, "archived": false, "members": [alice()],
        "version": 1_i64, "topic": { "$gt": 1 } }
    };
    rooms.insert_one(good("tea")).await.unwrap();
    let room_info = directory.find(&room("tea")).await.unwrap().unwrap().room_info;
    assert_eq!((room_info.ephemeral, room_info.owner), (true, Some(user("Alice"))));
    directory.add(&room("tea"), &user("bob"), LIMIT, nobody()).await.unwrap();
    let kept = rooms.find_one(doc! { "_id": "tea" }).await.unwrap().unwrap();
    assert!(kept.contains_key("topic"), "what somebody else keeps there stays");
    let damages = [
        doc! { "private": "yes" },
        doc! { "members": "alice" },
        doc! { "members": [{ "username": "not a name", "key": "x", "role": "owner" }] },
        doc! { "members": [{ "username": "alice", "key": "alice", "role": "king" }] },
        doc! { "version": "one" },
    ];
    for damage in damages {
        rooms.delete_one(doc! { "_id": "bad" }).await.unwrap();
        let mut bad = good("bad");
        bad.extend(damage.clone());
        rooms.insert_one(bad).await.unwrap();
        let bad = room("bad");
        let found = directory.find(&bad).await.map(drop);
        let added = directory.add(&bad, &user("carol"), LIMIT, nobody()).await.map(drop);
        for answer in [found, added] {
            assert!(
                matches!(&answer, Err(Error::Store(why)) if why.contains("damaged")),
                "{damage}: {answer:?}"
            );
        }
    }
    rooms.delete_one(doc! { "_id": "bad" }).await.unwrap();
    rooms.insert_one(good("not a name")).await.unwrap();
    let listed = directory.rooms_of(&user("alice")).await;
    assert!(matches!(&listed, Err(Error::Store(why)) if why.contains("damaged")), "{listed:?}");
}

#[actix_rt::test]
async fn a_users_rooms_are_found_by_an_index() {
    let mongo = Mongo::start().await;
    let database = database(&mongo).await;
    let directory = MongoDirectory::new(&database);
    directory.prepare().await.unwrap();
    let find = doc! { "find": "rooms", "filter": super::rooms_with(&user("alice")) };
    let explained =
        database.run_command(doc! { "explain": find, "verbosity": "queryPlanner" }).await.unwrap();
    let plan =
        explained.get_document("queryPlanner").unwrap().get_document("winningPlan").unwrap().to_string();
    assert!(plan.contains("IXSCAN"), "{plan}");
}
