//! Tests of the collection of members: changes that are not applied, processes that die in between, late writes, lost and restored documents.

use std::sync::atomic::AtomicBool;

use proto::event::ItemType;

use super::*;
use crate::{
    changes::Changes,
    directory::{Additions, RoomRecord},
    mongo::deadline_now,
};

/// A process that dies after the commit of each change of this room, before it applies it.
fn dying(database: &Database, name: &str) -> MongoDirectory {
    let directory = MongoDirectory::new(database).without_reuse_delay();
    directory.applying.lock().unwrap().insert(room(name), false);
    directory
}

fn names(record: &RoomRecord) -> Vec<(String, Role)> {
    record.members.iter().map(|member| (member.username.to_string(), member.role)).collect()
}

async fn found(directory: &MongoDirectory, name: &str) -> RoomRecord {
    directory.find(&room(name)).await.unwrap().expect("a room")
}

async fn rooms_of(directory: &MongoDirectory, name: &str) -> Vec<String> {
    let rooms = directory.rooms_of(&user(name)).await.unwrap();
    rooms.iter().skip(1).map(|room_info| room_info.name.to_string()).collect()
}

async fn documents(database: &Database, collection: &str) -> Vec<Document> {
    let found = database.collection::<Document>(collection).find(doc! {}).sort(doc! { "_id": 1 }).await;
    found.unwrap().try_collect().await.unwrap()
}

/// Every reader sees a committed change completely, before and after it is applied.
#[actix_rt::test]
async fn changes_are_seen_before_they_are_applied() {
    let mongo = Mongo::start().await;
    let database = database(&mongo).await;
    let (here, there) = (dying(&database, "tea"), MongoDirectory::new(&database));
    here.prepare().await.unwrap();
    let limits = Additions { per_user: 1, per_adder: 1 };
    here.create(new("tea", "Alice"), LIMIT, no_callback()).await.unwrap();
    here.add_by(&room("tea"), &user("bob"), &user("alice"), limits, no_callback()).await.unwrap();
    let over = here.add_by(&room("tea"), &user("carol"), &user("alice"), limits, no_callback()).await;
    assert!(matches!(over, Err(Error::Forbidden(_))), "{over:?}");
    here.remove(&room("tea"), &user("bob"), &user("alice"), no_callback()).await.unwrap();
    here.add_by(&room("tea"), &user("carol"), &user("alice"), limits, no_callback()).await.unwrap();
    here.add(&room("tea"), &user("dave"), 1, no_callback()).await.unwrap();
    let over = here.create(new("milk", "dave"), 1, no_callback()).await;
    assert!(matches!(over, Err(Error::Forbidden(_))), "{over:?}");
    here.leave(&room("tea"), &user("alice"), no_callback()).await.unwrap();
    assert_eq!(documents(&database, "members").await, Vec::<Document>::new(), "nothing is applied");
    for is_applied in [false, true] {
        let record = found(&there, "tea").await;
        let expected = [("carol".to_owned(), Role::Owner), ("dave".to_owned(), Role::Member)];
        assert_eq!(names(&record), expected, "{is_applied}");
        assert_eq!((record.rev, record.room_info.owner.clone()), (6, Some(user("carol"))));
        assert_eq!(record.members[0].added_by, Some(user("alice")));
        for (name, is_member) in [("alice", false), ("bob", false), ("CAROL", true), ("dave", true)] {
            let rooms = if is_member { vec!["tea".to_owned()] } else { vec![] };
            assert_eq!(rooms_of(&there, name).await, rooms, "{name}, {is_applied}");
            assert_eq!(there.has_member(&user(name)).await, Ok(is_member), "{name}, {is_applied}");
        }
        let all = there.changes_since(&room("tea"), 0, &ItemType::ALL).await.unwrap().unwrap();
        assert_eq!((all.rev, all.changes.len()), (6, 3), "{is_applied}: {all:?}");
        there.apply(&room("tea"), deadline_now()).await.unwrap();
    }
    let stored = documents(&database, "rooms").await;
    let tea = stored.iter().find(|stored| stored.get_str("_id").unwrap() == "tea").unwrap();
    assert_eq!((tea.get_i64("applied").unwrap(), tea.contains_key("pending")), (6, false), "{tea}");
    assert_eq!(documents(&database, "members").await.len(), 4, "one for each user who was a member");
}

