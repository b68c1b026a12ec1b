//! The door around handlers that tell what reached them: each rule of the order in `Gateway::examine` has a table here.

mod bodies;
mod credentials;
mod origins;
mod store;

use std::{net::SocketAddr, sync::Arc};

use actix_web::{
    App, HttpMessage, HttpRequest, HttpResponse,
    body::BoxBody,
    http::{StatusCode, header::HeaderMap},
    test::{self, TestRequest},
    web,
};
use clap::Parser;
use proto::{Identity, Timestamp, Username};
use serde_json::{Value, json};
use sessions::{SessionId, Sessions, SqliteSessions, Token};

use super::*;
use crate::Config;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    gateway: Config,
}

/// A gateway over a real session store in which alice is logged in.
struct Stage {
    gateway: Gateway,
    token: String,
    _folder: tempfile::TempDir,
}

/// What the world saw of one answer.
struct Seen {
    status: u16,
    headers: HeaderMap,
    body: Value,
}

async fn stage(flags: &[&str]) -> Stage {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteSessions::open(&folder.path().join("sessions.sqlite3"), Timestamp::now).unwrap();
    let alice: Username = "alice".parse().unwrap();
    let token = store.open(&alice).await.unwrap().reveal().to_owned();
    Stage { gateway: gateway(flags, Arc::new(store)), token, _folder: folder }
}

fn gateway(flags: &[&str], sessions: sessions::SharedSessions) -> Gateway {
    let args = ["gateway", "--allow-origin=https://app.example", "--trusted-proxy=10.0.0.0/8"];
    let cli = Cli::try_parse_from(args.iter().chain(flags)).unwrap();
    Gateway::new(cli.gateway, sessions)
}

/// Answers with who the services behind the door believe to be asked by, and which headers they see.
async fn mirror(request: HttpRequest) -> HttpResponse {
    let identity = request.extensions().get::<Identity>().cloned();
    let headers: Vec<_> = request.headers().keys().map(|name| name.as_str().to_owned()).collect();
    HttpResponse::Ok().json(json!({
        "user": identity.as_ref().map(|identity| identity.username.to_string()),
        "session": identity.map(|identity| identity.session),
        "headers": headers,
    }))
}

async fn echo(body: web::Json<Value>) -> HttpResponse {
    HttpResponse::Ok().json(body.into_inner())
}

async fn read_all(body: web::Bytes) -> HttpResponse {
    HttpResponse::Ok().json(body.len())
}

async fn fails() -> Result<HttpResponse, ActixError> {
    Err(actix_web::error::ErrorImATeapot("plain text of a library"))
}

fn services(service: &mut web::ServiceConfig) {
    service
        .route("/user/me", web::get().to(mirror))
        .route("/user/login", web::post().to(mirror))
        .route("/socket.io/", web::route().to(mirror))
        .route("/rooms", web::post().to(echo))
        .route("/rooms/{room}", web::patch().to(read_all))
        .route("/rooms/{room}", web::delete().to(mirror))
        .route("/rooms", web::get().to(fails))
        .route("/presence/online", web::get().to(HttpResponse::InternalServerError));
}

async fn ask(gateway: &Gateway, request: TestRequest) -> Seen {
    let app = App::new()
        .configure(|service| gateway.routes(service))
        .configure(services)
        .default_service(web::to(crate::not_found))
        .wrap(gateway.door());
    let app = test::init_service(app).await;
    let request = request.peer_addr(SocketAddr::from(([127, 0, 0, 1], 1))).to_request();
    let answer: HttpResponse<BoxBody> = match app.call(request).await {
        Ok(answer) => answer.into_parts().1.map_into_boxed_body(),
        Err(error) => error.error_response(),
    };
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let bytes = actix_web::body::to_bytes(answer.into_body()).await.unwrap();
    Seen { status, headers, body: serde_json::from_slice(&bytes).unwrap_or(Value::Null) }
}

fn get(path: &str) -> TestRequest {
    TestRequest::get().uri(path).insert_header(("host", "chat.example"))
}

