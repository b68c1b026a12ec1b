//! The contract with clients of the original: statuses, JSON, the cookie, the login limit, the shapes of events,
//! and presence's five calls from an independent gRPC client.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::{Request, TestServer, programs::run_python};

#[tokio::test]
async fn a_registration_returns_201_then_409_for_any_case_of_the_name() {
    let server = TestServer::start().await;
    let alice = server.unregistered_user("alice");
    let answer = alice.send(Request::post("/user/register", &alice.credentials())).await.expect(201);
    assert_eq!(answer.json(), json!({"status": "success", "message": "User registered successfully"}));
    assert!(answer.token().is_none(), "a registration sets no cookie: {answer:?}");

    for name in ["alice", "Alice", "ALICE"] {
        let body = json!({"username": name, "password": "another-password"});
        let refused = alice.send(Request::post("/user/register", &body)).await.expect_refusal(409);
        assert_eq!(refused.json()["message"], "Username already exists");
    }
}

#[tokio::test]
async fn names_and_passwords_outside_the_rules_are_refused_with_400() {
    let server = TestServer::start().await;
    let good = "long enough";
    let (long_name, longest, too_long) = ("a".repeat(33), "p".repeat(71), "p".repeat(72));
    let names = ["", " ", "a b", "a\r\nb", "a\u{0}", "аlice", "a\u{200b}", "a/b", "system", &long_name];
    let passwords = ["", "short", "1234567", "nul\u{0}inside", "line\nbreak", &too_long];
    let bad =
        names.iter().map(|name| (*name, good)).chain(passwords.iter().map(|password| ("bob", *password)));
    for (name, password) in bad {
        let body = json!({"username": name, "password": password});
        server.unregistered_user("x").send(Request::post("/user/register", &body)).await.expect_refusal(400);
    }
    for body in ["", "{", "[]", "\"x\"", r#"{"username":"bob"}"#, r#"{"password":"long enough"}"#] {
        let request = Request::new("POST", "/user/register").body("application/json", body);
        server.unregistered_user("x").send(request).await.expect_refusal(400);
    }

    let mut bob = server.unregistered_user("bob");
    bob.password = longest.clone();
    bob.register().await;
    bob.log_in().await;
    // bcrypt reads 72 bytes: a longer password must not log in with the same beginning.
    let body = json!({"username": "bob", "password": format!("{longest}tail")});
    let answer = server.unregistered_user("x").send(Request::post("/user/login", &body)).await;
    assert!([400, 401].contains(&answer.status) && answer.token().is_none(), "{answer:?}");
}

#[tokio::test]
async fn a_login_sets_the_cookie_of_the_original() {
    let server = TestServer::start().await;
    let alice = server.unregistered_user("alice");
    alice.register().await;
    let answer = alice.send(Request::post("/user/login", &alice.credentials())).await.expect(200);
    assert_eq!(answer.json()["status"], "success", "{answer:?}");

    let cookie = answer.header("set-cookie").expect("a cookie").to_owned();
    let mut parts: Vec<&str> = cookie.split("; ").collect();
    let token = parts.remove(0).strip_prefix("auth_token=").expect("the cookie's name");
    assert!(
        token.len() >= 43 && token.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c)),
        "{cookie}"
    );
    parts.sort_unstable();
    assert_eq!(parts, ["HttpOnly", "Max-Age=86400", "Path=/", "SameSite=Lax"]);
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_name_get_the_same_401() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let wrong = json!({"username": "alice", "password": "not the password"});
    let unknown = json!({"username": "unknown", "password": "not the password"});
    let one = alice.send(Request::post("/user/login", &wrong)).await.expect_refusal(401);
    let other = alice.send(Request::post("/user/login", &unknown)).await.expect_refusal(401);
    assert_eq!(one.json()["message"], "Invalid credentials");
    assert_eq!(one.body, other.body);
}

#[tokio::test]
async fn me_and_logout_respond_as_in_the_original() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    assert_eq!(alice.get("/user/me").await.expect(200).json(), json!({"username": "alice"}));
    alice.send(Request::get("/user/me")).await.expect_refusal(401);
    alice.log_out().await;
    alice.get("/user/me").await.expect_refusal(401);
    // A logout without a session succeeds.
    alice.send(Request::post("/user/logout", &json!({}))).await.expect(200);
}

/// The limit refills ten times a second, so the fifth login may pass on a slow machine; then the test repeats with another address.
#[tokio::test]
async fn four_parallel_logins_pass_and_the_fifth_is_refused_with_429() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    for _ in 0..10 {
        let client = server.unregistered_user("alice");
        let logins = (0..5).map(|_| client.send(Request::post("/user/login", &alice.credentials())));
        let answers = join_all(logins).await;
        let passed = answers.iter().filter(|answer| answer.status == 200).count();
        assert!(passed >= 4, "only {passed} of five passed: {answers:?}");
        if let Some(refused) = answers.into_iter().find(|answer| answer.status != 200) {
            let refused = refused.expect_refusal(429);
            let wait: u64 =
                refused.header("retry-after").and_then(|wait| wait.parse().ok()).expect("seconds");
            assert!(wait <= 2, "{refused:?}");
            server
                .unregistered_user("alice")
                .send(Request::post("/user/login", &alice.credentials()))
                .await
                .expect(200);
            return;
        }
    }
    panic!("five logins at once passed ten times in a row");
}

