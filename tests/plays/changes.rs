//! Changes of members and rooms: live, by `join`, by recovery.

use serde_json::{Value, json};

use crate::support::{Handshake, Request, RoomState, Socket, TestServer, TestUser};

/// Reconnects with the private id and the offset of `old`. Returns the new connection and whether the session was recovered.
async fn reconnect(user: &TestUser, old: Socket) -> (Socket, bool) {
    let (pid, auth) = (old.pid.clone(), json!({"pid": old.pid, "offset": old.offset}));
    drop(old);
    let mut socket =
        user.try_connect(Handshake { auth: Some(auth), ..user.handshake() }).await.expect("connects");
    socket.next("welcome").await;
    let is_recovered = socket.pid == pid;
    (socket, is_recovered)
}

async fn patch(user: &TestUser, room: &str, private: bool) {
    let request = Request::new("PATCH", &format!("/rooms/{room}")).json(&json!({"private": private}));
    user.request(request).await.expect(200);
}

/// Makes a change of every kind that leaves the room open, of which bob stays a member. Returns how many changes there were.
async fn change_everything(owner: &TestUser, carol: &mut Socket, room: &str) -> u64 {
    carol.join(room).await;
    owner.add_member("dave", room).await.expect(200);
    patch(owner, room, true).await;
    owner.remove_member("dave", room).await.expect(200);
    carol.emit_with_ack("leave", &json!({"room": room})).await;
    patch(owner, room, false).await;
    carol.join(room).await;
    owner.remove_member(&owner.name, room).await.expect(200);
    8
}

#[tokio::test]
async fn members_receive_every_change_in_order() {
    let server = TestServer::start().await;
    let (alice, mut bob) = (server.connected_user("alice").await, server.connected_user("bob").await);
    let mut carol = server.connected_user("carol").await;
    server.user("dave").await;
    alice.user.create_room("den", false).await;
    let joined = bob.join("den").await;
    let mut state = RoomState::at(&joined);
    let before = joined["rev"].as_u64().expect("a number");
    let count = change_everything(&alice.user, &mut carol, "den").await;
    for rev in before + 1..=before + count {
        let change = bob.until("change", |change| change["rev"] == rev).await;
        assert_eq!(change["after"], rev - 1, "{change}");
        assert!(state.apply(&change), "{change}");
    }
    let owner = bob.user.get("/rooms/den").await.expect(200).json()["owner"].clone();
    assert_eq!(
        (owner, state.settings["owner"].clone()),
        (json!("bob"), json!("bob")),
        "the oldest member inherits"
    );
    assert_eq!(state.members.get("carol"), Some(&json!("member")));
    assert!(!state.members.contains_key("dave") && !state.members.contains_key("alice"), "{state:?}");
}

#[tokio::test]
async fn a_client_that_was_away_receives_all_changes_by_recovery_and_by_join() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.connected_user("alice").await, server.user("bob").await);
    let mut carol = server.connected_user("carol").await;
    server.user("dave").await;
    alice.user.create_room("den", false).await;
    let mut socket = bob.connect().await;
    let joined = socket.join("den").await;
    let mut fence = server.connected_user("fence").await;
    fence.send_message("an offset").await;
    socket.receive_message("an offset").await;
    let (mut recovering, mut joining) = (RoomState::at(&joined), RoomState::at(&joined));
    // Bob's connection is lost. The same session is used afterwards.
    let count = change_everything(&alice.user, &mut carol, "den").await;
    let before = joined["rev"].as_u64().expect("a number");

    let (mut socket, is_recovered) = reconnect(&bob, socket).await;
    assert!(is_recovered);
    fence.send_message("fence").await;
    socket.receive_message("fence").await;
    let (mut events, mut last) = (Vec::new(), before);
    while socket.waiting("change", |_| true) > 0 {
        let change = socket.next("change").await;
        let is_live = change["rev"].as_u64() <= Some(last);
        assert!(!is_live, "a change was received twice: {change}");
        assert!(change["after"].as_u64() <= Some(last), "{change}");
        last = change["rev"].as_u64().expect("a number");
        events.push(change.clone());
        recovering.apply(&change);
    }
    assert_eq!(last, before + count, "{events:?}");
    let events = |name: &str, user: &str| socket.waiting(name, |event| event["username"] == user);
    assert_eq!((events("room:joined", "carol"), events("room:left", "alice")), (1, 1));
    assert_eq!(events("room:joined", "bob"), 0, "he was a member before");

    let caught_up =
        socket.emit_with_ack("join", &json!({"room": "den", "rev": before, "enter": false})).await;
    assert_eq!((&caught_up["more"], &caught_up["rev"]), (&json!(false), &json!(last)), "{caught_up}");
    for change in caught_up["changes"].as_array().expect("a list") {
        joining.apply(change);
    }
    let http = bob.get(&format!("/rooms/den/changes?rev={before}")).await.expect(200).json();
    assert_eq!(http["changes"], caught_up["changes"]);
    let mut fresh = RoomState::default();
    for change in
        bob.get("/rooms/den/changes?rev=0").await.expect(200).json()["changes"].as_array().expect("a list")
    {
        fresh.apply(change);
    }
    let held =
        |state: &RoomState| (state.members.get("carol").cloned(), state.settings["owner"].clone(), state.rev);
    assert_eq!((held(&recovering), held(&joining)), (held(&fresh), held(&fresh)));
    assert_eq!(held(&fresh), (Some(json!("member")), json!("bob"), last));
}

