//! Tests of the changes that are stored in the documents of rooms.

use mongodb::bson::Bson;
use proto::event::{Item, ItemType};

use super::*;
use crate::{
    changes::{Changes, KEPT},
    directory::{Additions, ChangeKind, ChangesSince, change::Part, mongo::changes::recent_filter},
    mongo::deadline_now,
};

#[actix_rt::test]
async fn every_change_is_stored_with_its_version_for_all_nodes() {
    let mongo = Mongo::start().await;
    let database = database(&mongo).await;
    let (here, there) = (MongoDirectory::new(&database), MongoDirectory::new(&database));
    here.prepare().await.unwrap();
    let (tea, limits) = (room("tea"), Additions { per_user: LIMIT, per_adder: LIMIT });
    here.create(
        NewRoom { settings: Settings { private: false, ephemeral: true }, ..new("tea", "Alice") },
        LIMIT,
        no_callback(),
    )
    .await
    .unwrap();
    there.add(&tea, &user("Bob"), LIMIT, no_callback()).await.unwrap();
    here.add_by(&tea, &user("carol"), &user("Alice"), limits, no_callback()).await.unwrap();
    here.remove(&tea, &user("bob"), &user("alice"), no_callback()).await.unwrap();
    there.leave(&tea, &user("carol"), no_callback()).await.unwrap();
    there.change_settings(&tea, &user("alice"), &set_private(true), no_callback()).await.unwrap();
    // Not a change.
    there.remove(&tea, &user("dave"), &user("alice"), no_callback()).await.unwrap();
    here.archive(&tea, &user("alice"), no_callback()).await.unwrap();
    let renewed = here.clone().without_reuse_delay();
    renewed
        .create(
            NewRoom { settings: Settings { private: false, ephemeral: true }, ..new("tea", "Dave") },
            LIMIT,
            no_callback(),
        )
        .await
        .unwrap();

    let found = here.of(&[tea.clone(), room("absent")]).await.unwrap();
    let [changed] = &found[..] else { panic!("{found:?}") };
    assert!(changed.is_tracked() && changed.is_open && changed.version == 8, "{changed:?}");
    let stored: Vec<_> =
        changed.changes.iter().map(|change| (change.version, change.what.clone(), change.is_own)).collect();
    let (joined, left) = (|name| ChangeKind::Joined(user(name)), |name| ChangeKind::Left(user(name)));
    let expected = [
        (joined("Alice"), true),
        (joined("Bob"), false),
        (joined("carol"), true),
        (left("Bob"), true),
        (left("carol"), false),
        (ChangeKind::Other, false),
        (ChangeKind::Archived, true),
        (ChangeKind::Renewed(user("Dave")), true),
    ];
    let expected: Vec<_> =
        expected.into_iter().zip(1..).map(|((what, own), version)| (version, what, own)).collect();
    assert_eq!(stored, expected);
    assert_eq!(there.recent().await.unwrap(), [(tea.clone(), 8)]);
    assert_eq!(there.versions(std::slice::from_ref(&tea)).await.unwrap(), [(tea.clone(), 8)]);
    assert_eq!(there.members(&tea).await.unwrap(), [user("Dave")]);

    // An earlier release changes the room without storing the change.
    let rooms = database.collection::<Document>("rooms");
    rooms.update_one(doc! { "_id": "tea" }, doc! { "$inc": { "version": 1_i64 } }).await.unwrap();
    assert!(!there.of(&[tea]).await.unwrap()[0].is_tracked());
}