#[tokio::test]
async fn a_login_body_over_4_kib_is_refused() {
    let server = TestServer::start().await;
    let body = json!({"username": "alice", "password": "p".repeat(5000)});
    let answer = server.unregistered_user("x").send(Request::post("/user/login", &body)).await;
    assert!([400, 413].contains(&answer.status), "{answer:?}");
    assert_eq!(answer.json()["status"], "error");
}

#[tokio::test]
async fn every_refusal_has_the_same_json_shape() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    alice.send(Request::get("/nowhere")).await.expect_refusal(404);
    alice.send(Request::new("DELETE", "/user/login")).await.expect_refusal(405);
    alice.send(Request::get("/rooms")).await.expect_refusal(401);
    alice.get("/rooms/nowhere").await.expect_refusal(404);
    alice.get("/rooms/no%20room").await.expect_refusal(404);
    alice.post("/rooms/lobby/messages", &json!({"text": 1})).await.expect_refusal(400);
    alice.send(Request::get("/socket.io/?EIO=4&transport=websocket")).await.expect_refusal(401);
    let upgrade = Request::get("/user/me").header("Connection", "Upgrade").header("Upgrade", "websocket");
    alice.request(upgrade).await.expect_refusal(400);
    let json = alice.send(Request::get("/nowhere")).await;
    assert!(
        json.header("content-type").is_some_and(|value| value.starts_with("application/json")),
        "{json:?}"
    );
}

#[tokio::test]
async fn health_is_public_and_the_front_page_is_html() {
    let server = TestServer::start().await;
    let client = server.unregistered_user("x");
    assert_eq!(client.send(Request::get("/healthz")).await.expect(200).json(), json!({"status": "ok"}));
    let page = client.send(Request::get("/")).await.expect(200);
    assert!(page.header("content-type").is_some_and(|value| value.starts_with("text/html")), "{page:?}");
}

#[tokio::test]
async fn the_descriptions_of_both_interfaces_are_public() {
    let server = TestServer::start().await;
    let client = server.unregistered_user("x");
    let documents = [
        ("/openapi.yaml", include_str!("../docs/openapi.yaml")),
        ("/asyncapi.yaml", include_str!("../docs/asyncapi.yaml")),
    ];
    for (path, document) in documents {
        let answer = client.send(Request::get(path)).await.expect(200);
        assert_eq!(answer.header("content-type"), Some("application/yaml"), "{path}");
        assert_eq!(answer.header("cache-control"), Some("no-cache"), "{path}");
        assert!(answer.body == document, "{path} is not the file of the repository");
        client.send(Request::post(path, &json!({}))).await.expect_refusal(405);
        let with_body = Request::new("GET", path).body("application/json", "{}");
        client.send(with_body).await.expect_refusal(400);
    }
}

#[tokio::test]
async fn a_connection_receives_welcome_then_presence() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let mut socket = alice.try_connect(alice.handshake()).await.expect("alice has a session");
    let welcome = socket.next("welcome").await;
    assert_eq!(keys(&welcome), ["message", "timestamp", "username"]);
    assert_eq!((&welcome["username"], &welcome["message"]), (&json!("alice"), &json!("Welcome alice!")));
    is_timestamp(&welcome["timestamp"]);
    assert_eq!(socket.next("presence").await, json!({"online": ["alice"]}));
}

#[tokio::test]
async fn a_message_has_the_shape_of_the_original_and_a_sequence_number() {
    let server = TestServer::start().await;
    let mut alice = server.connected_user("alice").await;
    let mut bob = server.connected_user("bob").await;
    let ack = alice.send_message("hi").await;
    assert_eq!(keys(&ack), ["id", "ok", "seq"]);

    let received = bob.receive_message("hi").await;
    assert_eq!(keys(&received), ["data", "from", "id", "room", "seq", "timestamp"]);
    assert_eq!(
        (&received["id"], &received["seq"], &received["room"], &received["from"], &received["data"]),
        (&ack["id"], &json!(1), &json!("lobby"), &json!("alice"), &json!({"text": "hi"}))
    );
    is_timestamp(&received["timestamp"]);
    assert_eq!(alice.user.read_history("lobby").await, [received], "the history has the received message");
}

/// The calls of the original, made by Google's gRPC client with the original's proto file.
#[tokio::test]
async fn presence_answers_the_five_calls_of_the_original() {
    let server = TestServer::start().await;
    let _alice = server.connected_user("alice").await;
    run_python("presence_calls.py", &[&server.system.presence.to_string(), "alice"]).await;
}

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value.as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect();
    keys.sort_unstable();
    keys
}

/// RFC 3339 in UTC with milliseconds: `2026-01-31T12:00:00.000Z`.
#[track_caller]
fn is_timestamp(value: &Value) {
    let shape: String = value
        .as_str()
        .unwrap_or_default()
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    assert_eq!(shape, "0000-00-00T00:00:00.000Z", "{value}");
}

#[tokio::test]
async fn registrations_and_logins_are_rate_limited_per_address() {
    let server = TestServer::start_with(&["--login-rate", "1", "--login-burst", "2"]).await;
    let (eve, alice) = (server.unregistered_user("eve"), server.unregistered_user("alice"));
    for path in ["/user/register", "/user/login"] {
        let many = (0..20).map(|_| eve.send(Request::post(path, &json!({}))));
        let answers = join_all(many).await;
        let refused: Vec<_> = answers.iter().filter(|answer| answer.status == 429).collect();
        assert!(!refused.is_empty(), "{path}: {answers:?}");
        assert!(refused.iter().all(|answer| answer.header("retry-after").is_some()), "{path}: {refused:?}");
        alice.send(Request::post(path, &json!({}))).await.expect_refusal(400);
    }
}