/// A process that dies leaves changes, which others apply without a further change of the room.
#[actix_rt::test]
async fn changes_of_dead_processes_are_applied_by_others() {
    let mongo = Mongo::start().await;
    let database = database(&mongo).await;
    let (dead, other) = (dying(&database, "tea"), MongoDirectory::new(&database));
    dead.prepare().await.unwrap();
    dead.create(new("tea", "alice"), LIMIT, no_callback()).await.unwrap();
    dead.add(&room("tea"), &user("bob"), LIMIT, no_callback()).await.unwrap();
    assert_eq!(other.rooms_with_pending().await.unwrap(), [], "the process may be about to apply them");
    let age = doc! { "$set": { "changed": mongodb::bson::DateTime::from_millis(0) } };
    database.collection::<Document>("rooms").update_one(doc! { "_id": "tea" }, age).await.unwrap();
    assert_eq!(other.rooms_with_pending().await.unwrap(), [room("tea")]);
    // The nodes call it twice a second.
    other.recent().await.unwrap();
    wait_until(async || documents(&database, "members").await.len() == 2).await;
    wait_until(async || other.rooms_with_pending().await.unwrap().is_empty()).await;
}

/// MongoDB refuses writes to the collection of members. Changes go on as long as the document of the room has them, and nothing is lost.
#[actix_rt::test]
async fn no_change_is_dropped_before_it_is_applied() {
    let mongo = Mongo::start().await;
    let (database, admin) = (database(&mongo).await, client(&mongo).await.database("admin"));
    let directory = MongoDirectory::new(&database);
    directory.prepare().await.unwrap();
    let data = doc! { "failCommands": ["update"], "errorCode": 13, "namespace": format!("{}.members", database.name()) };
    let fail = doc! { "configureFailPoint": "failCommand", "mode": "alwaysOn", "data": data };
    admin.run_command(fail).await.unwrap();
    directory.create(new("tea", "alice"), LIMIT, no_callback()).await.unwrap();
    let mut joined = 1;
    let refused = loop {
        let name = user(&format!("user{joined}"));
        match directory.add(&room("tea"), &name, LIMIT, no_callback()).await {
            Ok(members) => joined = members.len(),
            Err(refused) => break refused,
        }
        assert!(joined < 64, "the first change would be dropped");
    };
    assert!(refused.is_of_store(), "{refused:?}");
    assert_eq!(joined, 32, "{refused:?}");
    assert_eq!(found(&directory, "tea").await.members.len(), joined);
    admin.run_command(doc! { "configureFailPoint": "failCommand", "mode": "off" }).await.unwrap();
    for n in 0..100 {
        directory.add(&room("tea"), &user(&format!("late{n}")), LIMIT, no_callback()).await.unwrap();
    }
    directory.apply(&room("tea"), deadline_now()).await.unwrap();
    assert_eq!(found(&directory, "tea").await.members.len(), joined + 100);
    assert_eq!(documents(&database, "members").await.len(), joined + 100);
}

/// A write of an earlier change arrives after those of later ones, also of a later room of the same name.
#[actix_rt::test]
async fn late_writes_change_nothing() {
    let mongo = Mongo::start().await;
    let database = database(&mongo).await;
    let directory = MongoDirectory::new(&database).without_reuse_delay();
    directory.prepare().await.unwrap();
    let (tea, alice) = (room("tea"), user("alice"));
    let ephemeral =
        |owner| NewRoom { settings: Settings { private: false, ephemeral: true }, ..new("tea", owner) };
    directory.create(ephemeral("alice"), LIMIT, no_callback()).await.unwrap();
    directory.add(&tea, &user("bob"), LIMIT, no_callback()).await.unwrap();
    directory.add(&tea, &user("carol"), LIMIT, no_callback()).await.unwrap();
    let late = directory.load(&tea, deadline_now()).await.unwrap().unwrap().members;
    directory.remove(&tea, &user("bob"), &alice, no_callback()).await.unwrap();
    directory.apply(&tea, deadline_now()).await.unwrap();
    let before = documents(&database, "members").await;
    directory.write_members(&tea, late.clone(), deadline_now()).await.unwrap();
    assert_eq!(documents(&database, "members").await, before, "bob stays removed");

    directory.archive(&tea, &alice, no_callback()).await.unwrap();
    assert_eq!(directory.members(&tea).await.unwrap(), [alice.clone(), user("carol")], "the room has ended");
    assert!(directory.has_member(&user("carol")).await.unwrap());
    // A process ends while another room takes the name, and has deleted a member.
    database.collection::<Document>("members").delete_one(doc! { "key": "carol" }).await.unwrap();
    let older = doc! { "$set": { "recent": [] } };
    database.collection::<Document>("rooms").update_one(doc! { "_id": "tea" }, older).await.unwrap();
    assert_eq!(directory.find(&tea).await, Ok(None));
    directory.create(ephemeral("dave"), LIMIT, no_callback()).await.unwrap();
    directory.apply(&tea, deadline_now()).await.unwrap();
    assert_eq!(documents(&database, "members").await.len(), 1);
    directory.write_members(&tea, late, deadline_now()).await.unwrap();
    assert_eq!(documents(&database, "members").await.len(), 4, "they come late");
    assert_eq!(names(&found(&directory, "tea").await), [("dave".to_owned(), Role::Owner)]);
    assert_eq!(rooms_of(&directory, "carol").await, Vec::<String>::new());
    assert!(!directory.has_member(&user("carol")).await.unwrap());
    directory.add(&tea, &user("carol"), LIMIT, no_callback()).await.unwrap();
    directory.apply(&tea, deadline_now()).await.unwrap();
    assert_eq!(found(&directory, "tea").await.members.len(), 2);
}