fn post(path: &str) -> TestRequest {
    TestRequest::post().uri(path).insert_header(("host", "chat.example"))
}

impl Stage {
    fn cookie(&self) -> (&'static str, String) {
        ("cookie", format!("auth_token={}", self.token))
    }

    fn bearer(&self) -> (&'static str, String) {
        ("authorization", format!("Bearer {}", self.token))
    }
}

fn assert_refused(seen: &Seen, code: u16, message: &str) {
    assert_eq!(seen.status, code, "{}", seen.body);
    assert_eq!(seen.body, json!({"status": "error", "code": code, "message": message}));
}

#[actix_web::test]
async fn a_live_session_is_let_in_by_cookie_or_bearer_token_as_its_user() {
    let stage = stage(&[]).await;
    for credential in [stage.cookie(), stage.bearer()] {
        let seen = ask(&stage.gateway, get("/user/me").insert_header(credential)).await;
        assert_eq!(seen.status, 200);
        assert_eq!(seen.body["user"], "alice");
        let id: SessionId = stage.token.parse::<Token>().unwrap().id();
        assert_eq!(seen.body["session"], id.as_str());
    }
}

#[actix_web::test]
async fn identity_headers_of_a_client_reach_no_handler_and_change_nobody() {
    let stage = stage(&[]).await;
    let names = [
        "X-Authenticated-User",
        "x_authenticated_user",
        "X_Authenticated-User",
        "X-AUTHENTICATED-SESSION",
        "X-Remote-User",
        "Remote_User",
        "X-Real-IP",
        "X-Forwarded-User",
        "X-Forwarded-For",
        "X_Forwarded_For",
        "Forwarded",
        "X-Forwarded-Proto",
    ];
    let request = names.iter().fold(get("/user/me"), |request, name| request.append_header((*name, "eve")));
    let seen = ask(&stage.gateway, request.insert_header(stage.cookie())).await;
    assert_eq!(seen.body["user"], "alice");
    assert_eq!(
        seen.body["headers"].as_array().unwrap().len(),
        2,
        "host and cookie only: {}",
        seen.body["headers"]
    );
    let forged = names.iter().fold(get("/user/me"), |request, name| request.append_header((*name, "eve")));
    assert_refused(&ask(&stage.gateway, forged).await, 401, "Unauthorized");
}

#[actix_web::test]
async fn public_routes_do_not_look_at_credentials() {
    let stage = stage(&[]).await;
    let stale = ("cookie", "auth_token=stale!; auth_token=twice");
    let seen = ask(&stage.gateway, post("/user/login").insert_header(stale)).await;
    assert_eq!((seen.status, &seen.body["user"]), (200, &Value::Null));
    assert_eq!(ask(&stage.gateway, get("/healthz").insert_header(stale)).await.body, json!({"status": "ok"}));
}

#[actix_web::test]
async fn what_is_not_in_the_table_is_404_or_405_in_json() {
    let stage = stage(&[]).await;
    assert_refused(&ask(&stage.gateway, get("/nowhere")).await, 404, "Not Found");
    let seen = ask(&stage.gateway, post("/user/me")).await;
    assert_refused(&seen, 405, "Method Not Allowed");
    assert_eq!(seen.headers.get("allow").unwrap(), "GET");
    let seen = ask(&stage.gateway, TestRequest::default().method(Method::TRACE).uri("/")).await;
    assert_refused(&seen, 405, "Method Not Allowed");
    let mounted_nowhere = get("/presence/typing").insert_header(stage.cookie());
    assert_refused(&ask(&stage.gateway, mounted_nowhere).await, 404, "Not Found");
}

