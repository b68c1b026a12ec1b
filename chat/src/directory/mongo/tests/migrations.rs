//! Tests of the migration of rooms of version 1, which are written as the release before has written them.

use std::sync::Mutex;

use async_trait::async_trait;
use mongodb::{IndexModel, bson::DateTime, options::IndexOptions};
use proto::event::{Item, ItemType, MemberState};

use super::*;
use crate::{
    changes::Changes,
    directory::{
        ChangesSince,
        mongo::{schema::GUARD, version_1},
    },
    migration::{Caller, Migration, MigrationError},
};

/// The number of changes of [`long_room`].
const CHANGES: i64 = 100;

/// The number of those that are copied to the collection of changes.
const COPIED: i64 = 64;

/// Lists these nodes, in the order of the calls; the last list is for all further calls.
struct Nodes(Mutex<Vec<Result<Vec<String>, String>>>);

#[async_trait]
impl Caller for Nodes {
    async fn running_nodes(&self) -> Result<Vec<String>, String> {
        let mut lists = self.0.lock().unwrap();
        if lists.len() > 1 { lists.remove(0) } else { lists[0].clone() }
    }

    fn report(&self, _: u64, _: u64) {}
}

fn no_nodes() -> Nodes {
    Nodes(Mutex::new(vec![Ok(vec![])]))
}

fn member(name: &str, role: &str) -> Document {
    doc! { "username": name, "key": name.to_lowercase(), "role": role }
}

/// A room of version 1.
fn version_1(name: &str, members: Vec<Document>, version: i64) -> Document {
    doc! {
        "_id": name, "private": false, "ephemeral": false, "settings": {}, "archived": false, "members": members,
        "departures": [], "base": 0_i64, "version": version, "changed": DateTime::now(), "recent": [],
    }
}

/// A room whose user `n` has joined with the change `n`. Its first changes are in the collection of changes, and its last 64 in its document.
async fn long_room(database: &Database) {
    let name = |rev: i64| if rev == 1 { "Alice".to_owned() } else { format!("user{rev}") };
    let role = |rev: i64| if rev == 1 { "owner" } else { "member" };
    let mut members: Vec<Document> = (1..=CHANGES).map(|rev| member(&name(rev), role(rev))).collect();
    members[1].extend(doc! { "by": "Alice", "by_key": "alice" });
    let recent = (CHANGES - 63..=CHANGES).map(|rev| {
        let item = doc! { "type": "member", "user": name(rev), "role": "member" };
        doc! { "version": rev, "at": DateTime::now(), "by": "node", "what": "joined", "user": name(rev), "actor": name(rev), "items": [item] }
    });
    let mut room = version_1("tea", members, CHANGES);
    room.extend(doc! {
        "recent": recent.collect::<Vec<_>>(), "logged": COPIED, "log_floor": 0_i64, "log_parts": COPIED + 1,
    });
    let row = |kind: &str, name: &str, rev: i64| {
        let id = doc! { "room": "tea", "type": kind, "key": name.to_lowercase() };
        doc! { "_id": id, "room": "tea", "type": kind, "key": name, "rev": rev }
    };
    let rows = (1..=COPIED).map(|rev| row("member", &name(rev), rev)).chain([row("room", "", 1)]);
    database.collection("changes").insert_many(rows).await.unwrap();
    database.collection("rooms").insert_one(room).await.unwrap();
}

async fn indexes_of_version_1(database: &Database) {
    let index = |name: &str, key: &str| {
        let options = IndexOptions::builder().name(name.to_owned()).build();
        IndexModel::builder().keys(doc! { key: 1 }).options(options).build()
    };
    let indexes = [index("members", "members.key"), index("adders", "members.by_key")];
    database.collection::<Document>("rooms").create_indexes(indexes).await.unwrap();
}

/// All documents of all collections of rooms, and the names of the indexes of rooms.
async fn stored(database: &Database) -> (Vec<Vec<Document>>, Vec<String>) {
    let mut all = vec![];
    for name in ["rooms", "members", "changes", "schema"] {
        let found =
            database.collection::<Document>(name).find(doc! {}).sort(doc! { "_id": 1 }).await.unwrap();
        all.push(found.try_collect().await.unwrap());
    }
    let mut indexes = database.collection::<Document>("rooms").list_index_names().await.unwrap();
    indexes.sort();
    (all, indexes)
}

async fn since(directory: &MongoDirectory, rev: u64) -> ChangesSince {
    directory.changes_since(&room("tea"), rev, &ItemType::ALL).await.unwrap().unwrap()
}

