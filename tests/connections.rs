//! Connections of clients and load balancers: health checks, offers of other protocols, keep-alive, half-closed connections, incomplete
//! requests.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{TestServer, TestUser, with_timeout};

/// A client's connection, whose bytes the test writes and reads.
struct Client {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Client {
    async fn open(server: &TestServer) -> Self {
        let stream = TcpStream::connect(server.system.address).await.expect("the server listens");
        Self { stream, read: Vec::new() }
    }

    async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.expect("an open connection");
    }

    /// The next response with its body, whose length is in its head.
    async fn response(&mut self) -> String {
        loop {
            let text = String::from_utf8_lossy(&self.read).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let lines = head.to_ascii_lowercase();
                let length =
                    lines.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
                let length: usize = length.unwrap_or_default();
                if body.len() >= length {
                    let whole = head.len() + 4 + length;
                    return String::from_utf8_lossy(&self.read.drain(..whole).collect::<Vec<_>>())
                        .into_owned();
                }
            }
            let count = with_timeout("more of a response", self.stream.read_buf(&mut self.read))
                .await
                .expect("an open connection");
            assert!(count > 0, "closed after {text:?}");
        }
    }

    /// Reads until the server closes the connection.
    async fn rest(mut self) -> String {
        // A reset also ends the connection.
        _ = with_timeout("the end", self.stream.read_to_end(&mut self.read)).await;
        String::from_utf8_lossy(&self.read).into_owned()
    }
}

fn request(line: &str, more: &str, body: &str) -> String {
    let length = if body.is_empty() {
        String::new()
    } else {
        format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len())
    };
    format!("{line} HTTP/1.1\r\nHost: chat.example\r\n{more}{length}\r\n{body}")
}

fn status(response: &str) -> u16 {
    response.get(9..12).and_then(|code| code.parse().ok()).unwrap_or_default()
}

#[tokio::test]
async fn health_checks_of_load_balancers_succeed() {
    let server = TestServer::start().await;
    // HAProxy sends the first request by default; the others are of other load balancers.
    let table = [
        ("OPTIONS / HTTP/1.0\r\n\r\n", 204),
        ("OPTIONS / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 204),
        ("OPTIONS /healthz HTTP/1.0\r\n\r\n", 204),
        ("HEAD / HTTP/1.0\r\n\r\n", 200),
        ("GET / HTTP/1.0\r\n\r\n", 200),
        ("GET / HTTP/1.1\r\nHost: 10.0.0.1\r\nUser-Agent: GoogleHC/1.0\r\nConnection: close\r\n\r\n", 200),
    ];
    for (request, code) in table {
        let mut client = Client::open(&server).await;
        client.send(request).await;
        let response = client.rest().await;
        assert_eq!(status(&response), code, "{request:?}: {response}");
        let allows = response.to_ascii_lowercase().contains("\r\nallow: get, head, options\r\n");
        assert_eq!(allows, code == 204, "{request:?}: {response}");
        assert_eq!(response.ends_with("\r\n\r\n"), !request.starts_with("GET"), "{request:?}: {response}");
    }
}

/// Offers of other protocols: of the JDK, of curl, of RFC 2817, and in odd spellings.
const OFFERS: [&str; 8] = [
    "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n",
    "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\nConnection: upgrade,http2-settings\r\n",
    "Connection: Upgrade\r\nUpgrade: TLS/1.0\r\n",
    "CONNECTION: UPGRADE\r\nUPGRADE: H2C\r\n",
    "Connection: keep-alive, Upgrade\r\nUpgrade: foo/1, bar\r\n",
    "Connection: Upgrade\r\nUpgrade: h2c\r\nUpgrade: h2\r\n",
    "Connection: upgrade\r\n",
    "Upgrade: h2c\r\n",
];

#[tokio::test]
async fn an_offer_of_another_protocol_is_ignored() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    for offer in OFFERS {
        let offer = format!("{offer}Cookie: auth_token={}\r\n", alice.token());
        let text = json!({ "text": "with an offer" }).to_string();
        for (request, expected) in [
            (request("GET /user/me", &offer, ""), 200),
            (request("POST /rooms/lobby/messages", &offer, &text), 201),
            (request("GET /socket.io/?EIO=4&transport=polling", &offer, ""), 200),
        ] {
            let mut client = Client::open(&server).await;
            client.send(&request).await;
            let response = client.response().await;
            assert_eq!(status(&response), expected, "{request:?}: {response}");
        }
    }
}

