//! A client that starts on long-polling and moves to a WebSocket as the official one does, in so little code that a thousand
//! fit into a test. It keeps the place of every message that it hears. Gathered by `crowd`.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
};

use futures_util::{SinkExt, StreamExt, future::join};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest},
};

use super::{Request, TestUser, http::connect, with_timeout};

/// Ends the play: whoever hears it has heard everything.
pub const THE_END: &str = "the end";

/// One client, connected over long-polling.
pub struct LoadClient {
    /// Whose it is.
    user: TestUser,
    /// The id of the Engine.IO session.
    sid: String,
    /// The connection of its GETs.
    stream: TcpStream,
    /// What was read and not looked at.
    read: Vec<u8>,
    /// The place of every message heard, in the order heard.
    pub received: Vec<u64>,
    /// How many of them came over long-polling.
    pub polled: usize,
    /// The last message was heard.
    ended: bool,
}

impl LoadClient {
    /// Opens a session over long-polling and joins `/`.
    pub async fn connect(user: &TestUser) -> Self {
        let stream = connect(user.source, user.server).await;
        let (user, received) = (user.clone(), Vec::new());
        let mut client =
            Self { user, sid: String::new(), stream, read: Vec::new(), received, polled: 0, ended: false };
        let open = client.get().await;
        let open: serde_json::Value =
            serde_json::from_str(open.trim_start_matches('0')).expect("an open packet");
        client.sid = open["sid"].as_str().expect("a session id").to_owned();
        client.post("40").await;
        let answer = client.get().await;
        assert!(answer.starts_with("40{"), "{answer}");
        for packet in answer.split('\u{1e}').skip(1) {
            client.takes(packet);
        }
        client
    }

    /// Goes on at another address of the same system.
    pub async fn goes_through(&mut self, server: SocketAddr) {
        self.user.server = server;
        self.stream = connect(self.user.source, server).await;
    }

    /// Polls until `count` messages were heard, then moves to a WebSocket, and listens to the end.
    pub async fn upgrade_after(mut self, count: usize) -> Self {
        while self.received.len() < count && !self.ended {
            self.polls().await;
        }
        let ws = self.moves().await;
        self.polled = self.received.len();
        self.listens(ws).await;
        self
    }

    /// The official client's way: probe while polling goes on; when that is answered let the last poll end; then move.
    async fn moves(&mut self) -> WebSocketStream<TcpStream> {
        let (answered, user) = (AtomicBool::new(false), self.user.clone());
        let (to, sid) = (user.server, self.sid.clone());
        let probe = async {
            let stream = connect(user.source, to).await;
            let (mut ws, _) =
                with_timeout("an upgrade", client_async(upgrade(to, &sid, user.token()), stream))
                    .await
                    .expect("101");
            ws.send(Message::text("2probe")).await.expect("an open connection");
            let answer =
                with_timeout("the answer to a probe", ws.next()).await.expect("a frame").expect("a frame");
            assert_eq!(answer, Message::text("3probe"));
            answered.store(true, Ordering::Release);
            ws
        };
        let polling = async {
            while !answered.load(Ordering::Acquire) {
                self.polls().await;
            }
        };
        let (mut ws, ()) = join(probe, polling).await;
        ws.send(Message::text("5")).await.expect("an open connection");
        ws
    }

    async fn listens(&mut self, mut ws: WebSocketStream<TcpStream>) {
        while !self.ended {
            let frame = with_timeout("the next frame", ws.next()).await;
            let frame =
                frame.unwrap_or_else(|| panic!("{}: ended after {:?}", self.user.name, self.received.last()));
            let Message::Text(packet) = frame.expect("a good frame") else { panic!("not a text frame") };
            if self.takes(&packet) {
                ws.send(Message::text("3")).await.expect("an open connection");
            }
        }
    }

    /// One poll.
    async fn polls(&mut self) {
        let body = self.get().await;
        for packet in body.split('\u{1e}') {
            if self.takes(packet) {
                self.post("3").await;
            }
        }
    }

    /// Takes one packet in; true when it is a ping.
    fn takes(&mut self, packet: &str) -> bool {
        if packet.starts_with(r#"42["message""#) {
            let seq = packet.split_once(r#""seq":"#).map(|(_, rest)| rest);
            let digits = seq.and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next());
            self.received.push(digits.and_then(|digits| digits.parse().ok()).expect("a message has a place"));
            self.ended |= packet.contains(THE_END);
        } else {
            let known = packet == "2" || packet == "6" || packet.starts_with("42[");
            assert!(known, "{}: {packet:?} out of place", self.user.name);
        }
        packet == "2"
    }

    async fn post(&self, body: &str) {
        let target = format!("/socket.io/?EIO=4&transport=polling&sid={}", self.sid);
        let request = Request::new("POST", &target).body("text/plain;charset=UTF-8", body);
        assert_eq!(self.user.request(request).await.expect(200).body, "ok");
    }

    /// One GET on the connection that is kept; its body.
    async fn get(&mut self) -> String {
        let (to, token) = (self.user.server, self.user.token());
        let sid = if self.sid.is_empty() { String::new() } else { format!("&sid={}", self.sid) };
        let request = format!(
            "GET /socket.io/?EIO=4&transport=polling{sid} HTTP/1.1\r\nHost: {to}\r\nCookie: auth_token={token}\r\n\r\n"
        );
        self.stream.write_all(request.as_bytes()).await.expect("an open connection");
        with_timeout("an answer to a poll", async {
            loop {
                if let Some(body) = self.takes_body() {
                    return body;
                }
                let n = self.stream.read_buf(&mut self.read).await.expect("an open connection");
                assert!(n > 0, "{}: a poll was not answered", self.user.name);
            }
        })
        .await
    }

    fn takes_body(&mut self) -> Option<String> {
        let start = self.read.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        let head = String::from_utf8_lossy(&self.read[..start]).to_ascii_lowercase();
        let length = head.split_once("content-length: ").and_then(|(_, rest)| rest.split("\r\n").next());
        let length: usize = length.and_then(|length| length.parse().ok()).unwrap_or_else(|| panic!("{head}"));
        let body = self.read.get(start..start + length)?;
        let body = String::from_utf8(body.to_vec()).expect("text");
        assert!(head.starts_with("http/1.1 200 "), "{}: {head}{body}", self.user.name);
        self.read.drain(..start + length);
        Some(body)
    }
}

fn upgrade(to: SocketAddr, sid: &str, token: &str) -> tokio_tungstenite::tungstenite::http::Request<()> {
    let uri = format!("ws://{to}/socket.io/?EIO=4&transport=websocket&sid={sid}");
    let mut request = uri.into_client_request().expect("a well-formed address");
    let cookie = format!("auth_token={token}").parse().expect("a header value");
    request.headers_mut().append("Cookie", cookie);
    request
}
