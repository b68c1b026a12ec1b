//! Forged identities: the identity of a client comes from its session and from nothing else. Each test fails when the check that it
//! names is removed.

use serde_json::{Value, json};

use crate::support::{ConnectFailure, Handshake, Request, Socket, TestServer, TestUser};

/// Spellings of the header in which an earlier gateway sent the user name to the services.
const SPELLINGS: [&str; 6] = [
    "X-Authenticated-User",
    "x-authenticated-user",
    "X_Authenticated_User",
    "x_authenticated-user",
    "X-AUTHENTICATED_USER",
    "X-Authenticated-Username",
];

/// A server with alice, and eve, who forges alice's identity.
async fn alice_and_eve() -> (TestServer, TestUser, TestUser) {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let eve = server.user("eve").await;
    (server, alice, eve)
}

#[tokio::test]
async fn a_username_in_connect_auth_is_ignored() {
    let (_server, alice, eve) = alice_and_eve().await;
    let mut observer = alice.connect().await;
    for auth in [json!({"username": "alice"}), json!({"user": "alice", "username": ["alice"]})] {
        let mut socket = connect(&eve, eve.handshake().auth(auth)).await;
        assert_eq!(socket.next("welcome").await["username"], "eve");
        socket.send_message("forged author").await;
        assert_eq!(observer.receive_message("forged author").await["from"], "eve");
    }
}

#[tokio::test]
async fn a_username_in_connect_auth_is_no_session() {
    let (server, _alice, eve) = alice_and_eve().await;
    let mut observer = eve.connect().await;
    for auth in [json!({"username": "alice"}), json!({"token": "alice"}), json!({"token": {"$gt": ""}})] {
        check_refused(&eve, Handshake::default().auth(auth)).await;
    }
    let _bob = server.connected_user("bob").await;
    let presence = observer.until("presence", |presence| presence.to_string().contains("bob")).await;
    assert_eq!(presence, json!({"online": ["bob", "eve"]}), "alice is not online");
}

#[tokio::test]
async fn the_identity_header_is_ignored_in_every_spelling() {
    let (_server, _alice, eve) = alice_and_eve().await;
    for name in SPELLINGS {
        eve.send(Request::get("/user/me").header(name, "alice")).await.expect_refusal(401);
        let me = eve.request(Request::get("/user/me").header(name, "alice")).await;
        assert!(me.status != 200 || me.json() == json!({"username": "eve"}), "{name}: {me:?}");

        check_refused(&eve, Handshake::default().header(name, "alice")).await;
        match eve.try_connect(eve.handshake().header(name, "alice")).await {
            Ok(mut socket) => assert_eq!(socket.next("welcome").await["username"], "eve", "{name}"),
            Err(refusal) => {
                assert!(matches!(refusal, ConnectFailure::Http(400..500, _)), "{name}: {refusal:?}")
            }
        }
    }
}

#[tokio::test]
async fn the_connection_header_can_neither_remove_nor_set_the_identity() {
    let (_server, _alice, eve) = alice_and_eve().await;
    for named in ["cookie", "x-authenticated-user", "Cookie, X-Authenticated-User", "authorization"] {
        let forged = Request::get("/user/me").header("Connection", &format!("close, {named}"));
        let anonymous = forged.clone().header("X-Authenticated-User", "alice");
        let answer = eve.send(anonymous).await;
        assert!([400, 401].contains(&answer.status), "{named}: {answer:?}");
        let me = eve.request(forged.header("X-Authenticated-User", "alice")).await;
        assert!(!me.body.contains("alice"), "{named}: {me:?}");
    }
}

#[tokio::test]
async fn the_author_in_a_message_payload_is_ignored() {
    let (_server, alice, eve) = alice_and_eve().await;
    let mut observer = alice.connect().await;
    let mut socket = eve.connect().await;
    let claim = json!({"text": "forged", "from": "alice", "username": "alice", "userId": "alice", "seq": 99, "id": "x"});
    let ack = socket.emit_with_ack("message", &claim).await;
    assert_eq!((&ack["ok"], &ack["seq"]), (&json!(true), &json!(1)), "{ack}");
    let received = observer.receive_message("forged").await;
    assert_eq!(
        (&received["from"], &received["data"]),
        (&json!("eve"), &json!({"text": "forged"})),
        "{received}"
    );

    eve.post("/rooms/lobby/messages", &json!({"text": "again", "from": "alice"})).await.expect(201);
    assert_eq!(observer.receive_message("again").await["from"], "eve");
}