#[actix_rt::test]
async fn rooms_members_and_changes_are_migrated_once() {
    let mongo = Mongo::start().await;
    let database = database(&mongo).await;
    let directory = MongoDirectory::new(&database);
    indexes_of_version_1(&database).await;
    long_room(&database).await;
    let rooms = database.collection::<Document>("rooms");
    // Left by a migration that did not end, before a node of the release before has changed the room again.
    let left = doc! { "_id": { "room": "tea", "key": "gone" }, "room": "tea", "key": "gone", "username": "gone", "role": "member",
    "place": 1_i64, "rev": 99_i64 };
    database.collection::<Document>("members").insert_one(left).await.unwrap();
    // A room of an early release, and ended rooms.
    rooms.insert_one(doc! {
        "_id": "early", "private": true, "ephemeral": true, "archived": false, "members": [member("Bob", "owner")], "version": 3_i64,
    }).await.unwrap();
    let mut ended = version_1("ended", vec![member("Carol", "owner"), member("bob", "member")], 7);
    ended.extend(doc! { "archived": true, "ended": DateTime::now() });
    rooms.insert_many([ended, version_1("empty", vec![], 2)]).await.unwrap();

    let refusal = directory.refusal().await.unwrap().expect("rooms of version 1");
    assert!(
        refusal.contains("stop all chat nodes") && refusal.contains("`godzilla migrate --up`"),
        "{refusal}"
    );
    assert!(directory.find(&room("tea")).await.is_err());
    assert!(directory.has_member(&user("carol")).await.unwrap());
    assert_eq!(directory.status().await.unwrap().left, 4);

    assert_eq!(directory.migrate(&no_nodes()).await.unwrap(), 4);
    let tea = directory.find(&room("tea")).await.unwrap().unwrap();
    assert_eq!((tea.rev, tea.members.len(), tea.room_info.owner.clone()), (100, 100, Some(user("Alice"))));
    let names: Vec<_> = tea.members.iter().map(|member| member.username.to_string()).collect();
    assert!(names.iter().skip(1).zip(2..).all(|(name, rev)| *name == format!("user{rev}")), "{names:?}");
    assert_eq!(tea.members[1].added_by, Some(user("Alice")));
    let [changed] = &directory.of(&[room("tea")]).await.unwrap()[..] else { panic!("one room") };
    let items: Vec<_> = changed.changes.iter().filter_map(|change| change.items.clone()).flatten().collect();
    let joined = |rev: i64| Item::Member {
        member: MemberState { username: user(&format!("user{rev}")), role: Some(Role::Member) },
        by: None,
    };
    assert_eq!(items, (CHANGES - 63..=CHANGES).map(joined).collect::<Vec<_>>());
    for rev in [1, 36, 50, 64, 99] {
        let later = since(&directory, rev).await;
        let revs: Vec<u64> = later.changes.iter().map(|(rev, _)| *rev).collect();
        assert!(!later.reset && revs == (rev + 1..=100).collect::<Vec<_>>(), "after {rev}: {later:?}");
    }
    let early = directory.find(&room("early")).await.unwrap().unwrap();
    assert_eq!((early.rev, early.members[0].role, early.room_info.settings.private), (3, Role::Owner, true));
    assert_eq!(directory.find(&room("ended")).await.unwrap(), None);
    assert!(directory.has_member(&user("carol")).await.unwrap(), "an archived room keeps its members");
    assert_eq!(directory.find(&room("empty")).await.unwrap().unwrap().members, []);

    let before = stored(&database).await;
    assert_eq!(directory.migrate(&no_nodes()).await.unwrap(), 0);
    assert_eq!(directory.refusal().await, Ok(None));
    assert_eq!(stored(&database).await, before);
    directory.leave(&room("tea"), &user("alice"), no_callback()).await.unwrap();
    let tea = directory.find(&room("tea")).await.unwrap().unwrap();
    assert_eq!((tea.rev, tea.room_info.owner), (101, Some(user("user2"))));
}