/// Two processes change a room and die again and again, while another reads. Each change of an owner changes two members. No reader sees one of them
/// without the other, no change is lost, and the order of joining is kept.
#[actix_rt::test]
async fn readers_see_whole_changes_of_processes_that_die() {
    let mongo = Mongo::start().await;
    let database = database(&mongo).await;
    let reader = MongoDirectory::new(&database);
    reader.prepare().await.unwrap();
    reader.create(new("tea", "user0"), LIMIT, no_callback()).await.unwrap();
    let is_done = AtomicBool::new(false);
    let writer = async |turn: usize| {
        for n in 0..40 {
            let directory =
                if n % 3 == turn { MongoDirectory::new(&database) } else { dying(&database, "tea") };
            let joining = user(&format!("user{}", 2 * n + turn + 1));
            directory.add(&room("tea"), &joining, LIMIT, no_callback()).await.unwrap();
            if n % 4 == 1 {
                let owner = found(&directory, "tea").await.room_info.owner.unwrap();
                let left = directory.leave(&room("tea"), &owner, no_callback()).await.unwrap();
                assert!(left.iter().all(|member| member.username != owner), "{left:?}");
            }
        }
    };
    let writers = async {
        tokio::join!(writer(0), writer(1));
        is_done.store(true, Ordering::SeqCst);
    };
    let readers = async {
        let (mut rev, mut order) = (0, Vec::<String>::new());
        let mut reads = 0;
        while !is_done.load(Ordering::SeqCst) || reads < 10 {
            let record = found(&reader, "tea").await;
            let listed: Vec<String> =
                record.members.iter().map(|member| member.username.to_string()).collect();
            let owners = record.members.iter().filter(|member| member.role == Role::Owner).count();
            assert!(owners == 1 && record.members[0].role == Role::Owner, "{record:?}");
            assert!(record.rev >= rev, "{} after {rev}", record.rev);
            let kept: Vec<&String> = order.iter().filter(|name| listed.contains(name)).collect();
            assert!(listed.iter().take(kept.len()).eq(kept), "{order:?} and then {listed:?}");
            (rev, order, reads) = (record.rev, listed, reads + 1);
        }
    };
    tokio::join!(writers, readers);
    let record = found(&reader, "tea").await;
    let changed = reader.of(&[room("tea")]).await.unwrap().remove(0);
    assert_eq!(changed.version, record.rev);
    assert!(changed.is_tracked() && changed.changes.len() == 64);
    reader.apply(&room("tea"), deadline_now()).await.unwrap();
    assert_eq!(names(&found(&reader, "tea").await), names(&record));
    assert_eq!(documents(&database, "members").await.len(), 81, "each user who was a member");
    assert_eq!(reader.room_with_other_members().await.unwrap(), None);
}

/// A change is applied between the read of a room's document and that of its members. The members are not used with this document.
#[actix_rt::test]
async fn members_are_not_combined_with_an_earlier_document() {
    let mongo = Mongo::start().await;
    let database = database(&mongo).await;
    let directory = MongoDirectory::new(&database);
    directory.prepare().await.unwrap();
    let (tea, alice) = (room("tea"), user("alice"));
    directory.create(new("tea", "alice"), LIMIT, no_callback()).await.unwrap();
    directory.add(&tea, &user("bob"), LIMIT, no_callback()).await.unwrap();
    for change in ["leave", "join", "nothing"] {
        let document = directory.load_document(&tea, deadline_now()).await.unwrap().unwrap();
        match change {
            "leave" => drop(directory.leave(&tea, &alice, no_callback()).await.unwrap()),
            "join" => drop(directory.add(&tea, &alice, LIMIT, no_callback()).await.unwrap()),
            _ => {}
        }
        directory.apply(&tea, deadline_now()).await.unwrap();
        let stored = directory.stored_members(&tea, 0, deadline_now()).await.unwrap();
        let members = document.members(stored, document.pending().unwrap().writes);
        assert_eq!(members.is_some(), change == "nothing", "{change}: {members:?}");
    }
}

