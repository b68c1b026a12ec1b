//! Tests of accounts over HTTP with real SQLite files: the contract, and inputs that must be refused.

use actix_http::Request;
use actix_web::{
    App, Error as WebError,
    body::MessageBody,
    cookie::Cookie,
    dev::{Service, ServiceResponse},
    test::{self, TestRequest},
};
use serde_json::{Value, json};
use sessions::{SqliteSessions, Token};
use tempfile::TempDir;

use super::*;
use crate::SqliteUsers;

const GOOD: &str = "correct horse";

/// Accounts with their stores in a temporary directory.
struct Fixture {
    directory: TempDir,
    sessions: SharedSessions,
    accounts: Accounts,
}

/// A parsed response.
struct Received {
    status: u16,
    headers: header::HeaderMap,
    cookie: Option<Cookie<'static>>,
    body: Value,
}

impl Fixture {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let users = SqliteUsers::open(&directory.path().join("users.sqlite3")).unwrap();
        let sessions =
            SqliteSessions::open(&directory.path().join("sessions.sqlite3"), proto::Timestamp::now).unwrap();
        let sessions: SharedSessions = Arc::new(sessions);
        let config = Config {
            bcrypt_cost: 4,
            cookie_secure: false,
            login_body_limit: 4_096,
            login_body_deadline: Duration::from_secs(10),
            password_threads: 1,
            password_queue: 4,
        };
        let accounts = Accounts::new(Arc::new(users), sessions.clone(), &config).unwrap();
        Self { directory, sessions, accounts }
    }

    async fn app(
        &self,
    ) -> impl Service<Request, Response = ServiceResponse<impl MessageBody>, Error = WebError> {
        let accounts = self.accounts.clone();
        let app = App::new().configure(|config| accounts.routes(config)).service(accounts.login());
        let app = app.service(accounts.registration());
        test::init_service(app).await
    }

    async fn send(&self, request: TestRequest) -> Received {
        let response = test::call_service(&self.app().await, request.to_request()).await;
        let cookie = response.response().cookies().next().map(Cookie::into_owned);
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        assert_eq!(headers.get("cache-control").unwrap(), "no-store");
        let body = serde_json::from_slice(&test::read_body(response).await).unwrap();
        Received { status, headers, cookie, body }
    }

    async fn post(&self, path: &str, body: &Value) -> Received {
        self.send(TestRequest::post().uri(path).set_json(body)).await
    }

    async fn register(&self, name: &str, password: &str) -> Received {
        self.post("/user/register", &json!({ "username": name, "password": password })).await
    }

    async fn login(&self, name: &str, password: &str) -> Received {
        self.post("/user/login", &json!({ "username": name, "password": password })).await
    }

    async fn alice(&self) -> Token {
        assert_eq!(self.register("Alice", GOOD).await.status, 201);
        self.login("Alice", GOOD).await.token()
    }

    async fn is_live(&self, token: &Token) -> bool {
        self.sessions.find(&token.id()).await.unwrap().is_some()
    }
}

impl Received {
    fn token(&self) -> Token {
        self.cookie.as_ref().unwrap().value().parse().unwrap()
    }

    /// Asserts a refusal with this status, in the documented shape and without a cookie.
    fn is_refusal(&self, status: u16) {
        assert_eq!(self.status, status, "{}", self.body);
        assert_eq!((&self.body["status"], &self.body["code"]), (&json!("error"), &json!(status)));
        assert!(self.body["message"].is_string());
        assert!(self.cookie.is_none());
    }
}

fn login_with(cookies: &str) -> TestRequest {
    let body = json!({ "username": "alice", "password": GOOD });
    TestRequest::post().uri("/user/login").insert_header(("cookie", cookies)).set_json(body)
}