#[tokio::test]
async fn a_session_id_of_another_user_is_refused() {
    let (_server, alice, eve) = alice_and_eve().await;
    let mut victim = alice.connect().await;
    let mut observer = eve.connect().await;
    for sid in [victim.session.clone(), victim.sid.clone()] {
        check_refused(&eve, eve.handshake().query(&format!("&sid={sid}"))).await;
        check_refused(&eve, Handshake::default().query(&format!("&sid={sid}"))).await;
        let polling = format!("/socket.io/?EIO=4&transport=polling&sid={sid}");
        let poll = eve.request(Request::get(&polling)).await;
        assert!((400..500).contains(&poll.status), "{poll:?}");
        let post = eve.request(Request::new("POST", &polling).body("text/plain;charset=UTF-8", "41")).await;
        assert!((400..500).contains(&post.status), "{post:?}");
        check_unauthorized(&eve, &sid).await;
    }
    victim.send_message("not affected").await;
    observer.receive_message("not affected").await;
}

#[tokio::test]
async fn only_the_exact_token_is_a_session() {
    let (_server, alice, eve) = alice_and_eve().await;
    let token = alice.token();
    let mut flipped = token.to_owned();
    let last = flipped.pop().expect("a token is not empty");
    flipped.push(if last == 'A' { 'B' } else { 'A' });
    let long = "a".repeat(4000);
    let tries = ["", "alice", &token[1..], &format!("{token}a"), &flipped, "*", "session:*", "%00", &long];
    for forged in tries {
        check_unauthorized(&eve, forged).await;
    }
    if token.to_lowercase() != token {
        check_unauthorized(&eve, &token.to_lowercase()).await;
    }
}

#[tokio::test]
async fn after_a_logout_the_token_is_refused_everywhere_and_its_sockets_are_closed() {
    let (_server, alice, eve) = alice_and_eve().await;
    let (mut one, mut two) = (alice.connect().await, alice.connect().await);
    let mut observer = eve.connect().await;

    let answer = alice.request(Request::post("/user/logout", &json!({}))).await.expect(200);
    let cookie = answer.header("set-cookie").unwrap_or_default();
    assert!(cookie.starts_with("auth_token=;") && cookie.contains("Max-Age=0"), "{answer:?}");
    one.closed().await;
    two.closed().await;
    check_unauthorized(&alice, alice.token()).await;
    check_refused(&alice, alice.handshake()).await;
    check_refused(&alice, Handshake::default().auth(json!({"token": alice.token()}))).await;
    observer.until("presence", |presence| presence["online"] == json!(["eve"])).await;
}

#[tokio::test]
async fn a_logout_does_not_affect_other_sessions_of_the_user() {
    let (_server, alice, _eve) = alice_and_eve().await;
    let mut elsewhere = alice.clone();
    elsewhere.log_in().await;
    let mut kept = elsewhere.connect().await;
    assert_ne!(alice.token(), elsewhere.token());

    alice.log_out().await;
    check_unauthorized(&alice, alice.token()).await;
    assert_eq!(elsewhere.get("/user/me").await.expect(200).json(), json!({"username": "alice"}));
    kept.send_message("still logged in here").await;
}

