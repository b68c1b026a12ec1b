//! Stores that are restored to an older state while clients hold newer positions: a client with a position of a replaced history reloads
//! the room, however it sends the position; other clients continue.

use std::time::Duration;

use mongodb::{
    Client, Database,
    bson::{Document, doc},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{ConnectedUser, NODES, Request, Socket, TestServer, TestUser, with_timeout};

/// What is restored, and whether the roles run meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Restore {
    /// The messages: the newer ones are deleted.
    Messages,
    /// The messages, as `mongorestore` does it, while the roles are stopped.
    Dump,
    /// As `Dump`, and Redis is flushed.
    DumpAndFlush,
    /// Messages and Redis, both to about the same time.
    Both,
    /// Redis, to an older state.
    Redis,
    /// Redis, to an empty state.
    Flush,
}

impl Restore {
    const ALL: [Self; 6] =
        [Self::Messages, Self::Dump, Self::DumpAndFlush, Self::Both, Self::Redis, Self::Flush];

    fn replaces_the_history(self) -> bool {
        !matches!(self, Self::Redis | Self::Flush)
    }

    fn stops_the_roles(self) -> bool {
        matches!(self, Self::Dump | Self::DumpAndFlush | Self::Both)
    }
}

/// The number of messages in the backup.
const KEPT: i64 = 3;

/// The number of messages at the time of the restore.
const SENT: i64 = 6;

async fn database(server: &TestServer) -> Database {
    let uri = server.system.stores.as_ref().expect("a split system").mongo.uri();
    Client::with_uri_str(uri).await.expect("an address").default_database().expect("a URI with a database")
}

/// Deletes the newer messages; with `recreates` also drops the collection and inserts the rest again.
async fn restore_messages(server: &TestServer, recreates: bool) {
    let database = database(server).await;
    let newer = doc! {"room": "lobby", "seq": {"$gt": KEPT}};
    database.collection::<Document>("messages").delete_many(newer).await.expect("changes");
    if !recreates {
        return;
    }
    let name = "messages";
    let old = database.collection::<Document>(name);
    let mut found = old.find(doc! {}).await.expect("MongoDB responds");
    let mut documents = Vec::new();
    while found.advance().await.expect("MongoDB responds") {
        documents.push(found.deserialize_current().expect("a document"));
    }
    old.drop().await.expect("changes");
    database.create_collection(name).await.expect("changes");
    old.insert_many(documents).await.expect("changes");
}

async fn restore(server: &mut TestServer, how: Restore, copy: &TempDir) {
    if how.stops_the_roles() {
        server.system.kill();
    }
    if how.replaces_the_history() {
        restore_messages(server, how != Restore::Messages).await;
    }
    let redis = &mut server.system.stores.as_mut().expect("a split system").redis;
    match how {
        Restore::DumpAndFlush | Restore::Flush => {
            // The keys of sessions stay: they are not part of this test.
            for key in
                ["epoch", "offset", "base", "stream", "heads", "last", "marks", "run", "replaced", "since"]
            {
                redis.execute(&format!("DEL {{log}}:{key}"));
            }
        }
        Restore::Both | Restore::Redis => redis.restore_data(copy),
        Restore::Messages | Restore::Dump => {}
    }
    if how.stops_the_roles() {
        server.system.restart().await;
    }
    if how.replaces_the_history() {
        server.system.wait_for_log("clients reload").await;
    }
    server.system.wait_until_ready().await;
}

/// A socket that stays open: after a restore the nodes close their sockets in several steps.
async fn connect(user: &TestUser, auth: Value) -> Socket {
    with_timeout("a socket that stays open", async {
        loop {
            if let Ok(mut socket) = user.try_connect(user.handshake().auth(auth.clone())).await
                && socket.is_open_for(Duration::from_secs(2)).await
            {
                return socket;
            }
        }
    })
    .await
}

