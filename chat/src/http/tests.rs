//! The HTTP API on a real store. The identity is in the request's extensions, where the gateway puts it.

use std::sync::Arc;

use actix_http::Request;
use actix_web::{
    App, Error as ActixError, HttpMessage,
    body::to_bytes,
    dev::{Service, ServiceResponse},
    test::{TestRequest, init_service},
};
use proto::{Identity, Timestamp, Username};
use serde_json::{Value, json};
use sessions::SqliteSessions;
use socketio::Io;

use crate::{Chat, Config, Deps, SqliteStore, start};

struct TestApi {
    chat: Chat,
    _dir: tempfile::TempDir,
}

/// A user lookup in which every name but `unregistered` is registered.
struct AllRegistered;

#[async_trait::async_trait]
impl crate::UserLookup for AllRegistered {
    async fn find(&self, name: &Username) -> Result<Option<Username>, crate::Error> {
        Ok(Some(name.clone()).filter(|name| name.as_str() != "unregistered"))
    }
}

impl TestApi {
    async fn new() -> Self {
        Self::with(Config::default()).await
    }

    async fn with(config: Config) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&dir.path().join("chat.sqlite3")).unwrap();
        let sessions = SqliteSessions::open(&dir.path().join("sessions.sqlite3"), Timestamp::now).unwrap();
        // No service listens on this port: presence stays unknown.
        let config = Config { presence_url: "http://127.0.0.1:1".into(), ..config };
        let (history, directory, journal) = (store.history(), store.directory(), store.journal());
        let deps = Deps {
            history,
            order: crate::Order::Store(journal),
            directory,
            ticket_key: store.secret(),
            user_lookup: Arc::new(AllRegistered),
            sessions: Arc::new(sessions),
            io: Io::new(),
            config,
        };
        Self { chat: start(deps).await.unwrap(), _dir: dir }
    }

    /// The status and body of the response to `user`. An empty `user` is not logged in.
    async fn call(&self, user: &str, method: &str, path: &str, body: Value) -> (u16, Value) {
        let request = match body {
            Value::Null => TestRequest::default(),
            body => TestRequest::default().set_json(body),
        };
        self.send(user, request.method(method.parse().unwrap()).uri(path)).await
    }

    async fn send(&self, user: &str, request: TestRequest) -> (u16, Value) {
        let app = init_service(App::new().configure(|service| self.chat.routes(service))).await;
        let request = request.to_request();
        if let Ok(username) = user.parse() {
            request.extensions_mut().insert(Identity { username, session: "s".into() });
        }
        answer(&app, request).await
    }

    async fn get(&self, user: &str, path: &str) -> (u16, Value) {
        self.call(user, "GET", path, Value::Null).await
    }

    async fn post(&self, user: &str, path: &str, body: Value) -> (u16, Value) {
        self.call(user, "POST", path, body).await
    }
}

