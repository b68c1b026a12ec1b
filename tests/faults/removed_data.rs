//! Indexes and keys that exist at the start and are removed while the roles run: the operation that needs one recreates it or is refused.

use mongodb::{
    Client, Database,
    bson::{Document, doc},
};
use serde_json::json;

use crate::support::{ACCOUNTS, Request, TestServer, with_timeout};

/// The indexes, by collection, that are created again.
const INDEXES: [(&str, &[&str]); 4] = [
    ("messages", &["room_seq", "room_author_client"]),
    ("rooms", &["pending", "departures", "changed", "members", "stop_chat_nodes_of_earlier_releases"]),
    ("members", &["of_room", "of_user", "of_adder"]),
    ("closed_sessions", &["ends_1"]),
];

/// Commands that remove something from Redis.
const LOSSES: [&str; 9] = [
    "SCRIPT FLUSH",
    "DEL chat:nodes",
    "HDEL chat:nodes one",
    "DEL sessions:run",
    "DEL sessions-of:alice",
    "DEL {log}:stream {log}:offset {log}:epoch",
    "SET {log}:heads something-else",
    "CLIENT KILL TYPE pubsub",
    "CLIENT KILL TYPE normal SKIPME yes",
];

async fn database(server: &TestServer) -> Database {
    let uri = server.system.stores.as_ref().expect("a split system").mongo.uri();
    Client::with_uri_str(uri).await.expect("an address").default_database().expect("a URI with a database")
}

async fn indexes(database: &Database, collection: &str) -> Vec<String> {
    database.collection::<Document>(collection).list_index_names().await.unwrap_or_default()
}

/// Registers, logs in and logs out. Failures are ignored: on a busy machine a store may time out.
async fn log_in_and_out(server: &TestServer, name: &str) {
    let mut leaver = server.unregistered_user(name);
    leaver.send(Request::post("/user/register", &leaver.credentials())).await;
    leaver.token = leaver.send(Request::post("/user/login", &leaver.credentials())).await.token();
    if leaver.token.is_some() {
        leaver.post("/user/logout", &json!({})).await;
    }
}

#[tokio::test]
async fn indexes_that_are_dropped_while_the_roles_run_are_created_again() {
    let server = TestServer::start_split().await;
    let database = database(&server).await;
    let alice = server.connected_user("alice").await;
    let leaver = server.user("leaver0").await;
    leaver.log_out().await;
    for (collection, names) in INDEXES {
        let found = indexes(&database, collection).await;
        assert!(names.iter().all(|name| found.iter().any(|found| found == name)), "{collection}: {found:?}");
        database.collection::<Document>(collection).drop_indexes().await.expect("MongoDB drops them");
    }
    let mut number = 0;
    for (collection, names) in INDEXES {
        with_timeout(&format!("the indexes of {collection}"), async {
            loop {
                let found = indexes(&database, collection).await;
                if names.iter().all(|name| found.iter().any(|found| found == name)) {
                    return;
                }
                // The index of closed sessions is used by a logout.
                number += 1;
                log_in_and_out(&server, &format!("leaver{number}")).await;
                tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            }
        })
        .await;
    }
    // User names, room names and the numbers of messages are primary keys: dropping indexes does not affect their uniqueness.
    let again = server.unregistered_user("alice");
    let taken = again.send(Request::post("/user/register", &again.credentials())).await;
    assert_eq!(taken.status, 409, "{taken:?}");
    alice.user.create_room("tea", false).await;
    assert_eq!(alice.user.post("/rooms", &json!({"name": "tea"})).await.status, 409);
}

#[tokio::test]
async fn keys_that_are_removed_from_redis_while_the_roles_run_are_created_again() {
    let mut server = TestServer::start_split().await;
    let (mut alice, mut bob) = (server.connected_user("alice").await, server.connected_user("bob").await);
    for (number, loss) in LOSSES.into_iter().enumerate() {
        server.system.stores.as_ref().expect("a split system").redis.execute(loss);
        let (one, two) = (format!("one {number}"), format!("two {number}"));
        alice.send_message(&one).await;
        bob.receive_message(&one).await;
        server.system.wait_until_ready().await;
        with_timeout(&format!("{loss}: a new user"), async {
            let mut carol = server.connected_user(&format!("carol{number}")).await;
            carol.send_message(&two).await;
            alice.receive_message(&two).await;
            bob.receive_message(&two).await;
            carol.user.log_out().await;
            carol.closed().await;
        })
        .await;
    }
}

/// The names of users that the collection of users lacks are not given away: not those of members of rooms, and in a collection that was
/// dropped not any name.
#[tokio::test]
async fn names_of_lost_users_are_not_given_to_others() {
    let server = TestServer::start_split().await;
    let users = database(&server).await.collection::<Document>("users");
    let alice = server.user("alice").await;
    let (member, author) = (server.user("member").await, server.connected_user("author").await);
    alice.create_room("secret", true).await;
    alice.add_member("member", "secret").await;
    let register = async |name: &str| {
        let client = server.unregistered_user(name);
        client.send(Request::post("/user/register", &client.credentials())).await
    };
    users.delete_one(doc! { "_id": "member" }).await.expect("MongoDB deletes it");
    let taken = register("alice").await.expect_refusal(409);
    for name in ["member", "MEMBER"] {
        assert_eq!(register(name).await.expect_refusal(409).body, taken.body, "{name}");
    }
    register("free").await.expect(201);
    assert_eq!(member.get("/user/me").await.status, 200, "a refused registration closes no session");

    users.drop().await.expect("MongoDB drops it");
    for name in ["author", "Author", "unused"] {
        register(name).await.expect_refusal(503);
    }
    register("member").await.expect_refusal(503);
    author.user.get("/user/me").await.expect(200);
    let readiness = server.system.readiness(ACCOUNTS).await;
    assert!(readiness.contains("another collection users than before"), "{readiness}");
    server.system.wait_for_log("another collection users than before").await;
}
