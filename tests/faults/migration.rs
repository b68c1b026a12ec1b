//! The migration of rooms that the release before has written: chat nodes refuse the start until `godzilla migrate --up` has run, and then every
//! room, member, role and position is the same.

use std::{
    io::{BufRead, BufReader},
    process::{Output, Stdio},
};

use mongodb::{
    Client, Database,
    bson::{DateTime, Document, doc},
};
use remote::redis::{self, AsyncCommands};
use serde_json::{Value, json};

use super::write_faults;
use crate::support::{NODES, Request, TestServer, TestUser, program};

/// The number of changes of the room `tea`.
const CHANGES: i64 = 100;

/// The number of those that are copied to the collection of changes.
const COPIED: i64 = 64;

/// The number of rooms besides `tea`.
const ROOMS: i64 = 600;

async fn database(server: &TestServer) -> Database {
    let uri = server.system.stores.as_ref().expect("a split system").mongo.uri();
    Client::with_uri_str(uri).await.expect("an address").default_database().expect("a URI with a database")
}

/// A room as the release before stores it.
fn room(name: &str, members: &[(&str, &str)], version: i64) -> Document {
    let member = |(name, role): &(&str, &str)| {
        let mut member = doc! {"username": name, "key": name.to_lowercase(), "role": role};
        if *name == "bob" {
            member.extend(doc! {"by": "alice", "by_key": "alice"});
        }
        member
    };
    doc! {
        "_id": name, "private": false, "ephemeral": false, "settings": {}, "archived": false, "departures": [], "base": 0_i64,
        "members": members.iter().map(member).collect::<Vec<_>>(), "version": version, "changed": DateTime::now(), "recent": [],
    }
}

/// The room `tea`: alice has created it, bob was added, carol has joined, and then its settings have changed.
fn tea() -> (Document, Vec<Document>) {
    let settings =
        doc! {"private": false, "ephemeral": false, "settings": {}, "owner": "alice", "members": 3_i64};
    let recent = (CHANGES - 63..=CHANGES).map(|version| {
        let item = doc! {"type": "room", "settings": settings.clone()};
        doc! {"version": version, "at": DateTime::now(), "by": "node", "what": "other", "actor": "alice", "items": [item]}
    });
    let mut tea = room("tea", &[("alice", "owner"), ("bob", "member"), ("carol", "member")], CHANGES);
    tea.extend(doc! {
        "recent": recent.collect::<Vec<_>>(), "logged": COPIED, "log_floor": 0_i64, "log_parts": 4_i64,
    });
    let row = |kind: &str, key: &str, rev: i64| {
        let id = doc! {"room": "tea", "type": kind, "key": key};
        doc! {"_id": id, "room": "tea", "type": kind, "key": key, "rev": rev}
    };
    let members = [("alice", 1), ("bob", 2), ("carol", 3)].map(|(name, rev)| row("member", name, rev));
    (tea, [row("room", "", COPIED)].into_iter().chain(members).collect())
}

/// Replaces all rooms by those of the release before, in the collections and with the indexes that it has.
async fn write_earlier_rooms(database: &Database) {
    // Without a drop, which ends the history.
    for name in ["members", "schema", "changes"] {
        database.collection::<Document>(name).delete_many(doc! {}).await.expect("MongoDB deletes them");
    }
    let rooms = database.collection::<Document>("rooms");
    rooms.drop_indexes().await.expect("MongoDB drops them");
    rooms.delete_many(doc! {}).await.expect("MongoDB deletes them");
    let index = |name: &str, key: &str| doc! {"name": name, "key": {key: 1}};
    let indexes = [index("members", "members.key"), index("adders", "members.by_key")];
    let create = doc! {"createIndexes": "rooms", "indexes": indexes.to_vec()};
    database.run_command(create).await.expect("MongoDB creates them");
    let (tea, rows) = tea();
    let names: Vec<String> = (0..ROOMS).map(|n| format!("room{n}")).collect();
    let others = names.iter().map(|name| room(name, &[("dave", "owner")], 1));
    rooms.insert_many(others.chain([tea])).await.expect("MongoDB stores them");
    database.collection("changes").insert_many(rows).await.expect("MongoDB stores them");
}