async fn answer(
    app: &impl Service<Request, Response = ServiceResponse, Error = ActixError>,
    request: Request,
) -> (u16, Value) {
    let response = app.call(request).await.unwrap();
    let status = response.status().as_u16();
    let body = to_bytes(response.into_body()).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

fn refusal(code: u16, message: &str) -> (u16, Value) {
    (code, json!({"status": "error", "code": code, "message": message}))
}

#[actix_rt::test]
async fn requests_without_a_login_are_unauthorized() {
    let api = TestApi::new().await;
    let nothing = Value::Null;
    for (method, path, body) in [
        ("GET", "/rooms", &nothing),
        ("POST", "/rooms", &json!({"name": "tea"})),
        ("GET", "/rooms/lobby", &nothing),
        ("PATCH", "/rooms/lobby", &json!({"private": true})),
        ("DELETE", "/rooms/lobby", &nothing),
        ("PUT", "/rooms/lobby/members/bob", &nothing),
        ("DELETE", "/rooms/lobby/members/bob", &nothing),
        ("GET", "/rooms/lobby/messages", &nothing),
        ("POST", "/rooms/lobby/messages", &json!({"text": "hi"})),
        ("GET", "/rooms/lobby/changes", &nothing),
        ("GET", "/presence/online", &nothing),
        ("GET", "/presence/typing", &nothing),
    ] {
        let answer = api.call("", method, path, body.clone()).await;
        assert_eq!(answer, refusal(401, "Unauthorized"), "{method} {path}");
    }
}

#[actix_rt::test]
async fn rooms_are_created_listed_changed_and_archived() {
    let api = TestApi::new().await;
    let tea = json!({"name": "tea", "private": false, "ephemeral": false, "owner": "alice"});
    assert_eq!(api.post("alice", "/rooms", json!({"name": "tea"})).await, (201, tea.clone()));
    assert_eq!(api.post("bob", "/rooms", json!({"name": "tea"})).await.0, 409);
    let (status, list) = api.get("alice", "/rooms").await;
    assert_eq!((status, &list["rooms"][0]["name"], &list["rooms"][1]), (200, &json!("lobby"), &tea));
    let (status, room) = api.get("alice", "/rooms/tea").await;
    assert_eq!((status, &room["role"]), (200, &json!("owner")));
    assert_eq!(room["members"], json!([{"username": "alice", "role": "owner"}]));
    let (status, room) = api.get("bob", "/rooms/tea").await;
    assert_eq!((status, &room["role"], room.get("members")), (200, &Value::Null, None));
    assert_eq!(api.call("bob", "PATCH", "/rooms/tea", json!({"private": true})).await.0, 403);
    let (status, room) = api.call("alice", "PATCH", "/rooms/tea", json!({"private": true})).await;
    assert_eq!((status, &room["private"]), (200, &json!(true)));
    assert_eq!(api.get("bob", "/rooms/tea").await, refusal(404, "Not Found"));
    assert_eq!(api.call("bob", "DELETE", "/rooms/tea", Value::Null).await, refusal(404, "Not Found"));
    assert_eq!(api.call("alice", "DELETE", "/rooms/tea", Value::Null).await.0, 200);
    assert_eq!(api.get("alice", "/rooms/tea").await, refusal(404, "Not Found"));
    assert_eq!(api.get("alice", "/rooms").await.1["rooms"].as_array().unwrap().len(), 1);
}

#[actix_rt::test]
async fn invalid_input_is_refused_with_the_common_error_body() {
    let api = TestApi::new().await;
    let messages = "/rooms/lobby/messages";
    for (path, expected) in [
        ("/rooms/lobby/messages?limit=0", 400),
        ("/rooms/lobby/messages?limit=101", 400),
        ("/rooms/lobby/messages?limit=ten", 400),
        ("/rooms/lobby/messages?before=-1", 400),
        ("/rooms/lobby/messages?limit=100", 200),
        ("/rooms/nowhere/messages", 404),
        ("/rooms/no%20room/messages", 404),
        ("/rooms/no%20room", 404),
    ] {
        let (status, body) = api.get("alice", path).await;
        assert_eq!(
            (status, body["code"].as_u64()),
            (expected, (expected != 200).then_some(expected.into())),
            "{path}"
        );
    }
    for (body, expected) in [
        (json!({"text": 1}), 400),
        (json!({"text": {"$gt": ""}}), 400),
        (json!({"text": ""}), 400),
        (json!({}), 400),
        (json!([]), 400),
        (json!({"text": "x", "clientId": "c".repeat(65)}), 400),
        (json!({"text": "x".repeat(8193)}), 413),
        (json!({"text": "x".repeat(20_000)}), 413),
        (json!({"text": "x".repeat(8192)}), 201),
    ] {
        let (status, answer) = api.post("alice", messages, body).await;
        assert_eq!((status, &answer["status"] == "error"), (expected, expected != 201), "{answer}");
    }
    for name in [json!("no room"), json!(""), json!(5), json!({"$ne": null})] {
        assert_eq!(api.post("alice", "/rooms", json!({"name": name})).await.0, 400, "{name}");
    }
    let odd = json!({"name": "odd", "private": null, "other": [{}]});
    assert_eq!(api.post("alice", "/rooms", odd).await.0, 201, "unknown fields are ignored");
    for raw in ["{", "{\"text\":\"a\",\"text\":\"b\"}", "\u{1}"] {
        let request = TestRequest::post().uri(messages).insert_header(("content-type", "application/json"));
        let (status, answer) = api.send("alice", request.set_payload(raw)).await;
        assert_eq!((status, answer["code"].as_u64()), (400, Some(400)), "{raw}");
    }
    let form = TestRequest::post().uri(messages).set_payload("text=hi");
    assert_eq!(api.send("alice", form).await, refusal(415, "the body must be application/json"));
    assert_eq!(api.call("alice", "PUT", "/rooms/lobby/members/no%20name", Value::Null).await.0, 404);
    assert_eq!(api.post("alice", "/rooms", json!({"name": "den", "private": true})).await.0, 201);
    for (user, expected) in [("unregistered", 404), ("bob", 200)] {
        let path = format!("/rooms/den/members/{user}");
        assert_eq!(api.call("alice", "PUT", &path, Value::Null).await.0, expected, "{user}");
    }
}

#[actix_rt::test]
async fn writes_above_a_users_rate_are_refused_and_other_users_are_not_affected() {
    let api = TestApi::with(Config { message_rate: 1, message_burst: 3, ..Config::default() }).await;
    let post = async |user: &str| api.post(user, "/rooms/lobby/messages", json!({"text": "hi"})).await;
    let mut refused = None;
    // The bucket refills while the test runs; it cannot keep up with a loop.
    for _ in 0..200 {
        let answer = post("alice").await;
        if answer.0 == 429 {
            refused = Some(answer);
            break;
        }
    }
    assert_eq!(refused, Some(refusal(429, "too many requests: try again later")));
    assert_eq!(post("bob").await.0, 201);
}

#[actix_rt::test]
async fn a_503_has_a_retry_after_header() {
    let api = TestApi::new().await;
    let app = init_service(App::new().configure(|service| api.chat.routes(service))).await;
    let request = TestRequest::get().uri("/presence/online").to_request();
    let username = "alice".parse().unwrap();
    request.extensions_mut().insert(Identity { username, session: "s".into() });
    let response = app.call(request).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), response.headers().get("retry-after").unwrap()),
        (503, &"1".parse().unwrap())
    );
}

#[actix_rt::test]
async fn an_invalid_query_is_refused_and_types_are_separated_by_commas() {
    let api = TestApi::new().await;
    assert_eq!(api.post("alice", "/rooms", json!({"name": "tea"})).await.0, 201);
    for query in
        ["changes?rev=-1", "changes?rev=0&since=x", "changes?rev=1&rev=2", "messages?limit=4294967296"]
    {
        let (status, body) = api.get("alice", &format!("/rooms/tea/{query}")).await;
        assert_eq!((status, &body["status"]), (400, &json!("error")), "{query}");
    }
    assert_eq!(api.get("bob", "/rooms/tea/changes?rev=-1").await.0, 403, "permission is checked first");
    for (query, expected) in [("", 2), ("types=member,room", 2), ("types=member", 1), ("types=later", 0)] {
        let (status, body) = api.get("alice", &format!("/rooms/tea/changes?rev=0&{query}")).await;
        let changes = body["changes"].as_array().unwrap().iter();
        let items: usize = changes.map(|change| change["items"].as_array().unwrap().len()).sum();
        assert_eq!((status, items), (200, expected), "{query}: {body}");
    }
}
