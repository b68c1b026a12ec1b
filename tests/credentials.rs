//! Credentials beside those of other applications, and the ends of sessions by logout and login, over HTTP and on sockets.

use crate::support::{ConnectFailure, Handshake, Request, Socket, TestServer, TestUser, with_timeout};
use serde_json::json;

/// Headers with the session of `token` beside the credentials of other applications.
fn good(token: &str) -> Vec<Vec<(&'static str, String)>> {
    vec![
        vec![("Cookie", format!("nick=Jos\u{e9}; auth_token={token}"))],
        vec![("Cookie", format!("auth_token={token}; auth_token={token}; \u{1f98e}=\u{1f98e}"))],
        vec![("Cookie", "nick=Jos\u{e9}".into()), ("Cookie", format!("auth_token={token}"))],
        vec![("Cookie", format!("a=\"x, y; $Version=1; =; b; auth_token=\"{token}\"; AUTH_TOKEN=x"))],
        vec![
            ("Cookie", "nick=Jos\u{e9}; auth_token=a.b".into()),
            ("Authorization", format!("Bearer {token}")),
        ],
        vec![("Cookie", "auth_token=gone".into()), ("Authorization", format!("bearer   {token}"))],
        vec![("Cookie", format!("auth_token={token}")), ("Authorization", "Basic dTpw".into())],
        vec![("Cookie", format!("auth_token={token}; auth_token=deleted"))],
        vec![("Cookie", format!("auth_token=550e8400-e29b-41d4-a716-446655440000; auth_token={token}"))],
        vec![("Cookie", format!("auth_token={}; auth_token={token}; auth_token=null", "e".repeat(64)))],
    ]
}

