//! Who is here and who types.

use serde_json::{Value, json};

use crate::support::{Socket, TestServer};

#[tokio::test]
async fn people_see_who_comes_and_who_goes() {
    let server = TestServer::start().await;
    let mut alice = server.connected_user("alice").await;
    sees_online(&mut alice, &["alice"]).await;
    let bob = server.connected_user("bob").await;
    sees_online(&mut alice, &["alice", "bob"]).await;

    let listed = alice.user.get("/presence/online").await.expect(200).json();
    assert_eq!(listed, json!({"online": ["alice", "bob"]}));
    drop(bob);
    sees_online(&mut alice, &["alice"]).await;
}

#[tokio::test]
async fn somebody_with_three_tabs_is_online_until_the_last_one_closes() {
    let server = TestServer::start().await;
    let mut bob = server.connected_user("bob").await;
    let alice = server.user("alice").await;
    let (one, two, three) = (alice.connect().await, alice.connect().await, alice.connect().await);
    sees_online(&mut bob, &["alice", "bob"]).await;

    drop(two);
    drop(one);
    let carol = server.connected_user("carol").await;
    // Whatever bob is told on the way, alice is in it: she never left.
    bob.until("presence", |presence| {
        assert!(names(presence).contains(&"alice"), "alice left with a tab still open: {presence}");
        names(presence).contains(&"carol")
    })
    .await;
    drop(carol);
    bob.until("presence", |presence| {
        assert!(names(presence).contains(&"alice"), "alice left with a tab still open: {presence}");
        !names(presence).contains(&"carol")
    })
    .await;

    drop(three);
    sees_online(&mut bob, &["bob"]).await;
}

#[tokio::test]
async fn others_see_somebody_type_and_stop() {
    let server = TestServer::start().await;
    let alice = server.connected_user("alice").await;
    let mut bob = server.connected_user("bob").await;

    alice.emit("typing", &json!({"isTyping": true}));
    let typing = bob.until("typing", |typing| typing["users"] == json!(["alice"])).await;
    assert_eq!(typing, json!({"users": ["alice"], "room": "lobby"}));
    assert_eq!(alice.user.get("/presence/typing").await.expect(200).json(), json!({"typing": ["alice"]}));

    alice.emit("typing", &json!({"isTyping": false}));
    bob.until("typing", |typing| typing["users"] == json!([])).await;
}

#[tokio::test]
async fn typing_that_nobody_stops_expires_and_the_expiry_is_announced() {
    let server = TestServer::start().await;
    let alice = server.connected_user("alice").await;
    let mut bob = server.connected_user("bob").await;

    alice.emit("typing", &json!({"isTyping": true}));
    bob.until("typing", |typing| typing["users"] == json!(["alice"])).await;
    let typing = bob.until("typing", |typing| typing["users"] == json!([])).await;
    assert_eq!(typing["room"], "lobby");
}

#[tokio::test]
async fn somebody_who_leaves_while_typing_no_longer_types() {
    let server = TestServer::start().await;
    let alice = server.connected_user("alice").await;
    let mut bob = server.connected_user("bob").await;
    alice.emit("typing", &json!({"isTyping": true}));
    bob.until("typing", |typing| typing["users"] == json!(["alice"])).await;

    drop(alice);
    sees_online(&mut bob, &["bob"]).await;
    bob.until("typing", |typing| typing["users"] == json!([])).await;
}

#[tokio::test]
async fn typing_in_a_room_is_seen_in_that_room_only() {
    let server = TestServer::start().await;
    let mut alice = server.connected_user("alice").await;
    let mut bob = server.connected_user("bob").await;
    let mut carol = server.connected_user("carol").await;
    alice.user.create_room("den", false).await;
    alice.join("den").await;
    bob.join("den").await;

    alice.emit("typing", &json!({"isTyping": true, "room": "den"}));
    bob.until("typing", |typing| *typing == json!({"users": ["alice"], "room": "den"})).await;
    bob.emit("typing", &json!({"isTyping": true}));
    carol
        .until("typing", |typing| {
            assert_ne!(typing["room"], "den", "carol is not in the den: {typing}");
            typing["users"] == json!(["bob"])
        })
        .await;
}

/// Waits until the person is told exactly these names.
async fn sees_online(socket: &mut Socket, expected: &[&str]) {
    socket.until("presence", |presence| names(presence) == expected).await;
}

fn names(presence: &Value) -> Vec<&str> {
    presence["online"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}