fn migrate(server: &TestServer, more: &[&str]) -> std::process::Command {
    let stores = server.system.stores.as_ref().expect("a split system");
    let mut command = program();
    command.args(["migrate", "--mongo-uri", &stores.mongo.uri(), "--redis-url", &stores.redis.url()]);
    command.args(more);
    command
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Runs the tool. Returns what it prints.
fn run(server: &TestServer, more: &[&str], status: i32) -> String {
    let output = migrate(server, more).output().expect("the tool starts");
    assert_eq!(output.status.code(), Some(status), "{}", text(&output));
    text(&output)
}

/// What a client receives that has the change `rev` of `tea`.
async fn since(user: &TestUser, rev: i64) -> Vec<Value> {
    let answer = user.get(&format!("/rooms/tea/changes?rev={rev}")).await;
    assert_eq!(answer.status, 200, "after {rev}: {answer:?}");
    let answer = answer.json();
    assert_eq!((&answer["rev"], &answer["reset"]), (&json!(CHANGES), &Value::Null), "{answer}");
    answer["changes"].as_array().expect("a list").iter().map(|change| change["rev"].clone()).collect()
}

/// Starts a chat node, which refuses.
async fn expect_refused_start(server: &mut TestServer) {
    let node = NODES[0];
    let before = server.system.log().matches("`godzilla migrate --up`").count();
    server.system.start_process(node);
    assert_eq!(server.system.wait_for_exit(node).await.code(), Some(1));
    assert!(
        server.system.log().matches("`godzilla migrate --up`").count() > before,
        "{}",
        server.system.log()
    );
}

#[tokio::test]
async fn rooms_of_the_release_before_are_migrated_and_people_chat_on() {
    let mut server = TestServer::start_split().await;
    let [alice, bob, carol] =
        [server.user("alice").await, server.user("bob").await, server.user("carol").await];
    assert!(run(&server, &["--up"], 0).contains("Nothing was changed"));
    for node in NODES {
        server.system.stop_process(node).await;
    }
    let database = database(&server).await;
    write_earlier_rooms(&database).await;
    expect_refused_start(&mut server).await;
    assert!(run(&server, &["--status"], 3).contains(&format!("{} rooms", ROOMS + 1)));

    assert!(run(&server, &["--plan"], 0).contains(&format!("the members of {} rooms", ROOMS + 1)));

    // A node of the release before runs.
    expect_refused_while_a_node_runs(&server).await;
    assert!(run(&server, &["--status"], 3).contains(&format!("{} rooms", ROOMS + 1)));

    // The migration is killed after its first rooms.
    let mut killed = migrate(&server, &["--up"]).stdout(Stdio::piped()).spawn().expect("the tool starts");
    let lines = BufReader::new(killed.stdout.take().expect("a pipe")).lines();
    let progress = lines.map_while(Result::ok).find(|line| line.contains("are left"));
    killed.kill().expect("a process");
    killed.wait().expect("a process");
    assert!(progress.is_some());
    let rooms = database.collection::<Document>("rooms");
    let left = rooms.count_documents(doc! {"members": {"$exists": true}}).await.expect("MongoDB responds");
    assert!(left > 0 && left <= ROOMS.unsigned_abs(), "{left} rooms are left");
    expect_refused_start(&mut server).await;
    // MongoDB may have executed further writes of the killed process.
    assert!(run(&server, &["--up"], 0).contains("rooms were migrated"));
    assert!(run(&server, &["--up"], 0).contains("Nothing was changed"));
    run(&server, &["--status"], 0);

    for node in NODES {
        server.system.start_process(node);
    }
    server.system.wait_until_ready().await;
    let listed = alice.get("/rooms/tea").await.expect(200).json();
    let members = json!([
        {"username": "alice", "role": "owner"}, {"username": "bob", "role": "member"}, {"username": "carol", "role": "member"},
    ]);
    assert_eq!((&listed["members"], &listed["owner"]), (&members, &json!("alice")), "{listed}");
    assert_eq!(since(&alice, 1).await, [2, 3, CHANGES]);
    assert_eq!(since(&alice, 2).await, [3, CHANGES]);
    assert_eq!(since(&alice, COPIED).await, [CHANGES]);
    chat_on([&alice, &bob, &carol]).await;
}

/// Clients go on from the change that they have, and members are added and removed.
async fn chat_on([alice, bob, carol]: [&TestUser; 3]) {
    let (mut owner, mut member) = (alice.connect().await, bob.connect().await);
    for tab in [&mut owner, &mut member] {
        let joined = tab.emit_with_ack("join", &json!({"room": "tea", "rev": CHANGES})).await;
        assert_eq!((&joined["rev"], &joined["changes"]), (&json!(CHANGES), &json!([])), "{joined}");
    }
    member.send_message_to("tea", "still here").await;
    owner.receive_message("still here").await;
    alice.request(Request::new("DELETE", "/rooms/tea/members/carol")).await.expect(200);
    let change = member.until("change", |change| change["rev"] == CHANGES + 1).await;
    assert_eq!(change["items"][0]["member"], json!({"username": "carol", "role": null}), "{change}");
    let mut removed = carol.connect().await;
    let refused = removed.emit_with_ack("message", &json!({"room": "tea", "text": "x"})).await;
    assert_eq!(refused["ok"], false, "{refused}");
}

async fn expect_refused_while_a_node_runs(server: &TestServer) {
    let client = redis::Client::open(write_faults::redis(server).admin_url()).expect("an address");
    let mut redis = client.get_multiplexed_async_connection().await.expect("Redis responds");
    let now: (i64, i64) = redis::cmd("TIME").query_async(&mut redis).await.expect("Redis responds");
    let lease = format!("{} http://10.0.0.9:3000 open", (now.0 + 60) * 1_000);
    redis.hset::<_, _, _, ()>("chat:nodes", "old", lease).await.expect("Redis responds");
    let refused = run(server, &["--up"], 1);
    assert!(refused.contains("chat nodes run: old at http://10.0.0.9:3000; stop all of them"), "{refused}");
    redis.hdel::<_, _, ()>("chat:nodes", "old").await.expect("Redis responds");
}