#[actix_rt::test]
async fn latest_changes_are_kept_and_found_by_an_index() {
    let mongo = Mongo::start().await;
    let database = database(&mongo).await;
    let directory = MongoDirectory::new(&database);
    directory.prepare().await.unwrap();
    directory.create(new("tea", "alice"), LIMIT, no_callback()).await.unwrap();
    for n in 0..KEPT {
        directory.add(&room("tea"), &user(&format!("user{n}")), LIMIT, no_callback()).await.unwrap();
    }
    let changed = directory.of(&[room("tea")]).await.unwrap().remove(0);
    assert_eq!((changed.changes.len(), changed.changes[0].version), (KEPT, 2));
    let find = doc! { "find": "rooms", "filter": recent_filter(), "sort": { "changed": -1 } };
    let plan = database.run_command(doc! { "explain": find }).await.unwrap().to_string();
    assert!(plan.contains("IXSCAN") && !plan.contains("COLLSCAN"), "{plan}");
    // A room of an earlier release has no recent changes.
    let rooms = database.collection::<Document>("rooms");
    rooms.update_many(doc! {}, doc! { "$unset": { "changed": "", "recent": "" } }).await.unwrap();
    assert_eq!(directory.recent().await.unwrap(), []);
    let stored: Vec<Document> = rooms.find(doc! {}).await.unwrap().try_collect().await.unwrap();
    assert_eq!(stored.len(), 1);
    assert!(!directory.of(&[room("tea")]).await.unwrap()[0].is_tracked());
}

/// What a client at `rev` receives.
async fn since(directory: &MongoDirectory, name: &str, rev: u64) -> ChangesSince {
    directory.changes_since(&room(name), rev, &ItemType::ALL).await.unwrap().expect("an open room")
}

fn numbers(since: &ChangesSince) -> Vec<u64> {
    since.changes.iter().map(|(rev, _)| *rev).collect()
}

/// A damaged change is neither delivered nor skipped silently: a client that has not received it loads the room anew. Clients that have
/// received it, and other rooms, are not affected.
#[actix_rt::test]
async fn a_damaged_change_is_no_change_and_not_skipped() {
    let mongo = Mongo::start().await;
    let database = database(&mongo).await;
    let directory = MongoDirectory::new(&database);
    directory.prepare().await.unwrap();
    directory.create(new("good", "alice"), LIMIT, no_callback()).await.unwrap();
    let rooms = database.collection::<Document>("rooms");
    let damages: [(&str, Option<Bson>); 13] = [
        ("recent.2", Some(7.into())),
        ("recent.2.version", Some("three".into())),
        ("recent.2.at", Some("now".into())),
        ("recent.2.what", None),
        ("recent.2.user", None),
        ("recent.2.user", Some("no name".into())),
        ("recent.2.actor", Some(7.into())),
        ("recent.2.items", Some("none".into())),
        ("recent.2.items", Some(Bson::Array(vec![]))),
        ("recent.2.items.0.type", Some("membr".into())),
        ("recent.2.items.0.member", None),
        ("recent.2.items.0.member.role", None),
        ("recent.2.items.0.member.role", Some(7.into())),
    ];
    for (number, (field, value)) in damages.into_iter().enumerate() {
        let name = format!("tea{number}");
        directory.create(new(&name, "alice"), LIMIT, no_callback()).await.unwrap();
        for user in ["bob", "carol", "dave"] {
            directory.add(&room(&name), &self::user(user), LIMIT, no_callback()).await.unwrap();
        }
        assert_eq!(numbers(&since(&directory, &name, 1).await), [2, 3, 4]);
        directory.apply(&room(&name), deadline_now()).await.unwrap();
        let what = format!("{field} {value:?}");
        let damage = match value {
            Some(value) => doc! { "$set": { field: value } },
            None => doc! { "$unset": { field: "" } },
        };
        rooms.update_one(doc! { "_id": &name }, damage).await.unwrap();
        assert_eq!(since(&directory, &name, 1).await, ChangesSince::reset(4), "{what}");
        assert_eq!(numbers(&since(&directory, &name, 3).await), [4], "{what}");
        let found = directory.of(&[room(&name), room("good")]).await.unwrap();
        let versions = |name: &str| -> Vec<u64> {
            let found = found.iter().find(|changed| changed.room == room(name));
            found.expect("a room").changes.iter().map(|change| change.version).collect()
        };
        assert_eq!((versions(&name), versions("good")), (vec![1, 2, 4], vec![1]), "{what}");
    }
    let settings = [None, Some(Bson::Boolean(true)), Some(doc! { "private": true }.into())];
    for (number, value) in settings.into_iter().enumerate() {
        let name = format!("milk{number}");
        directory.create(new(&name, "alice"), LIMIT, no_callback()).await.unwrap();
        directory
            .change_settings(&room(&name), &user("alice"), &set_private(true), no_callback())
            .await
            .unwrap();
        directory.apply(&room(&name), deadline_now()).await.unwrap();
        let damage = match value {
            Some(value) => doc! { "$set": { "recent.1.items.0.settings": value } },
            None => doc! { "$unset": { "recent.1.items.0.settings": "" } },
        };
        rooms.update_one(doc! { "_id": &name }, damage.clone()).await.unwrap();
        assert_eq!(since(&directory, &name, 1).await, ChangesSince::reset(2), "{damage}");
        let changes = directory.of(&[room(&name)]).await.unwrap().remove(0).changes;
        assert_eq!(changes.len(), 1, "{damage}");
    }
    // The document of a room itself.
    rooms.update_one(doc! { "_id": "tea1" }, doc! { "$set": { "version": "one" } }).await.unwrap();
    let found = directory.of(&[room("tea1"), room("good")]).await.unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    let refused = directory.changes_since(&room("tea1"), 1, &ItemType::ALL).await;
    assert!(matches!(&refused, Err(Error::Store(why)) if why.contains("damaged")), "{refused:?}");
}