#[actix_rt::test]
async fn alice_registers_logs_in_and_logs_out() {
    let fixture = Fixture::new();
    let registered = fixture.register("alice", GOOD).await;
    assert_eq!(registered.status, 201);
    assert_eq!(registered.body, json!({"status":"success","message":"User registered successfully"}));
    assert!(registered.cookie.is_none(), "registering does not log in");
    let login = fixture.login("alice", GOOD).await;
    assert_eq!((login.status, login.body.to_string().contains(login.token().reveal())), (200, false));
    assert_eq!(login.body, json!({"status":"success","message":"Login successful"}));
    let token = login.token();
    let set = login.headers.get("set-cookie").unwrap().to_str().unwrap();
    assert_eq!(set, format!("auth_token={}; HttpOnly; SameSite=Lax; Path=/; Max-Age=86400", token.reveal()));
    assert_eq!(fixture.sessions.find(&token.id()).await.unwrap().unwrap().as_str(), "alice");
    let cookie = Cookie::new("auth_token", token.reveal().to_owned());
    let logout = fixture.send(TestRequest::post().uri("/user/logout").cookie(cookie)).await;
    assert_eq!(
        (logout.status, logout.body),
        (200, json!({"status":"success","message":"Logout successful"}))
    );
    assert_eq!(logout.cookie.unwrap().to_string(), "auth_token=; HttpOnly; SameSite=Lax; Path=/; Max-Age=0");
    assert!(!fixture.is_live(&token).await);
}

#[actix_rt::test]
async fn a_client_that_uses_tls_gets_a_secure_cookie() {
    let fixture = Fixture::new();
    fixture.register("alice", GOOD).await;
    let body = json!({ "username": "alice", "password": GOOD });
    for (value, secure) in
        [("https", true), ("HTTPS", true), ("http, https", true), ("https, http", false), ("", false)]
    {
        let login = TestRequest::post().uri("/user/login").insert_header(("x-forwarded-proto", value));
        let cookie = fixture.send(login.set_json(&body)).await.cookie.unwrap();
        assert_eq!(cookie.secure().unwrap_or(false), secure, "{value}");
        let logout = TestRequest::post().uri("/user/logout").insert_header(("x-forwarded-proto", value));
        let cleared = fixture.send(logout).await.cookie.unwrap();
        assert_eq!(cleared.secure().unwrap_or(false), secure, "{value}");
    }
}