#[tokio::test]
async fn a_client_that_was_removed_meanwhile_receives_its_own_removal() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.connected_user("alice").await, server.user("bob").await);
    let mut fence = server.connected_user("fence").await;
    let mut socket = bob.connect().await;
    for room in ["removed", "ended", "kept"] {
        alice.user.create_room(room, false).await;
        socket.join(room).await;
    }
    fence.send_message("an offset").await;
    socket.receive_message("an offset").await;
    let offset = socket.offset.clone();
    alice.user.remove_member("bob", "removed").await.expect(200);
    alice.user.request(Request::new("DELETE", "/rooms/ended")).await.expect(200);
    socket.until("room:left", |left| left["room"] == "ended").await;
    socket.offset = offset;
    let (mut socket, is_recovered) = reconnect(&bob, socket).await;
    assert!(is_recovered);
    fence.send_message("fence").await;
    socket.receive_message("fence").await;
    let removed = socket.until("change", |change| change["room"] == "removed").await;
    assert_eq!(removed["items"], json!([{"type": "member", "member": {"username": "bob", "role": null}}]));
    let ended = socket.until("change", |change| change["room"] == "ended").await;
    assert_eq!(ended["items"], json!([{"type": "room", "settings": null}]));
    for room in ["removed", "ended"] {
        socket.until("room:left", |left| left["room"] == room && left["username"] == "bob").await;
    }
    assert_eq!(socket.waiting("change", |_| true) + socket.waiting("room:left", |_| true), 0);
    for (room, code) in [("removed", "forbidden"), ("ended", "not_found")] {
        let refused = socket.emit_with_ack("join", &json!({"room": room, "rev": 2, "enter": false})).await;
        assert_eq!(refused["code"], code, "{room}: {refused}");
    }
    alice.user.get("/rooms/removed").await.expect(200);
    let members = alice.user.get("/rooms/removed").await.json()["members"].clone();
    assert_eq!(members.as_array().map(Vec::len), Some(1), "he did not walk back in");
}

#[tokio::test]
async fn positions_without_meaning_are_answered_with_reset() {
    let server = TestServer::start().await;
    let mut alice = server.connected_user("alice").await;
    alice.user.create_room("den", false).await;
    alice.send_message_to("den", "one").await;
    for position in
        [json!({"rev": 2}), json!({"rev": 1, "since": 2}), json!({"rev": 4_000_000_000_u64, "since": 0})]
    {
        let mut join = position.clone();
        join["room"] = json!("den");
        let answer = alice.emit_with_ack("join", &join).await;
        let reset =
            [&answer["reset"], &answer["changes"], &answer["messages"], &answer["rev"], &answer["head"]];
        assert_eq!(json!(reset), json!([true, [], [], 1, 1]), "{position}");
    }
    for absent in [
        json!({"rev": null, "types": null, "enter": null, "oldest": null}),
        json!({"rev": 1.0}),
        json!({"types": ["pin"]}),
    ] {
        let mut join = absent.clone();
        join["room"] = json!("den");
        let answer = alice.emit_with_ack("join", &join).await;
        assert_eq!((&answer["ok"], &answer["rev"]), (&json!(true), &json!(1)), "{absent}: {answer}");
    }
    for bad in [json!({"rev": -1}), json!({"rev": "1"}), json!({"enter": "no"}), json!({"types": "member"})] {
        let mut join = bad.clone();
        join["room"] = json!("den");
        assert_eq!(alice.emit_with_ack("join", &join).await["code"], "bad_request", "{bad}");
    }
    alice.user.get("/rooms/den/changes?rev=x").await.expect(400);
    alice.user.get("/rooms/nowhere/changes?rev=x").await.expect(404);
    let history: Value = alice.emit_with_ack("history", &json!({"room": "den"})).await;
    assert_eq!(history["rev"], 1);
}
