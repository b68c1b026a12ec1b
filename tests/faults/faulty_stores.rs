//! The split system on stores that refuse writes, that are restored to an older state, or that another deployment shares.

use std::time::Duration;

use mongodb::{
    Client,
    bson::{Document, doc},
};
use serde_json::json;
use testkit::{MongoFault, RedisFault};
use tokio::time::sleep;

use super::write_faults::node_of;
use crate::support::{
    ACCOUNTS, ConnectedUser, NODES, Request, Response, Socket, TestServer, TestUser, with_timeout,
};

/// Two users on different nodes.
async fn on_two_nodes(server: &TestServer) -> (ConnectedUser, ConnectedUser) {
    let first = server.connected_user("first").await;
    for n in 0..50 {
        let other = server.connected_user(&format!("other{n}")).await;
        if node_of(&other) != node_of(&first) {
            return (first, other);
        }
    }
    panic!("all users are on the same node");
}

/// Waits until `/readyz` of a process names this cause.
async fn wait_for_cause(server: &TestServer, process: usize, word: &str) {
    with_timeout(&format!("process {process} to name {word:?}"), async {
        while !server.system.readiness(process).await.contains(word) {}
    })
    .await;
}

#[tokio::test]
async fn while_redis_refuses_writes_messages_are_delivered_and_logins_are_refused() {
    let mut server = TestServer::start_split().await;
    let (mut alice, mut bob) = on_two_nodes(&server).await;
    let carol = server.user("carol").await;
    for fault in RedisFault::ALL {
        let redis = &server.system.stores.as_ref().expect("a split system").redis;
        fault.inject(redis);
        let (one, two) = (format!("one {fault:?}"), format!("two {fault:?}"));
        alice.send_message(&one).await;
        bob.receive_message(&one).await;
        bob.send_message(&two).await;
        alice.receive_message(&two).await;
        for process in [ACCOUNTS, NODES[0], NODES[1]] {
            wait_for_cause(&server, process, fault.word()).await;
        }
        with_timeout("the log to name the cause", async {
            while !server.system.log().contains(fault.word()) {
                sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
        for password in [carol.password.as_str(), "a wrong guess"] {
            let credentials = json!({"username": "carol", "password": password});
            let login =
                server.unregistered_user("carol").send(Request::post("/user/login", &credentials)).await;
            assert_eq!(login.status, 503, "{fault:?}: reveals whether a password is right: {login:?}");
        }
        assert_eq!(carol.get("/user/me").await.status, 200, "{fault:?}");
        fault.clear(&server.system.stores.as_ref().expect("a split system").redis);
        server.system.wait_until_ready().await;
        let cleared = format!("cleared {fault:?}");
        alice.send_message(&cleared).await;
        bob.receive_message(&cleared).await;
    }
}

#[tokio::test]
async fn while_mongodb_refuses_writes_no_message_is_acked_or_delivered_and_the_cause_is_named() {
    let mut server = TestServer::start_split().await;
    let (mut alice, mut bob) = on_two_nodes(&server).await;
    for fault in MongoFault::ALL {
        server.system.stores.as_ref().expect("a split system").mongo.fail_writes(fault).await;
        let text = format!("sent {fault:?}");
        let refused = alice.emit_with_ack("message", &json!({"text": text, "clientId": text})).await;
        assert_eq!((&refused["ok"], &refused["code"]), (&json!(false), &json!("unavailable")), "{fault:?}");
        for process in [ACCOUNTS, NODES[0], NODES[1]] {
            wait_for_cause(&server, process, fault.word()).await;
        }
        server.system.stores.as_ref().expect("a split system").mongo.restore_writes().await;
        server.system.wait_until_ready().await;
        with_timeout("the same message to be stored", async {
            while alice.emit_with_ack("message", &json!({"text": text, "clientId": text})).await["ok"] != true
            {
            }
        })
        .await;
        bob.receive_message(&text).await;
    }
    let stored = alice.user.read_history("lobby").await;
    assert_eq!(stored.len(), MongoFault::ALL.len(), "each is stored once: {stored:?}");
}

/// The copy of old changes is refused: it costs at most one reload of a client. The nodes stay ready and name the collection and the cause.
#[tokio::test]
async fn while_old_changes_cannot_be_copied_nodes_are_degraded_and_work() {
    let mut server = TestServer::start_split().await;
    let (mut alice, mut bob) = on_two_nodes(&server).await;
    alice.user.create_room("den", false).await;
    bob.join("den").await;
    let uri = server.system.stores.as_ref().expect("a split system").mongo.uri();
    let database =
        Client::with_uri_str(uri).await.expect("an address").default_database().expect("it is named");
    let validate = async |validator: Document| {
        let validate = doc! {"collMod": "changes", "validator": validator, "validationLevel": "strict"};
        database.run_command(validate).await.expect("the collection exists");
    };
    validate(doc! {"absent": {"$exists": true}}).await;
    let position = bob.emit_with_ack("join", &json!({"room": "den", "rev": 0, "enter": false})).await;
    let words = [
        "\"degraded\"",
        "validator",
        "update of changes",
        "121 DocumentValidationFailure",
        "load the room anew",
    ];
    let named = Box::pin(async {
        let mut private = false;
        loop {
            private = !private;
            Box::pin(make_private(&alice.user, private)).await;
            for node in NODES {
                let readiness = server.system.readiness(node).await;
                if words.iter().all(|word| readiness.contains(word)) {
                    return;
                }
                let is_named = readiness.contains("of changes");
                assert!(!is_named || readiness.contains("\"degraded\""), "{readiness}");
            }
        }
    });
    with_timeout("a node to name the cause", named).await;
    alice.send_message("works").await;
    bob.receive_message("works").await;
    validate(doc! {}).await;
    server.system.wait_until_ready().await;
    with_timeout("the nodes to be ready without a warning", async {
        for node in NODES {
            while server.system.readiness(node).await.contains("degraded") {}
        }
    })
    .await;
    let since = json!({"room": "den", "rev": position["rev"], "enter": false});
    let answer = bob.emit_with_ack("join", &since).await;
    assert_eq!(answer["ok"], true, "{answer}");
    let changes = answer["changes"].as_array().expect("a list");
    assert_eq!((changes.len(), &answer["reset"]), (1, &serde_json::Value::Null), "{answer}");
}

/// Makes the room `den` private or public, as soon as the rate limit permits it.
async fn make_private(owner: &TestUser, private: bool) {
    let body = json!({"private": private});
    let patch = || Request::new("PATCH", "/rooms/den").json(&body);
    let changed = async {
        while owner.request(patch()).await.status == 429 {
            sleep(Duration::from_millis(50)).await;
        }
    };
    with_timeout("a change within the limit", changed).await;
}

/// Redis refuses messages, and MongoDB the notes of rooms with such messages: no message can be acked.
#[tokio::test]
async fn a_node_that_can_neither_publish_nor_note_messages_is_not_ready() {
    let server = TestServer::start_split().await;
    let mut alice = server.connected_user("alice").await;
    let stores = server.system.stores.as_ref().expect("a split system");
    let client = Client::with_uri_str(stores.mongo.uri()).await.expect("an address");
    let database = client.default_database().expect("it is named");
    // It exists already if a message was noted.
    let _ = database.create_collection("untold").await;
    let validate = async |validator: Document| {
        database.run_command(doc! {"collMod": "untold", "validator": validator}).await.expect("it exists");
    };
    validate(doc! {"absent": {"$exists": true}}).await;
    stores.redis.execute("ACL SETUSER godzilla -xadd");
    let node = NODES[usize::from(node_of(&alice) != "one")];
    let state = async |word: &str| {
        let readiness = server.system.readiness(node).await;
        readiness.contains("update of untold") && readiness.contains(word)
    };
    let named = Box::pin(async {
        loop {
            let ack = alice.emit_with_ack("message", &json!({"text": "refused"})).await;
            assert_eq!(ack["ok"], false, "{ack}");
            if state("\"code\":503").await {
                return;
            }
            // Below the rate limit.
            sleep(Duration::from_millis(150)).await;
        }
    });
    with_timeout("the node to be unready", named).await;
    stores.redis.execute("ACL SETUSER godzilla +xadd");
    let degraded = Box::pin(async {
        while alice.emit_with_ack("message", &json!({"text": "accepted"})).await["ok"] != true {
            sleep(Duration::from_millis(150)).await;
        }
        while !state("\"degraded\"").await {}
    });
    with_timeout("the node to be degraded", degraded).await;
    validate(doc! {}).await;
    with_timeout("the node to be ready", async {
        while server.system.readiness(node).await.contains("untold") {}
    })
    .await;
}

/// A socket that stays open: after a restore the nodes close their sockets in several steps.
async fn reconnect(user: &TestUser) -> Socket {
    with_timeout("a socket that stays open", async {
        loop {
            if let Ok(mut socket) = user.try_connect(user.handshake()).await
                && socket.is_open_for(Duration::from_secs(3)).await
            {
                return socket;
            }
        }
    })
    .await
}

/// The numbers of lost messages are assigned again: a client with one of the lost messages reloads and receives the new messages.
#[tokio::test]
async fn when_messages_are_restored_from_a_backup_all_clients_reload() {
    let server = TestServer::start_split().await;
    let (mut alice, mut bob) = on_two_nodes(&server).await;
    for n in 1..=6 {
        alice.send_message(&format!("old {n}")).await;
        bob.receive_message(&format!("old {n}")).await;
    }
    let uri = server.system.stores.as_ref().expect("a split system").mongo.uri();
    let client = Client::with_uri_str(uri).await.expect("an address");
    let messages =
        client.default_database().expect("a URI with a database").collection::<Document>("messages");
    messages.delete_many(doc! {"seq": {"$gt": 3_i64}}).await.expect("changes");
    alice.closed().await;
    bob.closed().await;
    let (mut alice, mut bob) = (reconnect(&alice.user).await, reconnect(&bob.user).await);
    let sent = alice.send_message("new 4").await;
    assert_eq!(sent["seq"], 4, "{sent}");
    bob.receive_message("new 4").await;
    bob.send_message("new 5").await;
    alice.receive_message("new 5").await;
    // A client with a position after the end receives the room from its beginning, not an empty page.
    let joined = alice.emit_with_ack("join", &json!({"room": "lobby", "since": 6})).await;
    assert_eq!(
        (&joined["head"], &joined["reset"], joined["messages"].as_array().map(Vec::len)),
        (&json!(5), &json!(true), Some(5)),
        "{joined}"
    );
}

#[tokio::test]
async fn deployments_on_the_same_stores_are_isolated() {
    let here = TestServer::start_split().await;
    let there = here.start_beside("blue").await;
    let (mut alice, mut bob) = (here.connected_user("alice").await, here.connected_user("bob").await);
    let (mut other_alice, mut other_bob) =
        (there.connected_user("alice").await, there.connected_user("bob").await);
    let mut foreign = there.unregistered_user("alice");
    foreign.token = alice.user.token.clone();
    assert_eq!(foreign.get("/user/me").await.status, 401, "a session of another deployment");
    alice.send_message("here").await;
    other_alice.send_message("there").await;
    bob.receive_message("here").await;
    other_bob.receive_message("there").await;
    assert_eq!((bob.texts(), other_bob.texts()), (vec!["here"], vec!["there"]));
    there.connected_user("carol").await;
    alice.until("presence", |presence| presence["online"] == json!(["alice", "bob"])).await;
    other_alice.user.log_out().await;
    other_alice.closed().await;
    alice.send_message("still here").await;
    bob.receive_message("still here").await;
    assert_eq!(alice.user.get("/user/me").await.status, 200);
}

/// The nodes and the users of both deployments have the same names.
#[tokio::test]
async fn deployments_that_share_a_presence_service_see_only_their_own_users() {
    let here = TestServer::start_split().await;
    let there = here.start_within("blue").await;
    let (mut alice, mut bob) = (here.connected_user("alice").await, here.connected_user("bob").await);
    let (mut other_alice, mut carol) =
        (there.connected_user("alice").await, there.connected_user("carol").await);
    carol.until("presence", |presence| presence["online"] == json!(["alice", "carol"])).await;
    alice.until("presence", |presence| presence["online"] == json!(["alice", "bob"])).await;
    carol.emit_with_ack("typing", &json!({"isTyping": true})).await;
    other_alice.until("typing", |typing| typing["users"] == json!(["carol"])).await;
    let listed = |presence: Response| presence.expect(200).json()["online"].clone();
    assert_eq!(listed(alice.user.get("/presence/online").await), json!(["alice", "bob"]));
    assert_eq!(listed(carol.user.get("/presence/online").await), json!(["alice", "carol"]));
    // A fence: every earlier event to alice has arrived.
    bob.emit_with_ack("typing", &json!({"isTyping": true})).await;
    alice.until("typing", |typing| typing["users"] == json!(["bob"])).await;
    assert_eq!(alice.waiting("typing", |typing| typing.to_string().contains("carol")), 0);
    assert_eq!(alice.waiting("presence", |presence| presence.to_string().contains("carol")), 0);
}
