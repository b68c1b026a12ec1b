//! A client that opens its session over long-polling and upgrades to a WebSocket, as the official client does. It is small enough that a
//! thousand of them fit into a test. It records the `seq` of every message that it receives. Created by `load`.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
};

use futures_util::{SinkExt, StreamExt, future::join};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest},
};

use super::{Request, Response, TestUser, http::connect, user::MAX_REFUSALS, with_timeout};

/// The text of the last message of a load test: a client that received it has received all messages.
pub const LAST_MESSAGE: &str = "the last message";

/// One client, connected over long-polling.
pub struct LoadClient {
    /// The user of the session.
    user: TestUser,
    /// The id of the Engine.IO session.
    sid: String,
    /// The connection that sends the GETs.
    stream: TcpStream,
    /// Bytes that were read and are not parsed yet.
    read: Vec<u8>,
    /// The `seq` of every received message, in the order of arrival.
    pub received: Vec<u64>,
    /// How many of them arrived over long-polling.
    pub polled: usize,
    /// Whether [`LAST_MESSAGE`] was received.
    ended: bool,
    /// Stores the number of received messages, for the senders.
    progress: watch::Sender<usize>,
}

impl LoadClient {
    /// Opens a session over long-polling and joins `/`.
    pub async fn connect(user: &TestUser) -> Self {
        let mut client = Self {
            user: user.clone(),
            sid: String::new(),
            stream: connect(user.source, user.server).await,
            read: Vec::new(),
            received: Vec::new(),
            polled: 0,
            ended: false,
            progress: watch::Sender::new(0),
        };
        let open = client.open().await;
        let open: serde_json::Value =
            serde_json::from_str(open.trim_start_matches('0')).expect("an open packet");
        client.sid = open["sid"].as_str().expect("a session id").to_owned();
        client.post("40").await;
        let answer = client.get().await;
        assert!(answer.starts_with("40{"), "{answer}");
        for packet in answer.split('\u{1e}').skip(1) {
            client.handle_packet(packet);
        }
        client
    }

    /// The number of received messages from now on.
    pub fn progress(&self) -> watch::Receiver<usize> {
        self.progress.subscribe()
    }

    /// Continues the session through another address of the same system.
    pub async fn switch_server(&mut self, server: SocketAddr) {
        self.user.server = server;
        self.stream = connect(self.user.source, server).await;
    }

    /// Polls until `count` messages have arrived, then upgrades to a WebSocket and receives until [`LAST_MESSAGE`].
    pub async fn upgrade_after(mut self, count: usize) -> Self {
        while self.received.len() < count && !self.ended {
            self.poll().await;
        }
        let ws = self.upgrade().await;
        self.polled = self.received.len();
        self.receive_all(ws).await;
        self
    }

    /// Upgrades as the official client does: sends the probe while polling continues, waits for the probe's response and for the last
    /// poll to end, then sends the upgrade packet.
    async fn upgrade(&mut self) -> WebSocketStream<TcpStream> {
        let (probed, user) = (AtomicBool::new(false), self.user.clone());
        let (to, sid) = (user.server, self.sid.clone());
        let probe = async {
            let stream = connect(user.source, to).await;
            let (mut ws, _) =
                with_timeout("an upgrade", client_async(upgrade(to, &sid, user.token()), stream))
                    .await
                    .expect("101");
            ws.send(Message::text("2probe")).await.expect("an open connection");
            let answer =
                with_timeout("the response to a probe", ws.next()).await.expect("a frame").expect("a frame");
            assert_eq!(answer, Message::text("3probe"));
            probed.store(true, Ordering::Release);
            ws
        };
        let polling = async {
            while !probed.load(Ordering::Acquire) {
                self.poll().await;
            }
        };
        let (mut ws, ()) = join(probe, polling).await;
        ws.send(Message::text("5")).await.expect("an open connection");
        ws
    }

    async fn receive_all(&mut self, mut ws: WebSocketStream<TcpStream>) {
        while !self.ended {
            let frame = with_timeout("the next frame", ws.next()).await;
            let frame =
                frame.unwrap_or_else(|| panic!("{}: ended after {:?}", self.user.name, self.received.last()));
            let Message::Text(packet) = frame.expect("a good frame") else { panic!("not a text frame") };
            if self.handle_packet(&packet) {
                ws.send(Message::text("3")).await.expect("an open connection");
            }
        }
    }

    /// One poll.
    async fn poll(&mut self) {
        let body = self.get().await;
        for packet in body.split('\u{1e}') {
            if self.handle_packet(packet) {
                self.post("3").await;
            }
        }
    }

    /// Handles one packet; true when it is a ping.
    fn handle_packet(&mut self, packet: &str) -> bool {
        if packet.starts_with(r#"42["message""#) {
            let seq = packet.split_once(r#""seq":"#).map(|(_, rest)| rest);
            let digits = seq.and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next());
            self.received.push(digits.and_then(|digits| digits.parse().ok()).expect("a message has a seq"));
            self.ended |= packet.contains(LAST_MESSAGE);
            self.progress.send_replace(self.received.len());
        } else {
            let is_expected = packet == "2" || packet == "6" || packet.starts_with("42[");
            assert!(is_expected, "{}: unexpected packet {packet:?}", self.user.name);
        }
        packet == "2"
    }

    async fn post(&self, body: &str) {
        let target = format!("/socket.io/?EIO=4&transport=polling&sid={}", self.sid);
        let request = Request::new("POST", &target).body("text/plain;charset=UTF-8", body);
        assert_eq!(self.user.request(request).await.expect(200).body, "ok");
    }

    /// Opens the session; returns the open packet. Retries like a stock client while the server responds with 503 and `Retry-After`: a
    /// burst of handshakes may exceed what the session store of a slow machine answers in time.
    async fn open(&mut self) -> String {
        for _ in 0..MAX_REFUSALS {
            let answer = self.try_get().await;
            if answer.status != 503 {
                return answer.expect(200).body;
            }
            tokio::time::sleep(answer.retry_after()).await;
        }
        panic!("{}: refused {MAX_REFUSALS} times", self.user.name);
    }

    /// One GET of the session; returns the body of the response.
    async fn get(&mut self) -> String {
        let answer = self.try_get().await;
        assert_eq!(answer.status, 200, "{}: {answer:?}", self.user.name);
        answer.body
    }

    /// One GET on the kept connection.
    async fn try_get(&mut self) -> Response {
        let (to, token) = (self.user.server, self.user.token());
        let sid = if self.sid.is_empty() { String::new() } else { format!("&sid={}", self.sid) };
        let request = format!(
            "GET /socket.io/?EIO=4&transport=polling{sid} HTTP/1.1\r\nHost: {to}\r\nCookie: auth_token={token}\r\n\r\n"
        );
        self.stream.write_all(request.as_bytes()).await.expect("an open connection");
        with_timeout("a response to a poll", async {
            loop {
                if let Some(response) = Response::take(&mut self.read) {
                    return response;
                }
                let n = self.stream.read_buf(&mut self.read).await.expect("an open connection");
                assert!(n > 0, "{}: the connection closed during a poll", self.user.name);
            }
        })
        .await
    }
}

fn upgrade(to: SocketAddr, sid: &str, token: &str) -> tokio_tungstenite::tungstenite::http::Request<()> {
    let uri = format!("ws://{to}/socket.io/?EIO=4&transport=websocket&sid={sid}");
    let mut request = uri.into_client_request().expect("a well-formed address");
    let cookie = format!("auth_token={token}").parse().expect("a header value");
    request.headers_mut().append("Cookie", cookie);
    request
}