/// Sends a position in every way that the API has, and returns the responses.
async fn responses(user: &TestUser, pid: &str, offset: &str) -> Vec<(&'static str, Value)> {
    let since = SENT;
    let mut recovered = connect(user, json!({"pid": pid, "offset": offset})).await;
    let by_session = recovered.emit_with_ack("join", &json!({"room": "lobby", "since": since})).await;
    let again = recovered.emit_with_ack("join", &json!({"room": "lobby", "since": by_session["head"]})).await;
    assert_eq!(again["reset"], Value::Null, "the room is loaded: {again}");
    let mut fresh = connect(user, json!({})).await;
    let named = json!({"room": "lobby", "since": since, "offset": offset});
    let by_join = fresh.emit_with_ack("join", &named).await;
    let by_history =
        fresh.emit_with_ack("history", &json!({"room": "lobby", "after": since, "offset": offset})).await;
    let target = format!("/rooms/lobby/messages?after={since}&offset={offset}");
    let by_http = user.request(Request::get(&target)).await.expect(200).json();
    vec![("session", by_session), ("join", by_join), ("history", by_history), ("http", by_http)]
}

#[tokio::test]
async fn a_client_with_a_position_of_a_replaced_history_reloads_and_others_continue() {
    for how in Restore::ALL {
        let mut server = TestServer::start_split().await;
        let mut alice = server.connected_user("alice").await;
        let mut bob = server.connected_user("bob").await;
        let mut copy = None;
        for n in 1..=SENT {
            alice.send_message(&format!("old {n}")).await;
            bob.receive_message(&format!("old {n}")).await;
            if n == KEPT {
                copy = Some(server.system.stores.as_ref().expect("a split system").redis.copy_data());
            }
        }
        let (pid, offset) = (bob.pid.clone(), bob.offset.clone().expect("messages have offsets"));
        let bob = {
            let ConnectedUser { user, .. } = bob;
            user
        };
        Box::pin(restore(&mut server, how, &copy.expect("a backup"))).await;
        // The room grows beyond bob's position.
        let mut alice = connect(&alice.user, json!({})).await;
        for n in 1..=SENT {
            alice.send_message(&format!("new {n}")).await;
        }
        // The first of the six messages after the third message, or after the sixth.
        let begins = if how.replaces_the_history() { "old 1" } else { "new 1" };
        for (way, answer) in responses(&bob, &pid, &offset).await {
            let is_reset = answer["reset"] == true;
            assert_eq!(is_reset, how.replaces_the_history(), "{how:?} {way}: {answer}");
            let messages = answer["messages"].as_array().expect("messages");
            // Pages are newest first.
            let first = messages.iter().min_by_key(|message| message["seq"].as_u64());
            assert_eq!(first.expect("a message")["data"]["text"], begins, "{how:?} {way}: {answer}");
        }
        // A position of the present history is valid, and so is one in the format of an earlier release.
        let now = alice.offset.clone().expect("welcome has an offset");
        let (epoch, at) = now.rsplit_once('-').expect("an offset");
        for valid in [now.clone(), format!("{}-{at}", &epoch[..16])] {
            let named = json!({"room": "lobby", "since": SENT, "offset": valid});
            let answer = alice.emit_with_ack("join", &named).await;
            assert_eq!(
                (&answer["reset"], answer["offset"].is_string()),
                (&Value::Null, true),
                "{how:?}: {answer}"
            );
        }
    }
}

/// The names of the members of a room, as the server lists them.
async fn members(user: &TestUser, room: &str) -> Vec<String> {
    let listed = user.get(&format!("/rooms/{room}")).await.expect(200).json();
    let members = listed["members"].as_array().expect("a list").iter();
    members.map(|member| member["username"].as_str().expect("a name").to_owned()).collect()
}