/// What a chat node of the release before writes: the indexes at its start, and a room.
#[actix_rt::test]
async fn nodes_of_earlier_releases_neither_start_nor_create_rooms() {
    let mongo = Mongo::start().await;
    for is_migrated in [false, true] {
        let database = client(&mongo).await.database(&format!("case{is_migrated}"));
        let directory = MongoDirectory::new(&database);
        indexes_of_version_1(&database).await;
        let rooms = database.collection::<Document>("rooms");
        if is_migrated {
            rooms.insert_one(version_1("tea", vec![member("alice", "owner")], 1)).await.unwrap();
            directory.migrate(&no_nodes()).await.unwrap();
        } else {
            assert_eq!(directory.refusal().await, Ok(None), "a database without rooms gets the version");
        }
        let options = IndexOptions::builder().name("members".to_owned()).build();
        let index = IndexModel::builder().keys(doc! { "members.key": 1 }).options(options).build();
        let refused = rooms.create_indexes([index]).await.unwrap_err();
        assert!(refused.to_string().contains("stops_chat_nodes_of_earlier_releases"), "{refused}");
        let create = doc! { "$setOnInsert": version_1("milk", vec![member("bob", "owner")], 1) };
        let absent = doc! { "_id": "milk", "version": { "$lt": 1_i64 } };
        let refused = rooms.update_one(absent, create).upsert(true).await.unwrap_err();
        assert!(refused.to_string().contains(GUARD), "{refused}");
        // They are created again when an operator drops them.
        rooms.drop_indexes().await.unwrap();
        assert_eq!(directory.refusal().await, Ok(None));
        let names = rooms.list_index_names().await.unwrap();
        assert!(
            names.iter().any(|name| name == GUARD) && names.iter().any(|name| name == "members"),
            "{names:?}"
        );
    }
}

/// A backup of version 1 is restored over a database of version 2, whose collection `schema` is not in the backup.
#[actix_rt::test]
async fn restored_rooms_of_version_1_are_refused_and_migrated() {
    let mongo = Mongo::start().await;
    let database = database(&mongo).await;
    let directory = MongoDirectory::new(&database);
    assert_eq!(directory.refusal().await, Ok(None));
    directory.prepare().await.unwrap();
    directory.create(new("tea", "alice"), LIMIT, no_callback()).await.unwrap();
    let rooms = database.collection::<Document>("rooms");
    directory.add(&room("tea"), &user("bob"), LIMIT, no_callback()).await.unwrap();
    directory.apply(&room("tea"), crate::mongo::deadline_now()).await.unwrap();
    rooms.drop().await.unwrap();
    indexes_of_version_1(&database).await;
    rooms.insert_one(version_1("tea", vec![member("Bob", "owner")], 1)).await.unwrap();
    assert!(directory.refusal().await.unwrap().is_some());
    assert_eq!(directory.migrate(&no_nodes()).await.unwrap(), 1);
    let tea = directory.find(&room("tea")).await.unwrap().unwrap();
    assert_eq!((tea.members.len(), tea.room_info.owner), (1, Some(user("Bob"))));
    assert_eq!(directory.refusal().await, Ok(None));
}

#[actix_rt::test]
async fn a_migration_is_refused_while_nodes_run_and_changes_nothing() {
    let mongo = Mongo::start().await;
    let database = database(&mongo).await;
    let directory = MongoDirectory::new(&database);
    indexes_of_version_1(&database).await;
    long_room(&database).await;
    let before = stored(&database).await;
    let node = || Ok(vec!["one at http://10.0.0.1:3000".to_owned()]);
    let lists = [vec![node()], vec![Ok(vec![]), node()], vec![Err("Redis does not respond".to_owned())]];
    for (row, list) in lists.into_iter().enumerate() {
        let refused = directory.migrate(&Nodes(Mutex::new(list))).await.unwrap_err();
        let text = refused.to_string();
        let named = if row == 2 { "Redis does not respond" } else { "one at http://10.0.0.1:3000" };
        assert!(text.contains(named), "{row}: {text}");
        assert_eq!(stored(&database).await, before, "{row}");
    }
}

/// The migration ends after its first rooms, because a node starts, and continues later.
#[actix_rt::test]
async fn an_interrupted_migration_continues() {
    let mongo = Mongo::start().await;
    let database = database(&mongo).await;
    let directory = MongoDirectory::new(&database);
    let rooms = database.collection::<Document>("rooms");
    let room_of = |n: i64| version_1(&format!("room{n}"), vec![member(&format!("user{n}"), "owner")], n);
    rooms.insert_many((1..=600).map(room_of)).await.unwrap();
    let lists = vec![Ok(vec![]), Ok(vec![]), Ok(vec!["two".to_owned()])];
    let refused = directory.migrate(&Nodes(Mutex::new(lists))).await.unwrap_err();
    assert!(matches!(refused, MigrationError::NodesRun(_)), "{refused}");
    let left = directory.status().await.unwrap().left;
    assert!(left > 0 && left < 600, "{left}");
    assert!(directory.refusal().await.unwrap().is_some());
    assert_eq!(directory.migrate(&no_nodes()).await.unwrap(), left);
    for n in [1, 300, 600] {
        let found = directory.find(&room(&format!("room{n}"))).await.unwrap().unwrap();
        assert_eq!((found.rev, found.room_info.owner), (n, Some(user(&format!("user{n}")))));
    }
    assert_eq!(directory.refusal().await, Ok(None));
}

