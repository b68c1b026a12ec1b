//! Stores that are put back to an older state while clients hold newer positions: who holds a position of a replaced history loads
//! anew, by whatever way the position is given back, and nobody else does.

use std::time::Duration;

use mongodb::{
    Client, Database,
    bson::{Document, doc},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{ConnectedUser, Request, Socket, TestServer, TestUser, with_timeout};

/// What is put back, and whether the roles run meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Restore {
    /// The messages, by deletion of the newer ones.
    Messages,
    /// The messages, as `mongorestore` does it, while the roles are stopped.
    Dump,
    /// As before, and Redis is flushed.
    DumpAndFlush,
    /// Messages and Redis, to about the same time.
    Both,
    /// Redis to an older state.
    Redis,
    /// Redis to nothing.
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

/// The number of messages that a backup has.
const KEPT: i64 = 3;

/// The number of messages at the time of the restore.
const SENT: i64 = 6;

async fn database(server: &TestServer) -> Database {
    let uri = server.system.stores.as_ref().expect("a split system").mongo.uri();
    Client::with_uri_str(uri).await.expect("an address").default_database().expect("it is named")
}

/// Puts back the messages without the newer ones.
async fn restores_messages(server: &TestServer, recreates: bool) {
    let database = database(server).await;
    let newer = doc! {"room": "lobby", "seq": {"$gt": KEPT}};
    database.collection::<Document>("messages").delete_many(newer).await.expect("changes");
    if !recreates {
        return;
    }
    let name = "messages";
    let old = database.collection::<Document>(name);
    let mut found = old.find(doc! {}).await.expect("answers");
    let mut documents = Vec::new();
    while found.advance().await.expect("answers") {
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
        restores_messages(server, how != Restore::Messages).await;
    }
    let redis = &mut server.system.stores.as_mut().expect("a split system").redis;
    match how {
        Restore::DumpAndFlush | Restore::Flush => {
            // Sessions are Redis's, too, and not what this is about.
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

/// A socket that stays: nodes close all that are there in some steps.
async fn connect(user: &TestUser, auth: Value) -> Socket {
    with_timeout("a socket that stays", async {
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

/// By which way a position is given back.
async fn answers(user: &TestUser, pid: &str, offset: &str) -> Vec<(&'static str, Value)> {
    let since = SENT;
    let mut recovered = connects(user, json!({"pid": pid, "offset": offset})).await;
    let by_session = recovered.emit_with_ack("join", &json!({"room": "lobby", "since": since})).await;
    let again = recovered.emit_with_ack("join", &json!({"room": "lobby", "since": by_session["head"]})).await;
    assert_eq!(again["reset"], Value::Null, "it has loaded the room: {again}");
    let mut fresh = connects(user, json!({})).await;
    let named = json!({"room": "lobby", "since": since, "offset": offset});
    let by_join = fresh.emit_with_ack("join", &named).await;
    let by_history =
        fresh.emit_with_ack("history", &json!({"room": "lobby", "after": since, "offset": offset})).await;
    let target = format!("/rooms/lobby/messages?after={since}&offset={offset}");
    let by_http = user.request(Request::get(&target)).await.expect(200).json();
    vec![("session", by_session), ("join", by_join), ("history", by_history), ("http", by_http)]
}

#[tokio::test]
async fn who_holds_a_position_of_a_replaced_history_loads_anew_and_nobody_else() {
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
        Box::pin(restore(&mut server, how, &copy.expect("some are kept"))).await;
        // The room grows beyond the position that bob holds.
        let mut alice = connects(&alice.user, json!({})).await;
        for n in 1..=SENT {
            alice.send_message(&format!("new {n}")).await;
        }
        // Six messages behind the third one, or behind the sixth.
        let begins = if how.replaces_the_history() { "old 1" } else { "new 1" };
        for (way, answer) in answers(&bob, &pid, &offset).await {
            let is_reset = answer["reset"] == true;
            assert_eq!(is_reset, how.replaces_the_history(), "{how:?} {way}: {answer}");
            let messages = answer["messages"].as_array().expect("messages");
            // Pages are newest first.
            let first = messages.iter().min_by_key(|message| message["seq"].as_u64());
            assert_eq!(first.expect("some")["data"]["text"], begins, "{how:?} {way}: {answer}");
        }
        // A position of the present history, and one of an earlier release, are what they are.
        let now = alice.offset.clone().expect("the welcome has one");
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