/// The collection of members, or that of rooms, loses documents or is restored to an older state while the other stays. A room is never shown with other
/// members than its document states.
#[actix_rt::test]
async fn members_that_differ_from_their_room_are_refused() {
    let mongo = Mongo::start().await;
    let client = client(&mongo).await;
    for loss in ["dropped", "owner", "member", "older", "exchanged", "older rooms"] {
        let database = client.database(&loss.replace(' ', "_"));
        let directory = MongoDirectory::new(&database);
        directory.prepare().await.unwrap();
        let tea = room("tea");
        directory.create(new("tea", "alice"), LIMIT, no_callback()).await.unwrap();
        for name in ["bob", "carol"] {
            directory.add(&tea, &user(name), LIMIT, no_callback()).await.unwrap();
        }
        directory.apply(&tea, deadline_now()).await.unwrap();
        let (old_rooms, old) = (documents(&database, "rooms").await, documents(&database, "members").await);
        // With the same number of members as before.
        directory.remove(&tea, &user("bob"), &user("alice"), no_callback()).await.unwrap();
        directory.add(&tea, &user("dave"), LIMIT, no_callback()).await.unwrap();
        // More changes than the document of the room keeps.
        for n in 0..70 {
            directory
                .change_settings(&tea, &user("alice"), &set_private(n % 2 == 0), no_callback())
                .await
                .unwrap();
        }
        directory.apply(&tea, deadline_now()).await.unwrap();
        assert_eq!(directory.room_with_other_members().await.unwrap(), None);
        let (rooms, members) = (database.collection("rooms"), database.collection::<Document>("members"));
        match loss {
            "dropped" => members.drop().await.unwrap(),
            "owner" => drop(members.delete_one(doc! { "key": "alice" }).await.unwrap()),
            "member" => drop(members.delete_one(doc! { "key": "carol" }).await.unwrap()),
            "exchanged" => {
                let other = doc! { "$set": { "role": "owner" } };
                members.update_one(doc! { "key": "carol" }, other).await.unwrap();
                members
                    .update_one(doc! { "key": "alice" }, doc! { "$set": { "role": "member" } })
                    .await
                    .unwrap();
            }
            "older" => {
                members.delete_many(doc! {}).await.unwrap();
                members.insert_many(old).await.unwrap();
            }
            _ => {
                rooms.delete_many(doc! {}).await.unwrap();
                rooms.insert_many(old_rooms).await.unwrap();
            }
        }
        let refused = [
            directory.find(&tea).await.map(drop),
            directory.add(&tea, &user("erin"), LIMIT, no_callback()).await.map(drop),
            directory.leave(&tea, &user("alice"), no_callback()).await.map(drop),
            directory.changes_since(&tea, 1, &ItemType::ALL).await.map(drop),
        ];
        for refused in refused {
            let is_named = matches!(&refused, Err(Error::Store(why)) if why.contains("damaged") && why.contains("restore both"));
            assert!(is_named, "{loss}: {refused:?}");
        }
        if loss == "dropped" {
            let rooms = directory.rooms_of(&user("carol")).await;
            assert!(matches!(&rooms, Err(Error::Store(why)) if why.contains("restore it")), "{rooms:?}");
            assert!(directory.has_member(&user("carol")).await.is_err());
        }
        if loss != "exchanged" {
            assert_eq!(directory.room_with_other_members().await.unwrap(), Some("tea".to_owned()), "{loss}");
        }
    }
}

/// The members have an older state, and the latest changes of the room contain what they lack.
#[actix_rt::test]
async fn older_members_are_completed_from_the_latest_changes() {
    let mongo = Mongo::start().await;
    let database = database(&mongo).await;
    let directory = MongoDirectory::new(&database);
    directory.prepare().await.unwrap();
    let tea = room("tea");
    directory.create(new("tea", "alice"), LIMIT, no_callback()).await.unwrap();
    directory.add(&tea, &user("bob"), LIMIT, no_callback()).await.unwrap();
    directory.apply(&tea, deadline_now()).await.unwrap();
    let old = documents(&database, "members").await;
    directory.add(&tea, &user("carol"), LIMIT, no_callback()).await.unwrap();
    directory.leave(&tea, &user("alice"), no_callback()).await.unwrap();
    directory.apply(&tea, deadline_now()).await.unwrap();
    let (new, expected) = (documents(&database, "members").await, found(&directory, "tea").await);
    let members = database.collection::<Document>("members");
    members.delete_many(doc! {}).await.unwrap();
    members.insert_many(old).await.unwrap();
    assert_eq!(found(&directory, "tea").await, expected);
    wait_until(async || documents(&database, "members").await == new).await;
}