#[tokio::test]
async fn a_client_that_closes_its_sending_side_receives_its_response() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let login = json!({ "username": "alice", "password": alice.password }).to_string();
    let cookie = format!("Cookie: auth_token={}\r\n", alice.token());
    let requests = [
        (request("GET /healthz", "", ""), 200),
        (request("POST /user/login", "", &login), 200),
        (request("GET /user/me", &cookie, ""), 200),
        (request("POST /rooms/lobby/messages", &cookie, r#"{"text":"the last one"}"#), 201),
        (request("GET /presence/online", &cookie, ""), 200),
        (request("GET /socket.io/?EIO=4&transport=polling", &cookie, ""), 200),
    ];
    for (sent, code) in requests {
        let mut client = Client::open(&server).await;
        client.send(&sent).await;
        client.stream.shutdown().await.expect("an open connection");
        let response = client.rest().await;
        assert_eq!(status(&response), code, "{sent:?}: {response}");
    }
}

/// Opens a session over polling and joins the namespace; returns the target and the cookie of its requests.
async fn open_polling(server: &TestServer, user: &TestUser) -> (String, String) {
    let cookie = format!("Cookie: auth_token={}\r\n", user.token());
    let mut client = Client::open(server).await;
    client.send(&request("GET /socket.io/?EIO=4&transport=polling", &cookie, "")).await;
    let opened = client.response().await;
    let sid = opened.split("\"sid\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("an id");
    let target = format!("/socket.io/?EIO=4&transport=polling&sid={sid}");
    client
        .send(&request(&format!("POST {target}"), &cookie, "40").replace("application/json", "text/plain"))
        .await;
    assert_eq!(status(&client.response().await), 200);
    (target, cookie)
}

#[tokio::test]
async fn a_poll_on_a_half_closed_connection_is_answered_and_its_session_stays_open() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let (target, cookie) = open_polling(&server, &alice).await;
    let poll = request(&format!("GET {target}"), &format!("Connection: close\r\n{cookie}"), "");
    // Every connection is half-closed directly after its request.
    let (mut seen, mut polls) = (String::new(), 0);
    while !seen.contains("half-closed") {
        polls += 1;
        let mut client = Client::open(&server).await;
        client.send(&poll).await;
        client.stream.shutdown().await.expect("an open connection");
        let response = client.rest().await;
        assert_eq!(status(&response), 200, "{response}");
        let body = response.split("\r\n\r\n").nth(1).expect("a body").to_owned();
        if body == "6" && polls < 50 {
            bob.post("/rooms/lobby/messages", &json!({"text": "half-closed"})).await.expect(201);
        }
        seen += &body;
        assert!(polls < 50, "{seen}");
    }
    assert!(seen.contains('6'), "at least one poll has no packet: {seen}");
}

/// A request as a proxy or a client library sends it: its description, its bytes, the status of the response.
type Form = (&'static str, Vec<u8>, u16);

const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";

const JSON: &str = "Content-Type: application/json\r\n";

/// A request whose connection ends with the response.
fn once(line: &str, host: &str, more: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{more}\r\n")
}

/// A message in the room `den`.
fn posted(text: &str, more: &str) -> String {
    let body = json!({ "text": text }).to_string();
    let length = format!("{JSON}{more}Content-Length: {}\r\n", body.len());
    once("POST /rooms/den/messages", "chat.example", &length) + &body
}

/// Requests with unusual bodies or without a body.
fn forms_of_bodies(cookie: &str, login: &str) -> Vec<Form> {
    let polling = "GET /socket.io/?EIO=4&transport=polling";
    let chunked = |line: &str, body: &str| once(line, "a", &format!("{cookie}{CHUNKED}")) + body;
    let marked = format!("\u{feff}{login}");
    let pieces = marked.bytes().flat_map(|byte| [&b"1\r\n"[..], &[byte], b"\r\n"].concat());
    let head = once("POST /user/login", "a", &format!("{JSON}{CHUNKED}")).into_bytes();
    let in_pieces = head.into_iter().chain(pieces).chain(*b"0\r\n\r\n").collect();
    let empty = once("GET /rooms", "a", &format!("{cookie}{JSON}Content-Length: 0\r\n"));
    let old = |text: String| text.replace("HTTP/1.1", "HTTP/1.0");
    let texts = [
        ("GET with an empty chunked body", chunked("GET /user/me", "0\r\n\r\n"), 200),
        ("HEAD with an empty chunked body", chunked("HEAD /healthz", "0\r\n\r\n"), 200),
        ("poll with an empty chunked body", chunked(polling, "0\r\n\r\n"), 200),
        ("GET with a chunked body", chunked("GET /user/me", "1\r\nx\r\n0\r\n\r\n"), 400),
        ("poll with a chunked body", chunked(polling, "1\r\nx\r\n0\r\n\r\n"), 400),
        ("GET with an empty body and a type", empty, 200),
        ("HTTP/1.0 GET", old(once("GET /user/me", "a", cookie)), 200),
        ("HTTP/1.0 GET without a Host", "GET /healthz HTTP/1.0\r\n\r\n".to_owned(), 200),
        ("HTTP/1.0 POST", old(posted("of 1.0", cookie)), 201),
        ("a byte order mark", request("POST /user/login", "Connection: close\r\n", &marked), 200),
        ("Expect", posted("expected", &format!("{cookie}Expect: 100-continue\r\n")), 100),
        (
            "a charset in quotes",
            posted("quoted", cookie).replace("json\r\n", "json;charset=\"UTF-8\"\r\n"),
            201,
        ),
    ];
    let mut forms: Vec<Form> = texts.map(|(what, text, status)| (what, text.into_bytes(), status)).into();
    forms.push(("a byte order mark in pieces", in_pieces, 200));
    forms
}

#[tokio::test]
async fn unusual_but_valid_requests_of_proxies_and_client_libraries_are_accepted() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    alice.create_room("den", false).await;
    let cookie = format!("Cookie: auth_token={}\r\n", alice.token());
    let bodies = forms_of_bodies(&cookie, &alice.credentials().to_string());
    let mut wrong = Vec::new();
    for (what, sent, expected) in bodies {
        let mut client = Client::open(&server).await;
        client.stream.write_all(&sent).await.expect("an open connection");
        let response = client.rest().await;
        let has_words = expected < 400 || response.contains("\"status\":\"error\"");
        let is_continued = expected != 100 || response.contains("HTTP/1.1 201");
        if status(&response) != expected || !has_words || !is_continued {
            wrong.push(format!("{what}: {}", response.lines().next().unwrap_or("no response")));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[tokio::test]
async fn an_idle_connection_stays_open_as_long_as_configured_and_an_incomplete_head_does_not() {
    let server = TestServer::start_with(&["--keep-alive", "12", "--head-timeout", "2"]).await;
    let (mut idle, mut incomplete) = (Client::open(&server).await, Client::open(&server).await);
    for client in [&mut idle, &mut incomplete] {
        client.send(&request("GET /healthz", "", "")).await;
        assert_eq!(status(&client.response().await), 200);
    }
    incomplete.send("GET /healthz HTTP/1.1\r\nHost: chat").await;
    assert_eq!(incomplete.rest().await, "", "an incomplete head");
    idle.send(&request("GET /healthz", "", "")).await;
    assert_eq!(status(&idle.response().await), 200, "an idle connection was closed");
    let ended = Instant::now();
    assert_eq!(idle.rest().await, "");
    assert!(ended.elapsed() > Duration::from_secs(11), "closed after {:?}", ended.elapsed());
}