#[actix_web::test]
async fn odd_paths_and_upgrades_are_400_before_anything_is_looked_up() {
    let stage = stage(&[]).await;
    for path in ["/user//me", "/user/%2e%2e/me", "/user%2fme", "/nowhere/..", "/user/me%00"] {
        let seen = ask(&stage.gateway, get(path).insert_header(stage.cookie())).await;
        assert_refused(&seen, 400, "the path is not in canonical form");
    }
    for path in ["/user/me", "/", "/nowhere"] {
        let offer =
            get(path).insert_header(("upgrade", "websocket")).insert_header(("connection", "Upgrade"));
        let seen = ask(&stage.gateway, offer).await;
        assert_refused(&seen, 400, "nothing can be upgraded here: WebSockets are served at /socket.io/");
    }
    let body =
        get("/socket.io/").insert_header(("upgrade", "websocket")).insert_header(("content-length", "5"));
    assert_refused(&ask(&stage.gateway, body).await, 400, "a WebSocket handshake has no body");
}

#[actix_web::test]
async fn a_host_header_that_names_no_host_is_400() {
    let stage = stage(&[]).await;
    for host in ["", "a, b", "a@evil.example", "a b", "a:b", "a:8080:1", "http://a", "a/b", "*"] {
        let seen = ask(&stage.gateway, TestRequest::get().uri("/health").insert_header(("host", host))).await;
        assert_eq!(seen.status, 400, "{host:?}");
    }
    for host in ["a", "a:8080", "[::1]:8080", "127.0.0.1:1"] {
        let seen = ask(&stage.gateway, TestRequest::get().uri("/health").insert_header(("host", host))).await;
        assert_ne!(seen.status, 400, "{host:?}");
    }
}

#[actix_web::test]
async fn oversized_heads_are_refused_first_of_all() {
    let stage = stage(&[]).await;
    let session = format!("/socket.io/?EIO=4&transport=polling&sid={}", "a".repeat(64_000));
    let seen = ask(&stage.gateway, get(&session)).await;
    assert_eq!((seen.status, seen.body), (400, json!({"code": 1, "message": "Session ID unknown"})));
    let long = get(&format!("/user/me?{}", "a".repeat(5_000))).insert_header(stage.cookie());
    assert_refused(&ask(&stage.gateway, long).await, 414, "the request target is too long");
    let fat = get("/healthz").insert_header(("x", "a".repeat(20_000)));
    assert_refused(&ask(&stage.gateway, fat).await, 431, "the request head is too large");
}

#[actix_web::test]
async fn an_encoded_letter_means_the_same_route() {
    let stage = stage(&[]).await;
    let seen = ask(&stage.gateway, get("/user/%6de").insert_header(stage.cookie())).await;
    assert_eq!(seen.body["user"], "alice");
}

#[actix_web::test]
async fn only_json_bodies_of_a_bounded_size_pass() {
    let stage = stage(&["--body-limit=2048"]).await;
    let send = |kind: &'static str, size: usize| {
        let text = serde_json::to_string(&"x".repeat(size - 2)).unwrap();
        post("/rooms").insert_header(stage.cookie()).insert_header(("content-type", kind)).set_payload(text)
    };
    let length =
        |request: TestRequest, size: usize| request.insert_header(("content-length", size.to_string()));
    let json = "application/json";
    assert_eq!(ask(&stage.gateway, length(send(json, 2048), 2048)).await.status, 200);
    let seen = ask(&stage.gateway, length(send(json, 2049), 2049)).await;
    assert_refused(&seen, 413, "the request body is too large");
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"] {
        let seen = ask(&stage.gateway, length(send(kind, 10), 10)).await;
        assert_refused(&seen, 415, "the body must be application/json");
    }
    let with_body = get("/user/me").insert_header(stage.cookie()).insert_header(("content-length", "2"));
    assert_refused(&ask(&stage.gateway, with_body).await, 400, "this request takes no body");
}

#[actix_web::test]
async fn a_body_that_does_not_say_its_length_is_cut_at_the_limit() {
    let stage = stage(&["--body-limit=2048"]).await;
    for (size, status) in [(2048, 200), (2049, 413)] {
        let request = TestRequest::patch()
            .uri("/rooms/a")
            .insert_header(stage.cookie())
            .insert_header(("content-type", "application/json"))
            .insert_header(("transfer-encoding", "chunked"))
            .set_payload("x".repeat(size));
        assert_eq!(ask(&stage.gateway, request).await.status, status);
    }
}