#[tokio::test]
async fn a_login_never_adopts_a_session_token_of_the_request() {
    let (_server, alice, eve) = alice_and_eve().await;
    let planted = eve.token();
    let login = Request::post("/user/login", &alice.credentials()).cookie(planted);
    let token = alice.send(login).await.expect(200).token().expect("a session");
    assert_ne!(token, planted);
    assert_ne!(eve.get("/user/me").await.body, r#"{"username":"alice"}"#);
}

#[tokio::test]
async fn two_different_session_cookies_are_refused() {
    let (_server, alice, eve) = alice_and_eve().await;
    let (first, second) = (alice.token(), eve.token());
    let both = format!("auth_token={first}; auth_token={second}");
    eve.send(Request::get("/user/me").header("Cookie", &both)).await.expect_refusal(401);
    eve.send(Request::get("/user/me").cookie(second).cookie(first)).await.expect_refusal(401);
    check_refused(&eve, Handshake::default().header("Cookie", &both)).await;
}

#[tokio::test]
async fn a_bearer_token_is_accepted_but_not_beside_the_cookie_of_another_user() {
    let (_server, alice, eve) = alice_and_eve().await;
    let bearer = format!("Bearer {}", alice.token());
    let me = alice.send(Request::get("/user/me").header("Authorization", &bearer)).await.expect(200);
    assert_eq!(me.json(), json!({"username": "alice"}));
    let mut socket = connect(&alice, Handshake::default().header("Authorization", &bearer)).await;
    assert_eq!(socket.next("welcome").await["username"], "alice");

    eve.request(Request::get("/user/me").header("Authorization", &bearer)).await.expect_refusal(401);
    check_refused(&eve, eve.handshake().header("Authorization", &bearer)).await;
}

#[tokio::test]
async fn a_page_of_another_origin_can_neither_connect_nor_post() {
    let (_server, _alice, eve) = alice_and_eve().await;
    let (host, port) = (eve.server.ip(), eve.server.port());
    let own = format!("http://{host}:{port}");
    for origin in [
        "http://evil.example".to_owned(),
        "null".into(),
        format!("http://{host}:{}", port.wrapping_add(1)),
        format!("https://{host}:{port}"),
        format!("http://{host}"),
        format!("http://sub.{host}:{port}"),
        format!("{own}.evil.example"),
        format!("http://evil.example/{host}:{port}"),
        "".into(),
    ] {
        let post =
            Request::post("/rooms/lobby/messages", &json!({"text": "forged"})).header("Origin", &origin);
        eve.request(post).await.expect_refusal(403);
        let logout = Request::post("/user/logout", &json!({})).header("Origin", &origin);
        eve.request(logout).await.expect_refusal(403);
        match eve.try_connect(eve.handshake().header("Origin", &origin)).await {
            Err(ConnectFailure::Http(403, _)) => {}
            other => panic!("{origin}: {:?}", other.map(|_| "connected")),
        }
    }
    let post = Request::post("/rooms/lobby/messages", &json!({"text": "mine"})).header("Origin", &own);
    eve.request(post).await.expect(201);
    connect(&eve, eve.handshake().header("Origin", &own)).await;
    assert_eq!(eve.read_history("lobby").await.len(), 1);
}

#[tokio::test]
async fn a_form_of_another_site_is_not_accepted_as_json() {
    let (_server, _alice, eve) = alice_and_eve().await;
    for content_type in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"] {
        let post = Request::new("POST", "/rooms/lobby/messages").body(content_type, r#"{"text":"forged"}"#);
        let answer = eve.request(post).await;
        assert!([400, 403, 415].contains(&answer.status), "{content_type}: {answer:?}");
    }
    assert_eq!(eve.read_history("lobby").await.len(), 0);
}

#[tokio::test]
async fn database_operators_are_not_credentials() {
    let (server, alice, eve) = alice_and_eve().await;
    let operators = [
        json!({"$gt": ""}),
        json!({"$ne": null}),
        json!({"$regex": "."}),
        json!(["alice"]),
        json!(1),
        json!(true),
        Value::Null,
    ];
    for operator in operators {
        for body in [
            json!({"username": operator, "password": alice.password}),
            json!({"username": "alice", "password": operator}),
        ] {
            for path in ["/user/login", "/user/register"] {
                // A new source address for each request, so that the login limit does not refuse it.
                let answer = server
                    .unregistered_user("eve")
                    .send(Request::post(path, &body))
                    .await
                    .expect_refusal(400);
                assert!(answer.token().is_none());
            }
        }
    }
    let room = eve.post("/rooms", &json!({"name": {"$gt": ""}})).await;
    assert_eq!(room.status, 400, "{room:?}");
}

/// The log contains no password, no token, no session id and no text of a message.
#[tokio::test]
async fn no_password_token_or_message_is_in_the_log() {
    let (server, alice, eve) = alice_and_eve().await;
    let mut socket = alice.connect().await;
    socket.send_message("a private text in the store").await;
    eve.send(Request::post("/user/login", &json!({"username": "eve", "password": "wrong-but-secret"}))).await;
    alice.log_out().await;
    socket.closed().await;
    let log = server.system.log();
    for secret in
        [alice.token(), eve.token(), &alice.password, "wrong-but-secret", "a private text", &socket.session]
    {
        assert!(!log.contains(secret), "{secret:?} is in the log");
    }
}

async fn connect(user: &TestUser, handshake: Handshake) -> Socket {
    user.try_connect(handshake).await.unwrap_or_else(|why| panic!("{}: {why:?}", user.name))
}

/// Requires that the server refuses the HTTP request or CONNECT, or closes the connection.
async fn check_refused(user: &TestUser, handshake: Handshake) {
    let shown = format!("{handshake:?}");
    match user.try_connect(handshake).await {
        Err(ConnectFailure::Http(status, body)) => {
            assert!((400..500).contains(&status), "{status} {body}: {shown}")
        }
        Err(ConnectFailure::ConnectError(_) | ConnectFailure::Ended(_)) => {}
        Err(ConnectFailure::Unreachable(why)) => panic!("{why}: {shown}"),
        Ok(_) => panic!("connected with {shown}"),
    }
}

/// Requires that the token is refused, as a cookie and as a bearer token.
async fn check_unauthorized(user: &TestUser, token: &str) {
    user.send(Request::get("/user/me").cookie(token)).await.expect_refusal(401);
    let bearer = format!("Bearer {token}");
    user.send(Request::get("/user/me").header("Authorization", &bearer)).await.expect_refusal(401);
}