fn with(request: Request, headers: &[(&'static str, String)]) -> Request {
    headers.iter().fold(request, |request, (name, value)| request.header(name, value))
}

fn handshake(headers: &[(&'static str, String)]) -> Handshake {
    headers.iter().fold(Handshake::default(), |handshake, (name, value)| handshake.header(name, value))
}

async fn open(user: &TestUser, headers: &[(&'static str, String)]) -> Socket {
    let mut socket =
        user.try_connect(handshake(headers)).await.unwrap_or_else(|why| panic!("{headers:?}: {why:?}"));
    assert_eq!(socket.next("welcome").await["username"], user.name.as_str());
    socket
}

#[tokio::test]
async fn credentials_of_other_applications_are_ignored_on_every_route() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    alice.create_room("den", false).await;
    for headers in good(alice.token()) {
        for route in ["/user/me", "/rooms", "/rooms/den/messages", "/presence/online"] {
            alice.send(with(Request::get(route), &headers)).await.expect(200);
        }
        let sent = Request::post("/rooms/den/messages", &json!({"text": "by HTTP"}));
        alice.send(with(sent, &headers)).await.expect(201);
        let mut socket = open(&alice, &headers).await;
        socket.send_message("by socket").await;
        let polling = Request::get("/socket.io/?EIO=4&transport=polling");
        alice.send(with(polling, &headers)).await.expect(200);
    }
}

#[tokio::test]
async fn a_logout_revokes_every_presented_session() {
    let server = TestServer::start().await;
    let mut alice = server.user("alice").await;
    for n in 0..good("").len() {
        alice = server.user_on_another_device("alice").await;
        let headers = &good(alice.token())[n];
        let mut socket = open(&alice, headers).await;
        alice.send(with(Request::new("POST", "/user/logout"), headers)).await.expect(200);
        assert!(socket.closed().await.left, "{headers:?}");
        alice.get("/user/me").await.expect_refusal(401);
    }
    let (one, two) =
        (server.user_on_another_device("alice").await, server.user_on_another_device("alice").await);
    let mut sockets = [one.connect().await, two.connect().await];
    let both = format!("auth_token={}; nick=Jos\u{e9}; auth_token={}", one.token(), two.token());
    alice.send(Request::get("/user/me").header("Cookie", &both)).await.expect_refusal(401);
    alice.send(Request::new("POST", "/user/logout").header("Cookie", &both)).await.expect(200);
    for (user, socket) in [&one, &two].into_iter().zip(&mut sockets) {
        assert!(socket.closed().await.left);
        user.get("/user/me").await.expect_refusal(401);
    }
}

/// A login of the same browser.
async fn log_in_again(user: &TestUser) -> String {
    let login = Request::post("/user/login", &user.credentials());
    user.request(login).await.expect(200).token().expect("a cookie")
}

/// Checks that the token is refused in requests, in handshakes and in CONNECT.
async fn check_revoked(user: &TestUser, token: &str) {
    let old = TestUser { token: Some(token.to_owned()), ..user.clone() };
    old.get("/user/me").await.expect_refusal(401);
    for handshake in [old.handshake(), old.handshake().auth(json!({"token": token}))] {
        match old.try_connect(handshake).await {
            Err(ConnectFailure::ConnectError(error)) => assert_eq!(error["data"]["code"], "unauthorized"),
            other => panic!("{:?}", other.map(|_| "connected")),
        }
    }
}

#[tokio::test]
async fn a_login_replaces_the_session_of_its_browser_at_the_first_use_of_the_new_one() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let (mut tab, mut other) =
        (alice.connect().await, server.user_on_another_device("alice").await.connect().await);
    let new = log_in_again(&alice).await;
    // The response may be lost: the browser still has the old cookie.
    alice.get("/user/me").await.expect(200);
    tab.send_message("unaffected").await;
    other.receive_message("unaffected").await;
    alice.send(Request::get("/user/me").cookie(&new)).await.expect(200);
    let ending = tab.closed().await;
    assert_eq!(
        (ending.left, ending.why.as_str()),
        (false, "credentials replaced"),
        "stock clients reconnect"
    );
    check_revoked(&alice, alice.token()).await;
    let mut again = open(&alice, &[("Cookie", format!("nick=Jos\u{e9}; auth_token={new}"))]).await;
    again.send_message("reconnected").await;
    other.receive_message("reconnected").await;
}

#[tokio::test]
async fn parallel_logins_of_one_browser_all_return_valid_sessions() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let mut tab = alice.connect().await;
    let (one, two) = tokio::join!(log_in_again(&alice), log_in_again(&alice));
    for new in [&one, &two] {
        alice.send(Request::get("/user/me").cookie(new)).await.expect(200);
        open(&alice, &[("Cookie", format!("auth_token={new}"))]).await;
    }
    assert!(!tab.closed().await.left);
    check_revoked(&alice, alice.token()).await;
}

#[tokio::test]
async fn a_logout_after_a_login_ends_the_replaced_session_too() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let mut tab = alice.connect().await;
    let new = log_in_again(&alice).await;
    alice.send(Request::post("/user/logout", &json!({})).cookie(&new)).await.expect(200);
    tab.closed().await;
    for token in [alice.token(), &new] {
        check_revoked(&alice, token).await;
    }
}

#[tokio::test]
async fn a_handshake_with_revoked_credentials_gets_connect_error_and_one_without_credentials_gets_401() {
    let server = TestServer::start().await;
    let (alice, eve) = (server.user("alice").await, server.user("eve").await);
    let revoked = alice.clone();
    revoked.log_out().await;
    let other = server.user_on_another_device("alice").await;
    let refused = [
        revoked.handshake(),
        Handshake::default().header("Authorization", &format!("Bearer {}", revoked.token())),
        Handshake::default().cookie("never-issued"),
        Handshake::default().cookie("a.b"),
        other.handshake().header("Cookie", &format!("auth_token={}", eve.token())),
        revoked.handshake().auth(json!({"token": revoked.token()})),
        // The cookie is of another user.
        eve.handshake().auth(json!({"token": revoked.token()})),
        eve.handshake().auth(json!({"token": "never-issued"})),
        eve.handshake().auth(json!({"token": ""})),
        eve.handshake().auth(json!({"token": 5})),
    ];
    for handshake in refused {
        match eve.try_connect(handshake.clone()).await {
            Err(ConnectFailure::ConnectError(error)) => {
                assert_eq!(error["data"]["code"], "unauthorized", "{error} for {handshake:?}");
            }
            other => panic!("{:?} for {handshake:?}", other.map(|_| "connected")),
        }
    }
    match eve.try_connect(Handshake::default()).await {
        Err(ConnectFailure::Http(401, _)) => {}
        other => panic!("{:?}", other.map(|_| "connected")),
    }
    let token = json!({"token": eve.token()});
    let mut socket = eve
        .try_connect(revoked.handshake().auth(token))
        .await
        .expect("a valid token beside a revoked cookie");
    assert_eq!(socket.next("welcome").await["username"], "eve");
}

#[tokio::test]
async fn token_clients_connect_without_credentials_where_the_flag_allows_it() {
    let flags = ["--allow-origin", "http://page.example", "--connect-timeout", "2s", "--allow-token-clients"];
    let server = TestServer::start_with(&flags).await;
    let alice = server.user("alice").await;
    let own = format!("http://{}", alice.server);
    for origin in [None, Some(own.as_str()), Some("http://page.example")] {
        let handshake = |auth| {
            let handshake = Handshake::default().auth(auth);
            origin.into_iter().fold(handshake, |handshake, origin| handshake.header("Origin", origin))
        };
        let token = json!({"token": alice.token()});
        let mut socket =
            alice.try_connect(handshake(token)).await.unwrap_or_else(|why| panic!("{origin:?}: {why:?}"));
        assert_eq!(socket.next("welcome").await["username"], "alice");
        socket.send_message("by token").await;
        for auth in [json!({}), json!({"token": "never-issued"}), json!({"token": null})] {
            match alice.try_connect(handshake(auth)).await {
                Err(ConnectFailure::ConnectError(error)) => assert_eq!(error["data"]["code"], "unauthorized"),
                other => panic!("{:?}", other.map(|_| "connected")),
            }
        }
    }
    let elsewhere = Handshake::default().auth(json!({"token": alice.token()}));
    match alice.try_connect(elsewhere.header("Origin", "http://evil.example")).await {
        Err(ConnectFailure::Http(403, _)) => {}
        other => panic!("{:?}", other.map(|_| "connected")),
    }
    // A session that does not authenticate is revoked, and every other route still requires credentials.
    let polling = "/socket.io/?EIO=4&transport=polling";
    let opened = alice.send(Request::get(polling)).await.expect(200).body;
    let sid = opened.split('"').skip_while(|part| *part != "sid").nth(2).expect("an id").to_owned();
    let ended = with_timeout("the end of a session that never authenticates", async {
        loop {
            let poll = alice.send(Request::get(&format!("{polling}&sid={sid}"))).await;
            if poll.status != 200 || poll.body == "1" {
                return poll;
            }
        }
    });
    let ended = ended.await;
    assert!(ended.status == 400 || ended.body == "1", "{ended:?}");
    alice.send(Request::get("/user/me")).await.expect_refusal(401);
}
