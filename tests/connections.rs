//! What clients do with a connection beside sending requests: they offer other protocols, keep it open, close half of it, or begin a
//! request and never end it.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::stage::{Stage, soon};

/// A client's connection, byte by byte.
struct Client {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Client {
    async fn opens(stage: &Stage) -> Self {
        let stream = TcpStream::connect(stage.server.address).await.expect("the server listens");
        Self { stream, read: Vec::new() }
    }

    async fn sends(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.expect("an open connection");
    }

    /// The next answer with its body, whose length it states.
    async fn answer(&mut self) -> String {
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
            let count = soon("more of an answer", self.stream.read_buf(&mut self.read))
                .await
                .expect("an open connection");
            assert!(count > 0, "closed after {text:?}");
        }
    }

    /// Everything until the server closes.
    async fn rest(mut self) -> String {
        // An end by a reset is one, too.
        _ = soon("the end", self.stream.read_to_end(&mut self.read)).await;
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

fn status(answer: &str) -> u16 {
    answer.get(9..12).and_then(|code| code.parse().ok()).unwrap_or_default()
}

/// What clients offer beside the request itself: the JDK, curl, RFC 2817, and odd spellings.
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
async fn an_offer_of_another_protocol_is_ignored_and_the_connection_goes_on() {
    let stage = Stage::opens().await;
    let alice = stage.person("alice").await;
    for (index, offer) in OFFERS.into_iter().enumerate() {
        let offer = format!("{offer}Cookie: auth_token={}\r\n", alice.token());
        let mut client = Client::opens(&stage).await;
        for round in 0..2 {
            client.sends(&request("GET /user/me", &offer, "")).await;
            let me = client.answer().await;
            assert_eq!((status(&me), me.contains("alice")), (200, true), "{offer:?} {round}: {me}");
            let text = json!({ "text": format!("offer {index}, round {round}") }).to_string();
            client.sends(&request("POST /rooms/lobby/messages", &offer, &text)).await;
            let sent = client.answer().await;
            assert_eq!(status(&sent), 201, "{offer:?} {round}: {sent}");
        }
        client.sends(&request("GET /socket.io/?EIO=4&transport=polling", &offer, "")).await;
        let opened = client.answer().await;
        assert!(status(&opened) == 200 && opened.contains("\"sid\""), "{offer:?}: {opened}");
    }
    // A head in pieces is the same request; the connection may end behind its answer, and says so.
    let mut client = Client::opens(&stage).await;
    let whole = request("GET /healthz", OFFERS[0], "");
    for piece in [&whole[..60], &whole[60..]] {
        client.sends(piece).await;
        client.stream.flush().await.expect("an open connection");
        tokio::task::yield_now().await;
    }
    let answer = client.answer().await;
    assert_eq!(status(&answer), 200, "{answer}");
}

#[tokio::test]
async fn a_websocket_elsewhere_and_http_2_are_refused_in_words() {
    let stage = Stage::opens().await;
    let websocket = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    let refused = [
        (request("GET /user/me", websocket, ""), 400, "WebSockets are served at /socket.io/"),
        (request("POST /user/login", websocket, "{}"), 400, "WebSockets are served at /socket.io/"),
        (request("GET /rooms", "Connection: upgrade\r\nUpgrade: h2c, WebSocket\r\n", ""), 400, "/socket.io/"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), 505, "HTTP/1.1, not HTTP/2"),
    ];
    for (sent, code, words) in refused {
        let mut client = Client::opens(&stage).await;
        client.sends(&sent).await;
        let answer = client.rest().await;
        assert!(status(&answer) == code && answer.contains(words), "{sent:?}: {answer}");
    }
}

#[tokio::test]
async fn a_client_that_closes_its_sending_side_gets_its_answer() {
    let stage = Stage::opens().await;
    let alice = stage.person("alice").await;
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
        let mut client = Client::opens(&stage).await;
        client.sends(&sent).await;
        client.stream.shutdown().await.expect("an open connection");
        let answer = client.rest().await;
        assert_eq!(status(&answer), code, "{sent:?}: {answer}");
    }
}

#[tokio::test]
async fn a_poll_whose_client_has_gone_is_given_up() {
    let stage = Stage::opens().await;
    let alice = stage.person("alice").await;
    let cookie = format!("Cookie: auth_token={}\r\n", alice.token());
    let mut client = Client::opens(&stage).await;
    client.sends(&request("GET /socket.io/?EIO=4&transport=polling", &cookie, "")).await;
    let opened = client.answer().await;
    let sid =
        opened.split("\"sid\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("an id").to_owned();
    let poll = request(&format!("GET /socket.io/?EIO=4&transport=polling&sid={sid}"), &cookie, "");
    client.sends(&poll).await;
    client.stream.shutdown().await.expect("an open connection");
    // Not by the ping that would answer it in 10 s.
    let answer = client.rest().await;
    assert!(answer.is_empty() || status(&answer) == 408, "{answer}");
}

#[tokio::test]
async fn an_idle_connection_is_kept_as_long_as_the_flag_says_and_a_begun_head_is_not() {
    let stage = Stage::opens_with(&["--keep-alive", "12", "--head-timeout", "2"]).await;
    let (mut idle, mut begun) = (Client::opens(&stage).await, Client::opens(&stage).await);
    for client in [&mut idle, &mut begun] {
        client.sends(&request("GET /healthz", "", "")).await;
        assert_eq!(status(&client.answer().await), 200);
    }
    begun.sends("GET /healthz HTTP/1.1\r\nHost: chat").await;
    assert_eq!(begun.rest().await, "", "a head that never ends");
    idle.sends(&request("GET /healthz", "", "")).await;
    assert_eq!(status(&idle.answer().await), 200, "an idle connection was closed");
    let ended = Instant::now();
    assert_eq!(idle.rest().await, "");
    assert!(ended.elapsed() > Duration::from_secs(11), "closed after {:?}", ended.elapsed());
}
