//! Tests of the middleware around handlers that return the received request. Each rule of the order in `Gateway::check` has
//! a table here.

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

/// A gateway with a real session store in which alice is logged in.
struct Fixture {
    gateway: Gateway,
    token: String,
    _folder: tempfile::TempDir,
}

/// A response as the client receives it.
struct Received {
    status: u16,
    headers: HeaderMap,
    body: Value,
}

async fn fixture(flags: &[&str]) -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteSessions::open(&folder.path().join("sessions.sqlite3"), Timestamp::now).unwrap();
    let alice: Username = "alice".parse().unwrap();
    let token = store.open(&alice, &[]).await.unwrap().reveal().to_owned();
    Fixture { gateway: gateway(flags, Arc::new(store)), token, _folder: folder }
}

fn gateway(flags: &[&str], sessions: sessions::SharedSessions) -> Gateway {
    let args = ["gateway", "--allow-origin=https://app.example", "--trusted-proxy=10.0.0.0/8"];
    let cli = Cli::try_parse_from(args.iter().chain(flags)).unwrap();
    Gateway::new(cli.gateway, sessions)
}

/// Responds with the authenticated user and the header names that a service receives.
async fn show_request(request: HttpRequest) -> HttpResponse {
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

async fn fail() -> Result<HttpResponse, ActixError> {
    Err(actix_web::error::ErrorImATeapot("plain text of a library"))
}

fn services(service: &mut web::ServiceConfig) {
    service
        .route("/user/me", web::get().to(show_request))
        .route("/user/login", web::post().to(show_request))
        .route("/socket.io/", web::route().to(show_request))
        .route("/rooms", web::post().to(echo))
        .route("/rooms/{room}", web::patch().to(read_all))
        .route("/rooms/{room}", web::delete().to(show_request))
        .route("/rooms", web::get().to(fail))
        .route("/presence/online", web::get().to(HttpResponse::InternalServerError));
}

async fn send(gateway: &Gateway, request: TestRequest) -> Received {
    let app = App::new()
        .configure(|service| gateway.routes(service))
        .configure(services)
        .default_service(web::to(crate::not_found))
        .wrap(gateway.middleware());
    let app = test::init_service(app).await;
    let request = request.peer_addr(SocketAddr::from(([127, 0, 0, 1], 1))).to_request();
    let response: HttpResponse<BoxBody> = match app.call(request).await {
        Ok(response) => response.into_parts().1.map_into_boxed_body(),
        Err(error) => error.error_response(),
    };
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let bytes = actix_web::body::to_bytes(response.into_body()).await.unwrap();
    Received { status, headers, body: serde_json::from_slice(&bytes).unwrap_or(Value::Null) }
}

fn get(path: &str) -> TestRequest {
    TestRequest::get().uri(path).insert_header(("host", "chat.example"))
}

fn post(path: &str) -> TestRequest {
    TestRequest::post().uri(path).insert_header(("host", "chat.example"))
}

impl Fixture {
    fn cookie(&self) -> (&'static str, String) {
        ("cookie", format!("auth_token={}", self.token))
    }

    fn bearer(&self) -> (&'static str, String) {
        ("authorization", format!("Bearer {}", self.token))
    }
}

fn assert_refused(received: &Received, code: u16, message: &str) {
    assert_eq!(received.status, code, "{}", received.body);
    assert_eq!(received.body, json!({"status": "error", "code": code, "message": message}));
}

#[actix_web::test]
async fn identity_headers_of_a_client_reach_no_handler_and_do_not_change_the_user() {
    let fixture = fixture(&[]).await;
    let names = [
        "X-Authenticated-User",
        "x_authenticated_user",
        "X_Authenticated-User",
        "X-AUTHENTICATED-SESSION",
        "x-authenticated-anything",
        "X-Remote-User",
        "Remote_User",
        "X-Real-IP",
        "X-Forwarded-User",
        "X-Forwarded-For",
        "X_Forwarded_For",
        "X-Forwarded-Host",
        "Forwarded",
        "X-Forwarded-Proto",
    ];
    let request = names.iter().fold(get("/user/me"), |request, name| request.append_header((*name, "eve")));
    let received = send(&fixture.gateway, request.insert_header(fixture.cookie())).await;
    let session: SessionId = fixture.token.parse::<Token>().unwrap().id();
    assert_eq!(received.body["user"], "alice");
    assert_eq!(received.body["session"], session.as_str());
    let headers = received.body["headers"].as_array().unwrap();
    assert!(headers.len() == 2 && headers.contains(&json!("host")) && headers.contains(&json!("cookie")));
    let forged = names.iter().fold(get("/user/me"), |request, name| request.append_header((*name, "eve")));
    assert_refused(&send(&fixture.gateway, forged).await, 401, "Unauthorized");
}

#[actix_web::test]
async fn unlisted_routes_and_methods_get_404_or_405_in_json() {
    let fixture = fixture(&[]).await;
    assert_refused(&send(&fixture.gateway, get("/nowhere")).await, 404, "Not Found");
    let received = send(&fixture.gateway, post("/user/me")).await;
    assert_refused(&received, 405, "Method Not Allowed");
    assert_eq!(received.headers.get("allow").unwrap(), "GET");
}

#[actix_web::test]
async fn an_invalid_host_header_gets_400() {
    let fixture = fixture(&[]).await;
    let bad = ["", ":", "a, b", "a@evil.example", "a b", "a:b", "a:8080:1", "http://a", "a/b", "*"];
    let good = ["a", "a:", "a:8080", "[::1]:", "[::1]:8080", "127.0.0.1:1"];
    for host in bad.into_iter().chain(good) {
        let request = TestRequest::get().uri("/healthz").insert_header(("host", host));
        let want = if good.contains(&host) { 200 } else { 400 };
        assert_eq!(send(&fixture.gateway, request).await.status, want, "{host:?}");
    }
}

#[actix_web::test]
async fn oversized_heads_are_refused_before_any_other_check() {
    let fixture = fixture(&[]).await;
    let session = format!("/socket.io/?EIO=4&transport=polling&sid={}", "a".repeat(64_000));
    let received = send(&fixture.gateway, get(&session)).await;
    assert_eq!((received.status, received.body), (400, json!({"code": 1, "message": "Session ID unknown"})));
    // The largest request that is accepted, and one that exceeds the limit by one: a target of 4096 bytes, 64 header lines, and
    // 16 KiB of headers with `Host: chat.example`.
    let target = |more: usize| get(&format!("/healthz?{}", "a".repeat(4_087 + more)));
    let lines = |more| (0..63 + more).fold(get("/healthz"), |request, n| request.append_header(("x", n)));
    let bytes = |more: usize| get("/healthz").append_header(("x", "a".repeat(16_367 + more)));
    for largest in [target(0), lines(0), bytes(0)] {
        assert_eq!(send(&fixture.gateway, largest).await.status, 200);
    }
    assert_refused(&send(&fixture.gateway, target(1)).await, 414, "the request target is too long");
    for larger in [lines(1), bytes(1)] {
        assert_refused(&send(&fixture.gateway, larger).await, 431, "the request head is too large");
    }
}

#[actix_web::test]
async fn refusals_of_libraries_get_the_json_shape_and_keep_their_status() {
    let fixture = fixture(&[]).await;
    let bad = post("/rooms")
        .insert_header(fixture.cookie())
        .insert_header(("content-type", "application/json"))
        .insert_header(("content-length", "1"))
        .set_payload("{");
    assert_refused(&send(&fixture.gateway, bad).await, 400, "Bad Request");
    let teapot = get("/rooms").insert_header(fixture.cookie());
    assert_refused(&send(&fixture.gateway, teapot).await, 418, "I'm a teapot");
    let empty = get("/presence/online").insert_header(fixture.cookie());
    assert_refused(&send(&fixture.gateway, empty).await, 500, "Internal Server Error");
}

#[actix_web::test]
async fn responses_have_security_headers() {
    let fixture = fixture(&[]).await;
    for path in ["/user/me", "/nowhere", "/healthz"] {
        let received = send(&fixture.gateway, get(path).insert_header(fixture.cookie())).await;
        assert_eq!(received.headers.get("x-content-type-options").unwrap(), "nosniff");
        assert_eq!(received.headers.get("referrer-policy").unwrap(), "no-referrer");
        assert_eq!(received.headers.get("cache-control").unwrap(), "no-store");
        assert!(received.headers.get("content-security-policy").is_some());
    }
    let page = send(&fixture.gateway, get("/")).await;
    assert_eq!(page.headers.get("content-type").unwrap(), "text/html; charset=utf-8");
    assert_eq!(page.headers.get("cache-control").unwrap(), "no-cache");
}

#[actix_web::test]
async fn logins_are_limited_by_the_address_of_the_client() {
    let fixture = fixture(&["--login-rate=1", "--login-burst=1"]).await;
    let login = web::resource("/user/login").wrap(fixture.gateway.login_limit());
    let login = login.route(web::post().to(HttpResponse::Ok));
    let app = test::init_service(App::new().service(login).wrap(fixture.gateway.middleware())).await;
    let table = [
        ("203.0.113.9", "x-forwarded-for", "1.1.1.1", 200),
        // A peer that is not trusted cannot name another client.
        ("203.0.113.9", "x-forwarded-for", "1.1.1.2", 429),
        ("203.0.113.9", "x_forwarded_for", "1.1.1.3", 429),
        ("203.0.113.9", "forwarded", "for=1.1.1.4", 429),
        ("203.0.113.9", "x-real-ip", "1.1.1.5", 429),
        ("203.0.113.8", "x-forwarded-for", "1.1.1.1", 200),
        ("10.0.0.1", "x-forwarded-for", "198.51.100.1", 200),
        // The nearest hop counts.
        ("10.0.0.1", "x-forwarded-for", "198.51.100.9, 198.51.100.1", 429),
        ("10.0.0.1", "x-forwarded-for", "198.51.100.2", 200),
        // One customer has a /64.
        ("10.0.0.1", "x-forwarded-for", "2001:db8:1:2::1", 200),
        ("10.0.0.1", "x-forwarded-for", "2001:db8:1:2:3::4", 429),
        ("10.0.0.1", "x-forwarded-for", "2001:db8:1:3::1", 200),
    ];
    for (peer, name, value, want) in table {
        let request = post("/user/login").insert_header((name, value));
        let request = request.peer_addr(SocketAddr::new(peer.parse().unwrap(), 1)).to_request();
        let response = test::call_service(&app, request).await;
        assert_eq!(response.status().as_u16(), want, "{peer} {name}: {value}");
        if want == 429 {
            assert_eq!(response.headers().get("retry-after").unwrap(), "1");
            let body: Value = test::read_body_json(response).await;
            assert_eq!(body, json!({"status": "error", "code": 429, "message": "Too Many Requests"}));
        }
    }
}

#[actix_web::test]
async fn anonymous_handshakes_are_limited_per_client() {
    for flags in [&["--allow-origin", "http://app.example"][..], &["--allow-token-clients"]] {
        let fixture = fixture(flags).await;
        let origin = ("origin", if flags.len() > 1 { "http://app.example" } else { "http://chat.example" });
        let app = test::init_service(App::new().configure(services).wrap(fixture.gateway.middleware())).await;
        let handshake = async |from: &str, dead: bool, query: &str| {
            let peer = SocketAddr::new(from.parse().unwrap(), 1);
            let mut request = get(&format!("/socket.io/?{query}")).peer_addr(peer).insert_header(origin);
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