/// Only rooms have changed since the backup, so no message is missing. Users who are no members by the store are not listed, and clients
/// reload.
#[tokio::test]
async fn members_are_those_of_the_restored_store_when_no_message_is_missing() {
    let mut server = TestServer::start_split().await;
    let alice = server.connected_user("alice").await;
    let mut bob = server.connected_user("bob").await;
    alice.user.create_room("tea", false).await;
    alice.user.add_member("bob", "tea").await.expect(200);
    let rooms = database(&server).await.collection::<Document>("rooms");
    let backup = rooms.find_one(doc! {"_id": "tea"}).await.expect("MongoDB responds").expect("a room");
    for n in 0..4 {
        server.user(&format!("ghost{n}")).await;
        alice.user.add_member(&format!("ghost{n}"), "tea").await.expect(200);
    }
    bob.until("change", |change| change["rev"] == 6).await;
    let offset = bob.offset.clone().expect("changes have offsets");
    with_timeout("the members in their collection", async {
        let pending = doc! {"_id": "tea", "pending": {"$exists": true}};
        while rooms.find_one(pending.clone()).await.expect("MongoDB responds").is_some() {}
    })
    .await;
    let newer = doc! {"room": "tea", "rev": {"$gt": 2_i64}};
    database(&server).await.collection::<Document>("members").delete_many(newer).await.expect("changes");
    rooms.replace_one(doc! {"_id": "tea"}, backup).await.expect("changes");
    bob.closed().await;
    server.system.wait_for_log("clients reload").await;
    server.system.wait_until_ready().await;
    let mut socket = connect(&bob.user, json!({"pid": bob.pid.clone(), "offset": offset.clone()})).await;
    let joined = socket.emit_with_ack("join", &json!({"room": "tea", "rev": 6, "offset": offset})).await;
    assert_eq!((&joined["reset"], &joined["rev"]), (&json!(true), &json!(2)), "{joined}");
    with_timeout("the members of the store", async {
        while members(&alice.user, "tea").await != ["alice", "bob"] {}
    })
    .await;
    // Numbers that were assigned before are published again.
    for rev in 3..=8 {
        let private = json!({"private": rev % 2 == 0});
        alice.user.request(Request::new("PATCH", "/rooms/tea").json(&private)).await.expect(200);
        let change = socket.until("change", |change| change["rev"] == rev).await;
        assert_eq!(change["after"], rev - 1, "{change}");
    }
    assert_eq!(members(&alice.user, "tea").await, ["alice", "bob"]);
}

/// The collection of rooms is dropped, and messages stay. The names of the rooms are taken, no former member receives messages, and the loss
/// is named until the rooms are restored.
#[tokio::test]
async fn a_dropped_collection_of_rooms_frees_no_name_and_is_named() {
    let mut server = TestServer::start_split().await;
    let mut alice = server.connected_user("alice").await;
    let mut bob = server.connected_user("bob").await;
    let mallory = server.user("mallory").await;
    alice.user.create_room("secret", true).await;
    alice.user.add_member("bob", "secret").await.expect(200);
    alice.send_message_to("secret", "the secret").await;
    let rooms = database(&server).await.collection::<Document>("rooms");
    let backup = rooms.find_one(doc! {"_id": "secret"}).await.expect("MongoDB responds").expect("a room");
    rooms.drop().await.expect("changes");
    mallory.post("/rooms", &json!({"name": "secret"})).await.expect(409);
    alice.closed().await;
    bob.closed().await;
    let state = async |degraded: bool| {
        with_timeout("readiness", async {
            loop {
                let mut is_as_expected = true;
                for node in NODES {
                    let readiness = server.system.readiness(node).await;
                    let is_named = readiness.contains("restore it from the latest backup");
                    is_as_expected &= is_named == degraded && !readiness.contains("503");
                }
                if is_as_expected {
                    return;
                }
            }
        })
        .await;
    };
    state(true).await;
    assert!(server.system.log().contains("of the room secret"));
    mallory.post("/rooms", &json!({"name": "secret"})).await.expect(409);
    rooms.insert_one(backup).await.expect("changes");
    state(false).await;
    server.system.wait_until_ready().await;
    let mut bob = connect(&bob.user, json!({})).await;
    let joined = bob.emit_with_ack("join", &json!({"room": "secret", "since": 0})).await;
    assert_eq!(joined["messages"][0]["data"]["text"], "the secret", "{joined}");
}