/// The older part of the log, in its collection.
#[actix_rt::test]
async fn a_damaged_copy_of_a_change_makes_clients_load_the_room_anew() {
    let mongo = Mongo::start().await;
    let database = database(&mongo).await;
    let directory = MongoDirectory::new(&database);
    directory.prepare().await.unwrap();
    directory.create(new("tea", "alice"), LIMIT, no_callback()).await.unwrap();
    for n in 0..KEPT + 8 {
        directory.add(&room("tea"), &user(&format!("user{n}")), LIMIT, no_callback()).await.unwrap();
    }
    let (until, mut changes) = (Instant::now() + Duration::from_secs(30), 0);
    while since(&directory, "tea", 1).await.reset {
        assert!(Instant::now() < until, "the first changes are copied");
        let patch = set_private(changes % 2 == 0);
        changes += 1;
        directory.change_settings(&room("tea"), &user("alice"), &patch, no_callback()).await.unwrap();
    }
    let copies = database.collection::<Document>("changes");
    let of_user = || doc! { "_id.key": "user2" };
    let copy = copies.find_one(of_user()).await.unwrap().expect("a copy");
    for damage in [doc! { "type": 7 }, doc! { "key": 7 }, doc! { "key": "no name" }] {
        copies.update_one(of_user(), doc! { "$set": damage.clone() }).await.unwrap();
        assert!(since(&directory, "tea", 1).await.reset, "{damage}");
        copies.replace_one(of_user(), copy.clone()).await.unwrap();
        assert!(!since(&directory, "tea", 1).await.reset, "{damage} is repaired");
    }
}