/// A migration is killed after each of its writes to a room, and others run at the same time. The result is that of one migration.
#[actix_rt::test]
async fn killed_and_concurrent_migrations_have_the_result_of_one() {
    let mongo = Mongo::start().await;
    let client = client(&mongo).await;
    let mut expected = None;
    for case in ["one", "no members", "some members", "all members", "concurrent"] {
        let database = client.database(&case.replace(' ', "_"));
        let directory = MongoDirectory::new(&database);
        indexes_of_version_1(&database).await;
        long_room(&database).await;
        let found = database.collection::<Document>("rooms").find_one(doc! { "_id": "tea" }).await.unwrap();
        let old: version_1::Room = mongodb::bson::deserialize_from_document(found.unwrap()).unwrap();
        let members = old.members().unwrap();
        let deadline = crate::mongo::deadline_now;
        match case {
            "some members" => {
                let written = members[..40].iter().map(|membership| {
                    let mut document = membership.document("tea");
                    document.insert("_id", membership.id("tea"));
                    document
                });
                database.collection("members").insert_many(written).await.unwrap();
            }
            "all members" => directory.write_members_of("tea", &old, &members, deadline()).await.unwrap(),
            _ => {}
        }
        if case != "one" {
            directory.block_earlier_releases(deadline()).await.unwrap();
        }
        let others = [MongoDirectory::new(&database), MongoDirectory::new(&database)];
        let nodes = no_nodes();
        let count = if case == "concurrent" { others.len() } else { 0 };
        let runs =
            join_all([&directory].into_iter().chain(&others[..count]).map(|one| one.migrate(&nodes))).await;
        for run in runs {
            run.unwrap();
        }
        // A migration that was slow to write finds that another has ended, and that the room has changed since.
        directory.write_members_of("tea", &old, &members, deadline()).await.unwrap();
        let (mut all, _) = stored(&database).await;
        for room in &mut all[0] {
            ["changed", "recent"].iter().for_each(|field| drop(room.remove(field)));
        }
        let expected = expected.get_or_insert(all.clone());
        assert_eq!(&all, expected, "{case}");
        directory.remove(&room("tea"), &user("user7"), &user("alice"), no_callback()).await.unwrap();
        directory.apply(&room("tea"), deadline()).await.unwrap();
        assert!(directory.write_members_of("tea", &old, &members, deadline()).await.is_err(), "{case}");
        let tea = directory.find(&room("tea")).await.unwrap().unwrap();
        assert_eq!((tea.members.len(), tea.rev), (99, 101), "{case}");
    }
}

/// Rooms that are not damaged are migrated. Nodes do not start until the damaged one is corrected.
#[actix_rt::test]
async fn a_damaged_room_is_named_and_the_others_are_migrated() {
    let mongo = Mongo::start().await;
    let database = database(&mongo).await;
    let directory = MongoDirectory::new(&database);
    let rooms = database.collection::<Document>("rooms");
    let damages =
        [vec![member("not a name", "owner")], vec![member("alice", "king")], vec![member("alice", "member")]];
    for damaged in damages {
        rooms
            .insert_many([version_1("bad", damaged, 1), version_1("good", vec![member("alice", "owner")], 1)])
            .await
            .unwrap();
        let refused = directory.migrate(&no_nodes()).await.unwrap_err();
        let MigrationError::Rooms { count: 1, room: name, .. } = &refused else { panic!("{refused:?}") };
        assert_eq!(name, "bad");
        assert!(directory.find(&room("good")).await.unwrap().is_some());
        assert!(directory.refusal().await.unwrap().is_some());
        let corrected = doc! { "$set": { "members": [member("alice", "owner")] } };
        rooms.update_one(doc! { "_id": "bad" }, corrected).await.unwrap();
        assert_eq!(directory.migrate(&no_nodes()).await.unwrap(), 1);
        assert_eq!(directory.refusal().await, Ok(None));
        for name in ["rooms", "members", "changes", "schema"] {
            database.collection::<Document>(name).drop().await.unwrap();
        }
    }
}
