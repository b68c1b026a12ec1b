//! Tests of accounts over HTTP with real SQLite files: the contract, and inputs that must be refused.

mod credentials;

use std::net::IpAddr;

use actix_http::Request;
use actix_web::{
    App, Error as WebError,
    body::MessageBody,
    cookie::Cookie,
    dev::{Service, ServiceResponse},
    http::Method,
    test::{self, TestRequest},
};
use serde_json::{Value, json};
use sessions::{Cause, Closing, SqliteSessions, Token};
use tempfile::TempDir;

use super::*;
use crate::{SqliteUsers, pool::tests as threads};

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
        Self::with(config().bcrypt_cost)
    }

    fn with(bcrypt_cost: u32) -> Self {
        Self::open(TempDir::new().unwrap(), bcrypt_cost)
    }

    /// The same stores with another cost.
    fn restarted(self, bcrypt_cost: u32) -> Self {
        let Self { directory, sessions, accounts } = self;
        drop((sessions, accounts));
        Self::open(directory, bcrypt_cost)
    }

    /// The cost of a user's stored hash.
    fn cost(&self, key: &str) -> u32 {
        let file = rusqlite::Connection::open(self.directory.path().join("users.sqlite3")).unwrap();
        let sql = "SELECT hash FROM users WHERE key = ?1";
        let hash: String = file.query_row(sql, [key], |row| row.get(0)).unwrap();
        crate::pool::cost_of(&hash).unwrap()
    }

    fn open(directory: TempDir, bcrypt_cost: u32) -> Self {
        let users = SqliteUsers::open(&directory.path().join("users.sqlite3")).unwrap();
        let sessions =
            SqliteSessions::open(&directory.path().join("sessions.sqlite3"), proto::Timestamp::now).unwrap();
        let sessions: SharedSessions = Arc::new(sessions);
        let config = Config { bcrypt_cost, ..config() };
        let accounts = Accounts::new(Arc::new(users), sessions.clone(), &config);
        let accounts = accounts.unwrap();
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
        // The gateway does this before it forwards the response.
        if let Some(opened) = headers.get(OPENED) {
            self.sessions.supersede(&opened.to_str().unwrap().parse().unwrap()).await.unwrap();
        }
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
        self.sessions.find(token).await.unwrap().is_some()
    }

    /// Changes the users' file directly.
    fn tamper(&self, sql: &str) {
        let file = rusqlite::Connection::open(self.directory.path().join("users.sqlite3")).unwrap();
        file.execute_batch(sql).unwrap();
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

fn config() -> Config {
    Config {
        bcrypt_cost: 4,
        cookie_secure: false,
        login_body_limit: 4_096,
        login_body_deadline: std::time::Duration::from_secs(10),
        password_threads: 1,
        password_queue: 4,
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
    assert_eq!(fixture.sessions.find(&token).await.unwrap().unwrap().username.as_str(), "alice");
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
async fn a_secure_deployment_marks_its_cookies() {
    let mut fixture = Fixture::new();
    fixture.accounts.secure = true;
    fixture.alice().await;
    assert_eq!(fixture.login("alice", GOOD).await.cookie.unwrap().secure(), Some(true));
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
        assert_eq!(fixture.sessions.find(&token).await.unwrap().unwrap().username.as_str(), "Alice");
    }
}

#[actix_rt::test]
async fn an_unknown_user_and_a_wrong_password_give_equal_responses_and_cost_one_check_each() {
    let fixture = Fixture::new();
    fixture.alice().await;
    let checks = || fixture.accounts.service.pool.verified();
    let mut answers = Vec::new();
    for (name, password) in [("unknown", GOOD), ("alice", "wrong password"), ("unknown", "wrong password")] {
        let before = checks();
        let refused = fixture.login(name, password).await;
        refused.is_refusal(401);
        assert_eq!(checks() - before, 1, "{name}");
        let headers: Vec<_> = refused.headers.keys().map(|name| name.as_str().to_owned()).collect();
        answers.push((refused.body, headers));
    }
    assert_eq!(answers[0].0["message"], "Invalid credentials");
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    // The dummy hash has the cost of a new hash.
    let dummy_hash: bcrypt::HashParts = fixture.accounts.service.dummy_hash().parse().unwrap();
    assert_eq!(dummy_hash.get_cost(), config().bcrypt_cost);
}

#[actix_rt::test]
async fn hashes_follow_a_changed_cost_and_refusals_do_not_reveal_old_hashes() {
    for (before, after) in [(4, 6), (6, 4)] {
        let fixture = Fixture::with(before);
        fixture.alice().await;
        assert_eq!(fixture.register("bob", GOOD).await.status, 201);
        let fixture = fixture.restarted(after);
        assert_eq!(fixture.register("carol", GOOD).await.status, 201);
        let pool = &fixture.accounts.service.pool;
        let mut refusals = Vec::new();
        for name in ["alice", "bob", "carol", "unknown", "alice"] {
            let before = pool.rounds();
            let refused = fixture.login(name, "wrong password").await;
            refused.is_refusal(401);
            refusals.push((pool.rounds() - before, refused.body.to_string()));
        }
        assert!(refusals.iter().all(|refusal| *refusal == refusals[0]), "{refusals:?}");
        for _ in 0..2 {
            assert_eq!(fixture.login("alice", GOOD).await.status, 200);
        }
        let costs = ["alice", "bob", "carol"].map(|name| fixture.cost(name));
        assert_eq!(costs, [after, before, after], "alice's has followed, bob's will");
        for name in ["alice", "bob", "unknown"] {
            let before = pool.rounds();
            fixture.login(name, "wrong password").await.is_refusal(401);
            assert_eq!(pool.rounds() - before, refusals[0].0, "{name}");
        }
    }
}

#[actix_rt::test]
async fn a_login_replaces_the_session_of_its_cookie() {
    let fixture = Fixture::new();
    let old = fixture.alice().await;
    let refused = json!({ "username": "alice", "password": "wrong password" });
    let cookie = format!("auth_token={}", old.reveal());
    let request = TestRequest::post().uri("/user/login").insert_header(("cookie", cookie.clone()));
    fixture.send(request.set_json(refused)).await.is_refusal(401);
    assert!(fixture.is_live(&old).await, "a refused login closes nothing");
    let new = fixture.send(login_with(&cookie)).await.token();
    assert_ne!(old, new);
    assert!(!fixture.is_live(&old).await);
    assert!(fixture.is_live(&new).await);
    // A token that the client chose is never adopted.
    let chosen = fixture.send(login_with("auth_token=chosen_by_the_client")).await.token();
    assert_ne!(chosen.reveal(), "chosen_by_the_client");
}

#[actix_rt::test]
async fn a_login_replaces_the_sessions_of_all_its_cookies() {
    let fixture = Fixture::new();
    let (one, two) = (fixture.alice().await, fixture.login("alice", GOOD).await.token());
    let mut closings = fixture.sessions.closings();
    let cookies = format!("nick=Jos\u{e9}; auth_token={}; auth_token={}", one.reveal(), two.reveal());
    let new = fixture.send(login_with(&cookies)).await.token();
    for old in [&one, &two] {
        assert!(!fixture.is_live(old).await);
        assert_eq!(closings.recv().await, Ok(Closing { id: old.id(), cause: Cause::Replaced }));
    }
    assert!(fixture.is_live(&new).await);
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
    assert!(third.status == 200 && !fixture.is_live(&token).await, "the token is replaced");
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
    for (name, session) in [("bob", None), ("carol", Some("cookie"))] {
        let answer = fixture.send(register(name, session)).await;
        assert_eq!((answer.status, answer.headers.get("set-cookie")), (201, None), "{name}");
        assert_eq!(answer.body, json!({"status":"success","message":"User registered successfully"}));
    }
    let taken = fixture.send(register("ALICE", Some("token"))).await;
    assert_eq!((taken.status, taken.body.get("token")), (409, None));
}

#[actix_rt::test]
async fn a_logout_revokes_every_presented_session() {
    let fixture = Fixture::new();
    fixture.alice().await;
    let mut tokens = Vec::new();
    for _ in 0..4 {
        tokens.push(fixture.login("alice", GOOD).await.token());
    }
    let [one, two, three, four] = [0, 1, 2, 3].map(|n| tokens[n].reveal());
    let requests: [(&[String], &[usize]); 7] = [
        (&[format!("nick=Jos\u{e9}; auth_token={one}")], &[0]),
        (&[format!("auth_token={one}; auth_token={one}")], &[0]),
        (&[format!("auth_token={one}; auth_token={two}")], &[0, 1]),
        (
            &[format!("auth_token={one}"), format!("\u{1f98e}=1; auth_token=\"{two}\"; auth_token=a b")],
            &[0, 1],
        ),
        (&[format!("auth_token={one}"), format!("Bearer {three}")], &[0, 2]),
        (
            &[
                format!("auth_token={one}; auth_token={two}"),
                format!("bearer  {three}"),
                format!("Bearer {four}"),
            ],
            &[0, 1, 2, 3],
        ),
        (&["auth_token=; nick=\u{e9}".to_owned(), format!("Bearer {four}")], &[3]),
    ];
    for (headers, ended) in requests {
        let fixture = Fixture::new();
        fixture.alice().await;
        for token in &tokens {
            let path = fixture.directory.path().join("sessions.sqlite3");
            let file = rusqlite::Connection::open(path).unwrap();
            let row = "INSERT INTO sessions(id, user, username, issued_at) VALUES (?1, 'alice', 'Alice', ?2)";
            let now = i64::try_from(proto::Timestamp::now().0).unwrap();
            file.execute(row, rusqlite::params![token.id().as_str(), now]).unwrap();
        }
        let logout = headers.iter().fold(TestRequest::post().uri("/user/logout"), |logout, value| {
            let is_bearer = value.to_ascii_lowercase().starts_with("bearer");
            logout.append_header((if is_bearer { "authorization" } else { "cookie" }, value.as_str()))
        });
        let received = fixture.send(logout).await;
        assert_eq!((received.status, received.cookie.unwrap().value()), (200, ""), "{headers:?}");
        for (n, token) in tokens.iter().enumerate() {
            assert_eq!(fixture.is_live(token).await, !ended.contains(&n), "{n} after {headers:?}");
        }
    }
}

#[actix_rt::test]
async fn a_logout_that_the_store_refuses_is_503() {
    let fixture = Fixture::new();
    let token = fixture.alice().await;
    let path = fixture.directory.path().join("sessions.sqlite3");
    let file = rusqlite::Connection::open(path).unwrap();
    file.execute_batch("ALTER TABLE sessions RENAME TO gone").unwrap();
    let cookies = format!("auth_token={}; nick=Jos\u{e9}", token.reveal());
    fixture
        .send(TestRequest::post().uri("/user/logout").insert_header(("cookie", cookies)))
        .await
        .is_refusal(503);
}

#[actix_rt::test]
async fn logout_takes_a_bearer_token_and_needs_none() {
    let fixture = Fixture::new();
    let token = fixture.alice().await;
    let logout = || TestRequest::post().uri("/user/logout");
    for dummy_hash in [
        logout(),
        logout().insert_header(("cookie", "auth_token=unknown")),
        logout().insert_header(("cookie", "auth_token=a b")),
    ] {
        let received = fixture.send(dummy_hash).await;
        assert_eq!((received.status, received.cookie.unwrap().value()), (200, ""));
    }
    assert!(fixture.is_live(&token).await);
    let bearer = format!("Bearer {}", token.reveal());
    assert_eq!(fixture.send(logout().insert_header(("authorization", bearer))).await.status, 200);
    assert!(!fixture.is_live(&token).await);
}

#[actix_rt::test]
async fn too_many_logins_at_once_are_503_with_a_time_to_wait() {
    let fixture = Fixture::new();
    fixture.alice().await;
    let people = &fixture.accounts.service;
    let refuses = |received: Received| {
        received.is_refusal(503);
        assert_eq!(received.headers.get("retry-after").unwrap(), "1");
    };
    let stay = threads::occupy(&people.registrations).await;
    threads::fill(&people.registrations);
    refuses(fixture.register("bob", GOOD).await);
    assert_eq!(
        fixture.login("alice", GOOD).await.status,
        200,
        "who registers keeps dummy_hash from logging in"
    );
    drop(stay);
    let stay = threads::occupy(&people.pool).await;
    threads::fill(&people.pool);
    refuses(fixture.login("alice", GOOD).await);
    drop(stay);
}

#[actix_rt::test]
async fn a_flood_from_one_address_locks_out_that_address_only() {
    let fixture = Fixture::new();
    fixture.alice().await;
    let people = &fixture.accounts.service;
    let (attacker, victim) = (IpAddr::from([203, 0, 113, 1]), IpAddr::from([203, 0, 113, 9]));
    let table = [
        ("/user/login", "alice", false, &people.pool, 200),
        ("/user/login", "alice", true, &people.pool, 200),
        ("/user/register", "bob", false, &people.registrations, 201),
        ("/user/register", "carol", true, &people.registrations, 201),
    ];
    // The address is the peer's in a process of its own, and stated by the gateway between processes.
    for (path, name, is_stated, pool, status) in table {
        let request = |address: IpAddr| {
            let request = TestRequest::post().uri(path);
            let request = request.set_json(json!({ "username": name, "password": GOOD }));
            let gateway = IpAddr::from([10, 0, 0, 1]);
            match is_stated {
                true => request
                    .peer_addr((gateway, 1).into())
                    .insert_header(("x-forwarded-for", address.to_string())),
                false => request.peer_addr((address, 1).into()),
            }
        };
        let stay = threads::occupy(pool).await;
        threads::flood(pool, attacker);
        fixture.send(request(attacker)).await.is_refusal(503);
        let free_thread = async {
            threads::awaits(pool, victim).await;
            drop(stay);
        };
        let (received, ()) = tokio::join!(fixture.send(request(victim)), free_thread);
        assert_eq!(received.status, status, "{path} {is_stated}: {}", received.body);
    }
}

#[actix_rt::test]
async fn a_damaged_user_is_refused_like_an_unknown_user_and_the_name_stays_taken() {
    // How the row of alice is damaged.
    let damages = [
        "UPDATE users SET hash = 'äöü$2b$', sum = NULL",
        "UPDATE users SET hash = replace(hash, '$2b$', '$3b$')",
        "UPDATE users SET hash = substr(hash, 1, 59) || 'x'",
        "UPDATE users SET username = 'Alicf'",
        "UPDATE users SET username = 'a b', sum = NULL",
        "UPDATE users SET key = 'alicf'",
        "UPDATE users SET created_at = created_at + 1",
        "UPDATE users SET hash = replace(hash, '$2b$04$', '$2b$31$')",
    ];
    for damage in damages {
        let fixture = Fixture::new();
        fixture.alice().await;
        fixture.tamper(damage);
        let people = &fixture.accounts.service;
        let cost = |before: u64| people.pool.rounds() - before;
        let before = people.pool.rounds();
        let dummy_hash = fixture.login("unknown", GOOD).await;
        let refusal = cost(before);
        for password in [GOOD, "another horse"] {
            let before = people.pool.rounds();
            let alice = fixture.login("alice", password).await;
            assert_eq!((alice.status, &alice.body), (401, &dummy_hash.body), "{damage}");
            assert_eq!(cost(before), refusal, "{damage}: the time reveals that the user exists");
        }
        for name in ["alice", "ALICE"] {
            assert_eq!(fixture.register(name, GOOD).await.status, 409, "{damage}: {name} is free");
        }
        assert_eq!(fixture.register("bob", GOOD).await.status, 201, "{damage}");
    }
}

#[actix_rt::test]
async fn a_broken_store_refuses_logins() {
    let fixture = Fixture::new();
    fixture.alice().await;
    fixture.tamper("ALTER TABLE users RENAME TO gone");
    for refused in [
        fixture.login("alice", GOOD).await,
        fixture.login("unknown", GOOD).await,
        fixture.register("bob", GOOD).await,
    ] {
        refused.is_refusal(503);
        assert!(!refused.body.to_string().contains("users"), "{}", refused.body);
    }
}

#[actix_rt::test]
async fn other_methods_are_refused_in_the_documented_shape() {
    let fixture = Fixture::new();
    for path in ["/user/register", "/user/login", "/user/logout"] {
        for method in [Method::GET, Method::PUT, Method::DELETE] {
            let received = fixture.send(TestRequest::default().method(method).uri(path)).await;
            received.is_refusal(405);
            assert_eq!(received.headers.get("allow").unwrap(), "POST");
        }
    }
    fixture.send(TestRequest::post().uri("/user/me")).await.is_refusal(405);
}