/// The collection of older changes is dropped, loses a document, or is put back to an older state, while the rooms stay. Clients that have
/// missed one of these changes load the room anew; they never receive an answer without it. Later changes are copied again.
#[actix_rt::test]
async fn lost_copies_of_changes_make_clients_load_the_room_anew() {
    let mongo = Mongo::start().await;
    let database = database(&mongo).await;
    let directory = MongoDirectory::new(&database);
    directory.prepare().await.unwrap();
    let copies = database.collection::<Document>("changes");
    for loss in ["dropped", "a document is deleted", "older"] {
        let name = loss.replace(' ', "");
        directory.create(new(&name, "alice"), LIMIT, no_callback()).await.unwrap();
        let change = async |count: usize| {
            for n in 0..count {
                let patch = set_private(n % 2 == 0);
                directory.change_settings(&room(&name), &user("alice"), &patch, no_callback()).await.unwrap();
            }
        };
        for n in 0..KEPT / 2 {
            directory.add(&room(&name), &user(&format!("user{n}")), LIMIT, no_callback()).await.unwrap();
        }
        // Every copy is compared with the room until it is complete.
        let copied = async |last: u64| {
            let until = Instant::now() + Duration::from_secs(30);
            loop {
                assert!(Instant::now() < until, "{loss}: the changes are copied");
                let found = directory.load(&room(&name), deadline_now()).await.unwrap().unwrap();
                if found.document.logged >= i64::try_from(last).unwrap() {
                    return found.document.version;
                }
                change(1).await;
            }
        };
        copied(10).await;
        let of_room = || doc! { "room": &name };
        let old: Vec<Document> = copies.find(of_room()).await.unwrap().try_collect().await.unwrap();
        change(KEPT).await;
        copied(80).await;
        assert!(!since(&directory, &name, 1).await.reset, "{loss}: nothing is lost");
        match loss {
            "dropped" => copies.drop().await.unwrap(),
            "older" => {
                copies.delete_many(of_room()).await.unwrap();
                copies.insert_many(old).await.unwrap();
            }
            _ => drop(copies.delete_one(doc! { "room": &name, "key": "user3" }).await.unwrap()),
        }
        assert!(since(&directory, &name, 1).await.reset, "{loss}");
        let version = u64::try_from(copied(0).await).unwrap();
        assert!(!since(&directory, &name, version - 1).await.reset, "{loss}: this change is in the room");
        change(KEPT).await;
        let last = copied(version + 1).await;
        assert!(since(&directory, &name, 1).await.reset, "{loss}: later copies do not hide the loss");
        change(KEPT).await;
        copied(u64::try_from(last).unwrap() + 1).await;
        assert!(!since(&directory, &name, u64::try_from(last).unwrap()).await.reset, "{loss}: later changes");
    }
}

/// The collection of older changes has another UUID. All rooms answer numbers before their last copied change with a reset.
#[actix_rt::test]
async fn older_changes_are_not_used_after_a_reset() {
    let mongo = Mongo::start().await;
    let database = database(&mongo).await;
    let directory = MongoDirectory::new(&database);
    directory.prepare().await.unwrap();
    directory.create(new("tea", "alice"), LIMIT, no_callback()).await.unwrap();
    let rooms = database.collection::<Document>("rooms");
    directory.apply(&room("tea"), deadline_now()).await.unwrap();
    let copied = doc! { "$set": { "version": 9_i64, "applied": 9_i64, "logged": 7_i64, "recent": [] } };
    rooms.update_one(doc! { "_id": "tea" }, copied).await.unwrap();
    directory.reset_older_changes().await.unwrap();
    let found = directory.load(&room("tea"), deadline_now()).await.unwrap().unwrap();
    assert_eq!((found.document.logged, found.document.log_floor), (7, 7));
}

/// The collection of rooms was dropped, or lacks rooms. A name that messages, members or older changes refer to is taken.
#[actix_rt::test]
async fn the_name_of_a_lost_room_is_taken() {
    let mongo = Mongo::start().await;
    let database = database(&mongo).await;
    let directory = MongoDirectory::new(&database);
    directory.prepare().await.unwrap();
    for name in ["tea", "coffee", "lone"] {
        directory.create(new(name, "alice"), LIMIT, no_callback()).await.unwrap();
        directory.apply(&room(name), deadline_now()).await.unwrap();
    }
    let members = database.collection::<Document>("members");
    members.delete_many(doc! { "room": { "$ne": "lone" } }).await.unwrap();
    let message = doc! { "_id": "tea 1", "room": "tea", "seq": 1_i64 };
    database.collection::<Document>("messages").insert_one(message).await.unwrap();
    let change = doc! { "room": "coffee", "type": "room", "key": "", "rev": 1_i64 };
    database.collection::<Document>("changes").insert_one(change).await.unwrap();
    database.collection::<Document>("rooms").drop().await.unwrap();
    for name in ["tea", "coffee", "lone"] {
        let created = directory.create(new(name, "mallory"), LIMIT, no_callback()).await;
        assert!(matches!(created, Err(Error::Conflict(why)) if why.contains("taken")), "{name}: {created:?}");
        assert_eq!(directory.find(&room(name)).await.unwrap(), None);
    }
    directory.create(new("milk", "alice"), LIMIT, no_callback()).await.unwrap();
}