#[actix_web::test]
async fn refusals_that_libraries_make_get_our_shape_and_keep_their_status() {
    let stage = stage(&[]).await;
    let bad = post("/rooms")
        .insert_header(stage.cookie())
        .insert_header(("content-type", "application/json"))
        .insert_header(("content-length", "1"))
        .set_payload("{");
    assert_refused(&ask(&stage.gateway, bad).await, 400, "Bad Request");
    let teapot = get("/rooms").insert_header(stage.cookie());
    assert_refused(&ask(&stage.gateway, teapot).await, 418, "I'm a teapot");
    let empty = get("/presence/online").insert_header(stage.cookie());
    assert_refused(&ask(&stage.gateway, empty).await, 500, "Internal Server Error");
}

#[actix_web::test]
async fn answers_tell_browsers_not_to_guess_store_or_frame() {
    let stage = stage(&[]).await;
    for path in ["/user/me", "/nowhere", "/healthz"] {
        let seen = ask(&stage.gateway, get(path).insert_header(stage.cookie())).await;
        assert_eq!(seen.headers.get("x-content-type-options").unwrap(), "nosniff");
        assert_eq!(seen.headers.get("referrer-policy").unwrap(), "no-referrer");
        assert_eq!(seen.headers.get("cache-control").unwrap(), "no-store");
        assert!(seen.headers.get("content-security-policy").is_some());
    }
    let page = ask(&stage.gateway, get("/")).await;
    assert_eq!(page.headers.get("content-type").unwrap(), "text/html; charset=utf-8");
    assert_eq!(page.headers.get("cache-control").unwrap(), "no-cache");
}

#[actix_web::test]
async fn a_request_of_an_open_session_may_come_without_credentials_and_is_nobodys() {
    let stage = stage(&[]).await;
    let app = test::init_service(App::new().configure(services).wrap(stage.gateway.door())).await;
    for (query, expected) in
        [("sid=abc", 200), ("EIO=4&transport=polling&sid=abc", 200), ("sid=", 401), ("xsid=a", 401)]
    {
        let request =
            TestRequest::get().uri(&format!("/socket.io/?{query}")).insert_header(("host", "chat.example"));
        let answer = test::call_service(&app, request.to_request()).await;
        assert_eq!(answer.status().as_u16(), expected, "{query}");
        if expected == 200 {
            let seen: Value = test::read_body_json(answer).await;
            assert_eq!(seen["user"], Value::Null, "{query}");
        }
    }
}

#[actix_web::test]
async fn handshakes_that_name_nobody_are_limited_for_each_client() {
    for flags in [&["--allow-origin", "http://app.example"][..], &["--allow-token-clients"]] {
        let stage = stage(flags).await;
        let origin = ("origin", if flags.len() > 1 { "http://app.example" } else { "http://chat.example" });
        let app = test::init_service(App::new().configure(services).wrap(stage.gateway.door())).await;
        let handshake = async |from: &str, dead: bool, query: &str| {
            let peer = std::net::SocketAddr::new(from.parse().unwrap(), 1);
            let mut request = TestRequest::get().uri(&format!("/socket.io/?{query}")).peer_addr(peer);
            request = request.insert_header(("host", "chat.example")).insert_header(origin);
            if dead {
                request = request.insert_header(("cookie", "auth_token=gone"));
            }
            test::call_service(&app, request.to_request()).await.status().as_u16()
        };
        let mut admitted = 0;
        let refused = loop {
            match handshake("10.0.0.1", admitted % 2 == 1, "EIO=4").await {
                200 => admitted += 1,
                refused => break refused,
            }
            assert!(admitted < 100_000, "never refused");
        };
        assert_eq!(refused, 429);
        assert!(admitted >= 2_000, "{admitted}");
        assert_eq!(handshake("10.0.0.2", false, "EIO=4").await, 200, "another client");
        assert_eq!(handshake("10.0.0.1", false, "EIO=4&sid=a").await, 200, "within a session");
    }
}
