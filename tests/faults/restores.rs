//! Stores that are restored to an older state while clients hold newer positions: a client with a position of a replaced history reloads
//! the room, however it sends the position; other clients continue.

use std::time::Duration;

use mongodb::{
    Client, Database,
    bson::{Document, doc},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{ConnectedUser, Request, Socket, TestServer, TestUser, with_timeout};

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