#[actix_rt::test]
async fn me_returns_the_identity_of_the_gateway_only() {
    let fixture = Fixture::new();
    let forged = TestRequest::get().uri("/user/me").insert_header(("x-authenticated-user", "alice"));
    fixture.send(forged).await.is_refusal(401);
    let request = TestRequest::get().uri("/user/me").to_request();
    let identity = Identity { username: "Alice".parse().unwrap(), session: "s".into() };
    request.extensions_mut().insert(identity);
    let response = test::call_service(&fixture.app().await, request).await;
    assert_eq!(test::read_body(response).await, r#"{"username":"Alice"}"#);
}

#[actix_rt::test]
async fn a_name_in_another_case_is_the_same_account() {
    let fixture = Fixture::new();
    fixture.alice().await;
    for twin in ["Alice", "alice", "ALICE"] {
        let taken = fixture.register(twin, "another password").await;
        taken.is_refusal(409);
        assert_eq!(taken.body["message"], "Username already exists");
        let token = fixture.login(twin, GOOD).await.token();
        assert_eq!(fixture.sessions.find(&token.id()).await.unwrap().unwrap().as_str(), "Alice");
    }
}

#[actix_rt::test]
async fn an_unknown_user_and_a_wrong_password_give_equal_responses() {
    let fixture = Fixture::new();
    fixture.alice().await;
    let mut answers = Vec::new();
    for (name, password) in [("unknown", GOOD), ("alice", "wrong password"), ("not a name", GOOD)] {
        let refused = fixture.login(name, password).await;
        refused.is_refusal(401);
        let headers: Vec<_> = refused.headers.keys().map(|name| name.as_str().to_owned()).collect();
        answers.push((refused.body, headers));
    }
    assert_eq!(answers[0].0["message"], "Invalid credentials");
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
}

#[actix_rt::test]
async fn failed_logins_of_a_name_from_one_address_are_limited() {
    let fixture = Fixture::new();
    fixture.alice().await;
    let login = |address: &str, password: &str| {
        let request = TestRequest::post().uri("/user/login").insert_header(("x-forwarded-for", address));
        fixture.send(request.set_json(json!({ "username": "alice", "password": password })))
    };
    for _ in 0..5 {
        login("203.0.113.1", "wrong password").await.is_refusal(401);
    }
    let refused = login("203.0.113.1", GOOD).await;
    refused.is_refusal(429);
    let wait: u64 = refused.headers.get("retry-after").unwrap().to_str().unwrap().parse().unwrap();
    assert!((1..=5).contains(&wait), "{wait}");
    assert_eq!(login("203.0.113.2", GOOD).await.status, 200, "another address");
}

#[actix_rt::test]
async fn a_login_replaces_the_sessions_of_all_its_cookies() {
    let fixture = Fixture::new();
    let (one, two) = (fixture.alice().await, fixture.login("alice", GOOD).await.token());
    let cookies = format!("nick=Jos\u{e9}; auth_token={}; auth_token={}", one.reveal(), two.reveal());
    let refused = login_with(&cookies).set_json(json!({ "username": "alice", "password": "wrong password" }));
    fixture.send(refused).await.is_refusal(401);
    let new = fixture.send(login_with(&cookies)).await.token();
    assert!(fixture.is_live(&one).await && fixture.is_live(&two).await, "the new token was not used");
    assert!(fixture.is_live(&new).await);
    assert!(!fixture.is_live(&one).await && !fixture.is_live(&two).await);
    // A token that the client chose is never adopted.
    let chosen = "c".repeat(64);
    let login = fixture.send(login_with(&format!("auth_token={chosen}"))).await;
    assert_ne!(login.token().reveal(), chosen);
}

#[actix_rt::test]
async fn a_login_with_a_requested_token_returns_it_instead_of_a_cookie() {
    let fixture = Fixture::new();
    let cookie = fixture.alice().await;
    let body = json!({ "username": "alice", "password": GOOD, "session": "token" });
    let sent = |old: &Token| {
        let bearer = format!("Bearer {}", old.reveal());
        let login = login_with(&format!("auth_token={}", cookie.reveal()));
        login.insert_header(("authorization", bearer)).set_json(&body)
    };
    let first = fixture.send(sent(&cookie)).await;
    assert_eq!((first.status, first.headers.get("set-cookie")), (200, None));
    let token: Token = first.body["token"].as_str().unwrap().parse().unwrap();
    let answer = json!({"status":"success","message":"Login successful","token":token.reveal()});
    assert_eq!(first.body, answer);
    assert!(fixture.is_live(&token).await && !fixture.is_live(&cookie).await);
    let cookie = fixture.login("alice", GOOD).await.token();
    let second = fixture.send(login_with(&format!("auth_token={}", cookie.reveal())).set_json(&body)).await;
    assert_eq!(second.status, 200);
    assert!(fixture.is_live(&cookie).await, "a login without a cookie in its answer leaves the cookie alone");
    let third = fixture.send(sent(&token)).await;
    let new: Token = third.body["token"].as_str().unwrap().parse().unwrap();
    assert!(fixture.is_live(&new).await && !fixture.is_live(&token).await, "the token is replaced");
}

/// A registration opens a session only when it returns the token.
#[actix_rt::test]
async fn a_registration_with_a_requested_token_returns_it_as_a_login_does() {
    let fixture = Fixture::new();
    let register = |name: &str, session: Option<&str>| {
        let body = json!({ "username": name, "password": GOOD, "session": session });
        TestRequest::post().uri("/user/register").set_json(body)
    };
    let answer = fixture.send(register("alice", Some("token"))).await;
    assert_eq!((answer.status, answer.headers.get("set-cookie")), (201, None));
    let token: Token = answer.body["token"].as_str().unwrap().parse().unwrap();
    let expected =
        json!({"status":"success","message":"User registered successfully","token":token.reveal()});
    assert_eq!(answer.body, expected);
    assert!(fixture.is_live(&token).await);
    let answer = fixture.send(register("bob", Some("cookie"))).await;
    assert_eq!((answer.status, answer.headers.get("set-cookie")), (201, None));
    assert_eq!(answer.body, json!({"status":"success","message":"User registered successfully"}));
    let taken = fixture.send(register("ALICE", Some("token"))).await;
    assert_eq!((taken.status, taken.body.get("token")), (409, None));
}

#[actix_rt::test]
async fn a_logout_ends_every_presented_session_and_needs_none() {
    let fixture = Fixture::new();
    fixture.alice().await;
    let mut tokens = Vec::new();
    for _ in 0..4 {
        tokens.push(fixture.login("alice", GOOD).await.token());
    }
    let [one, two, three, four] = [0, 1, 2, 3].map(|n| tokens[n].reveal());
    let logout = TestRequest::post()
        .uri("/user/logout")
        .append_header((
            "cookie",
            format!("auth_token={one}; nick=Jos\u{e9}; auth_token=\"{two}\"; auth_token=a b"),
        ))
        .append_header(("authorization", format!("bearer  {three}")));
    let received = fixture.send(logout).await;
    assert_eq!((received.status, received.cookie.unwrap().value()), (200, ""));
    for (n, token) in tokens.iter().enumerate() {
        assert_eq!(fixture.is_live(token).await, n == 3, "{n}");
    }
    let logout = || TestRequest::post().uri("/user/logout");
    for without in [logout(), logout().insert_header(("cookie", "auth_token=unknown"))] {
        assert_eq!(fixture.send(without).await.status, 200);
    }
    let malformed = logout().insert_header(("authorization", format!("Bearer {four}x")));
    fixture.send(malformed).await.is_refusal(400);
    assert!(fixture.is_live(&tokens[3]).await);
}

#[actix_rt::test]
async fn a_store_that_fails_is_503() {
    let fixture = Fixture::new();
    let token = fixture.alice().await;
    for (file, table) in [("sessions", "sessions"), ("users", "users")] {
        let path = fixture.directory.path().join(format!("{file}.sqlite3"));
        let file = rusqlite::Connection::open(path).unwrap();
        file.execute_batch(&format!("ALTER TABLE {table} RENAME TO gone")).unwrap();
    }
    let cookie = format!("auth_token={}", token.reveal());
    let logout = TestRequest::post().uri("/user/logout").insert_header(("cookie", cookie));
    for refused in [
        fixture.send(logout).await,
        fixture.login("alice", GOOD).await,
        fixture.login("unknown", GOOD).await,
        fixture.register("bob", GOOD).await,
    ] {
        refused.is_refusal(503);
        assert!(!refused.body.to_string().contains("gone"), "{}", refused.body);
    }
}

#[actix_rt::test]
async fn too_many_passwords_at_once_are_503_with_a_time_to_wait() {
    let fixture = Fixture::new();
    fixture.alice().await;
    let service = &fixture.accounts.service;
    let registrations = service.registrations.fill();
    let refused = fixture.register("bob", GOOD).await;
    refused.is_refusal(503);
    assert_eq!(refused.headers.get("retry-after").unwrap(), "1");
    assert_eq!(fixture.login("alice", GOOD).await.status, 200, "registrations do not delay logins");
    drop(registrations);
    let _logins = service.logins.fill();
    fixture.login("alice", GOOD).await.is_refusal(503);
    assert_eq!(fixture.register("bob", GOOD).await.status, 201);
}

#[actix_rt::test]
async fn other_methods_are_refused_in_the_documented_shape() {
    let fixture = Fixture::new();
    for path in ["/user/register", "/user/login", "/user/logout"] {
        let received = fixture.send(TestRequest::get().uri(path)).await;
        received.is_refusal(405);
        assert_eq!(received.headers.get("allow").unwrap(), "POST");
    }
}

#[actix_rt::test]
async fn a_body_without_exactly_two_strings_is_refused() {
    let fixture = Fixture::new();
    let nested = format!(r#"{{"username":{}1{},"password":"p"}}"#, "[".repeat(1000), "]".repeat(1000));
    let bad = [
        "",
        r#"["alice","correct horse"]"#,
        r#"{"username":"alice"}"#,
        r#"{"username":{"$gt":""},"password":{"$gt":""}}"#,
        r#"{"username":"alice","password":null}"#,
        r#"{"username":"alice","user\u006eame":"bob","password":"correct horse"}"#,
        r#"{"username":"alice","password":"wrong","password":"correct horse"}"#,
        r#"{"username":"alice","password":"\ud800"}"#,
        r#"{"username":"alice","password":"correct horse"} x"#,
        r#"{"username":"alice","password":"correct horse","session":"Token"}"#,
        r#"{"username":"alice","password":"correct horse","session":"token","session":"token"}"#,
        &nested,
    ];
    for path in ["/user/register", "/user/login"] {
        for body in bad {
            let refused = fixture.send(TestRequest::post().uri(path).set_payload(body.to_owned())).await;
            refused.is_refusal(400);
            assert!(!refused.body.to_string().contains("horse"), "{body}");
        }
    }
    let ignored =
        r#"{"a":{"$gt":""},"username":"alice","b":[[1]],"password":"correct horse","session":null}"#;
    let register = TestRequest::post().uri("/user/register").set_payload(ignored);
    assert_eq!(fixture.send(register).await.status, 201, "other fields are ignored");
}

#[actix_rt::test]
async fn the_body_may_have_4096_bytes_and_no_more() {
    let fixture = Fixture::new();
    for (size, status) in [(4_096, 201), (4_097, 413)] {
        let bare = json!({ "username": "alice", "password": GOOD, "x": "" }).to_string().len();
        let body = json!({ "username": "alice", "password": GOOD, "x": "y".repeat(size - bare) });
        assert_eq!(body.to_string().len(), size);
        assert_eq!(fixture.post("/user/register", &body).await.status, status, "{size}");
    }
}

#[actix_rt::test]
async fn invalid_and_reserved_names_are_refused() {
    let fixture = Fixture::new();
    let too_long = "a".repeat(33);
    for name in ["", "a b", "a\r\nx: 1", "a\0b", "\u{430}lice", "$gt", "System", "ADMIN", &too_long] {
        fixture.register(name, GOOD).await.is_refusal(400);
        fixture.login(name, GOOD).await.is_refusal(401);
    }
    assert_eq!(fixture.register(&"a".repeat(32), GOOD).await.status, 201);
}

#[actix_rt::test]
async fn passwords_are_never_cut() {
    let fixture = Fixture::new();
    let (longest, tail) = ("a".repeat(71), |tail: &str| format!("{}{tail}", "a".repeat(70)));
    for password in ["short", &"a".repeat(72), "nul\0 inside"] {
        let refused = fixture.register("alice", password).await;
        refused.is_refusal(400);
        assert!(refused.body["message"].as_str().unwrap().starts_with("a password has"), "{}", refused.body);
    }
    assert_eq!(fixture.register("alice", &longest).await.status, 201);
    for wrong in [tail(""), tail("b"), tail("aFAKE"), tail("A"), format!("{longest}\0{longest}")] {
        fixture.login("alice", &wrong).await.is_refusal(401);
    }
    assert_eq!(fixture.login("alice", &longest).await.status, 200);
}