/// Changes of the release before, which has stored no items, are completed from the room as it is now.
#[actix_rt::test]
async fn changes_without_items_are_completed_from_the_present_state() {
    let mongo = Mongo::start().await;
    let database = database(&mongo).await;
    let directory = MongoDirectory::new(&database);
    directory.prepare().await.unwrap();
    directory.create(new("tea", "alice"), LIMIT, no_callback()).await.unwrap();
    for user in ["bob", "carol", "dave"] {
        directory.add(&room("tea"), &self::user(user), LIMIT, no_callback()).await.unwrap();
    }
    directory.remove(&room("tea"), &user("carol"), &user("alice"), no_callback()).await.unwrap();
    directory.apply(&room("tea"), deadline_now()).await.unwrap();
    let complete = directory.of(&[room("tea")]).await.unwrap().remove(0);
    let rooms = database.collection::<Document>("rooms");
    let incomplete = doc! { "$unset": { "recent.$[].items": "", "recent.$[].actor": "" } };
    rooms.update_one(doc! { "_id": "tea" }, incomplete).await.unwrap();
    let completed = directory.of(&[room("tea")]).await.unwrap().remove(0);
    let record = directory.find(&room("tea")).await.unwrap().unwrap();
    for (change, before) in completed.changes.iter().zip(&complete.changes) {
        let (items, before) = (change.items.as_ref().unwrap(), before.items.as_ref().unwrap());
        assert!(items.iter().all(|item| *item == Part::of(item).present(&record)), "{items:?}");
        let has = |part: &Part| items.iter().any(|item| Part::of(item) == *part);
        assert!(before.iter().map(Part::of).all(|part| has(&part)) && has(&Part::Room), "{items:?}");
    }
    let Some(Item::Room { settings: Some(settings), .. }) =
        completed.changes[0].items.as_ref().unwrap().first()
    else {
        panic!("{completed:?}")
    };
    assert_eq!(settings.member_count, 3);
    let all = since(&directory, "tea", 0).await;
    assert_eq!((all.rev, numbers(&all)), (5, vec![2, 4, 5]));
}

/// 2,000 changed parts are returned in pages of 500, and 2,001 make a client load the room anew.
#[actix_rt::test]
async fn more_than_2000_changed_parts_are_a_reset() {
    let mongo = Mongo::start().await;
    let database = database(&mongo).await;
    let directory = MongoDirectory::new(&database);
    directory.prepare().await.unwrap();
    directory.create(new("tea", "alice"), LIMIT, no_callback()).await.unwrap();
    let row = |rev: i64| {
        let key = format!("user{rev}");
        let id = doc! { "room": "tea", "type": "member", "key": &key };
        doc! { "_id": id, "room": "tea", "type": "member", "key": key, "rev": rev }
    };
    let copies = database.collection::<Document>("changes");
    copies.insert_many((2..=2_001).map(row)).await.unwrap();
    let rooms = database.collection::<Document>("rooms");
    directory.apply(&room("tea"), deadline_now()).await.unwrap();
    let copied =
        doc! { "$set": { "version": 2_001_i64, "applied": 2_001_i64, "logged": 2_001_i64, "recent": [] } };
    rooms.update_one(doc! { "_id": "tea" }, copied).await.unwrap();
    let (mut rev, mut pages) = (1, vec![]);
    loop {
        let page = since(&directory, "tea", rev).await;
        assert!(!page.reset);
        pages.push(page.changes.len());
        rev = page.rev;
        if !page.more {
            break;
        }
    }
    assert_eq!((rev, pages), (2_001, vec![500; 4]));
    copies.insert_one(row(2_002)).await.unwrap();
    let copied = doc! { "$set": { "version": 2_002_i64, "applied": 2_002_i64, "logged": 2_002_i64 } };
    rooms.update_one(doc! { "_id": "tea" }, copied).await.unwrap();
    assert_eq!(since(&directory, "tea", 1).await, ChangesSince::reset(2_002));
    assert_eq!(since(&directory, "tea", 2).await.changes.len(), 500);
}
