//! Presence and typing.

use serde_json::{Value, json};

use crate::support::{Socket, TestServer};

#[tokio::test]
async fn presence_lists_connected_users() {
    let server = TestServer::start().await;
    let mut alice = server.connected_user("alice").await;
    receive_online(&mut alice, &["alice"]).await;
    let bob = server.connected_user("bob").await;
    receive_online(&mut alice, &["alice", "bob"]).await;

    let listed = alice.user.get("/presence/online").await.expect(200).json();
    assert_eq!(listed, json!({"online": ["alice", "bob"]}));
    drop(bob);
    receive_online(&mut alice, &["alice"]).await;
}

#[tokio::test]
async fn a_user_with_three_tabs_is_online_until_the_last_tab_closes() {
    let server = TestServer::start().await;
    let mut bob = server.connected_user("bob").await;
    let alice = server.user("alice").await;
    let (one, two, three) = (alice.connect().await, alice.connect().await, alice.connect().await);
    receive_online(&mut bob, &["alice", "bob"]).await;

    drop(two);
    drop(one);
    let carol = server.connected_user("carol").await;
    // Every presence event until then includes alice, who still has a connection.
    bob.until("presence", |presence| {
        assert!(names(presence).contains(&"alice"), "alice is offline with an open connection: {presence}");
        names(presence).contains(&"carol")
    })
    .await;
    drop(carol);
    bob.until("presence", |presence| {
        assert!(names(presence).contains(&"alice"), "alice is offline with an open connection: {presence}");
        !names(presence).contains(&"carol")
    })
    .await;

    drop(three);
    receive_online(&mut bob, &["bob"]).await;
}

#[tokio::test]
async fn other_users_receive_the_start_and_end_of_typing() {
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
async fn typing_in_a_room_is_sent_to_that_room_only() {
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

/// Waits for a `presence` event with exactly these names.
async fn receive_online(socket: &mut Socket, expected: &[&str]) {
    socket.until("presence", |presence| names(presence) == expected).await;
}

fn names(presence: &Value) -> Vec<&str> {
    presence["online"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}
