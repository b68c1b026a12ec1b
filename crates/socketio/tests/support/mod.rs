//! Support of the socket tests: a real server on a free port with a small application, a client that sends
//! raw WebSocket frames, valid or not, and a long-polling client ([`http`]).

#![allow(clippy::unwrap_used, missing_docs)]
#![allow(dead_code, reason = "no test uses all of it")]

pub mod http;

use std::{
    net::SocketAddr,
    sync::{Mutex, mpsc},
    time::Duration,
};

use actix_web::{App, HttpRequest, HttpServer, middleware::DefaultHeaders};
use futures_util::future::LocalBoxFuture;
use serde_json::{Value, json};
use socketio::{
    Accepted, CloseReason, Config, Connect, Emit, Encoded, Event, Io, Operation, Peer, Refusal, Reply,
    Server, Socket,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

/// Longer than any operation takes. Only a failing test waits for it.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// The application under test.
pub struct TestApp {
    closes: Mutex<mpsc::Sender<CloseReason>>,
}

/// The server of a test.
pub struct TestServer {
    pub address: SocketAddr,
    pub io: Io,
    pub closes: mpsc::Receiver<CloseReason>,
}

pub struct TestPeer {
    socket: Socket,
    /// The callbacks that panic, separated by spaces.
    panics: String,
    closes: mpsc::Sender<CloseReason>,
}

impl socketio::App for TestApp {
    type Admission = ();
    type Peer = TestPeer;

    fn admit(&self, request: &HttpRequest) -> Result<(), Refusal> {
        if request.query_string().contains("deny") { Err(Refusal::new("denied")) } else { Ok(()) }
    }

    fn connect(&self, connect: Connect<()>) -> LocalBoxFuture<'static, Result<Accepted<TestPeer>, Refusal>> {
        let closes = self.closes.lock().unwrap().clone();
        Box::pin(async move {
            // An early event: it must not precede the CONNECT answer.
            connect.socket.emit(&Encoded::event("/", "early", &(), None).unwrap());
            let panics = connect.auth["panic"].as_str().unwrap_or_default().to_owned();
            connect.socket.join(&"all sockets".into());
            panic_at(&panics, "connect");
            match connect.auth.get("fail") {
                Some(_) => Err(Refusal { message: "no".into(), data: Some(json!({"code": 42})) }),
                None if &*connect.namespace != "/" => Err(Refusal::new("Invalid namespace")),
                None => Ok(Accepted::new(TestPeer { socket: connect.socket, panics, closes })),
            }
        })
    }
}

impl Peer for TestPeer {
    fn connected(&mut self) {
        panic_at(&self.panics, "connected");
        self.socket.emit(&Encoded::event("/", "hello", &(), None).unwrap());
    }

    fn event(&mut self, mut event: Event, reply: Option<Reply>) {
        panic_at(&self.panics, "event");
        match event.name.as_str() {
            "join" => self.socket.join(&event.arg::<String>(0).unwrap().into()),
            "leave" => self.socket.leave(&event.arg::<String>(0).unwrap().as_str().into()),
            "ask" => {
                let socket = self.socket.clone();
                actix_rt::spawn(async move {
                    let response =
                        socket.emit_with_ack("question", &("why",), Duration::from_millis(200)).await;
                    let answer = response
                        .map_or_else(|error| json!(error.to_string()), |response| json!(response.args));
                    socket.emit(&Encoded::event("/", "answer", &(answer,), None).unwrap());
                });
            }
            "disconnect me" => self.socket.disconnect(None),
            "close" => self.socket.close(CloseReason::ServerClose),
            "disconnect all" => self.socket.disconnect(Some(CloseReason::ServerClose)),
            "count" => {
                for number in 0..event.arg::<u64>(0).unwrap() {
                    self.socket.emit(&Encoded::event("/", "n", &(number,), None).unwrap());
                }
                return;
            }
            "bytes" => {
                let place = json!([{"_placeholder": true, "num": 0}]);
                let data = event.attachments.concat().into();
                self.socket.emit(&Encoded::binary_event("/", "bytes", &place, &[data], None).unwrap());
                return;
            }
            "request" => {
                let describe = |head: std::sync::Arc<socketio::RequestHead>| {
                    let name = head.headers.get("x-name").and_then(|name| name.to_str().ok());
                    json!([head.method.as_str(), name, head.uri.query(), head.peer.is_some()])
                };
                let heads = [self.socket.handshake().map(describe), self.socket.request().map(describe)];
                return reply.unwrap().send(&heads);
            }
            "drop ack" => return drop(reply),
            _ => {}
        }
        if let Some(reply) = reply {
            reply.send(&json!([event.name, event.args, self.socket.unsent_acks()]));
        }
    }

    fn ending(&mut self, _: CloseReason) {
        panic_at(&self.panics, "ending");
    }

    fn unreadable(&mut self, name: &str, reply: Option<Reply>) {
        if let Some(reply) = reply {
            reply.send(&("unreadable", name));
        }
    }

    fn closed(&mut self, reason: CloseReason) {
        panic_at(&self.panics, "closed");
        let _ = self.closes.send(reason);
    }
}

/// Panics if `place` is contained in `places`.
fn panic_at(places: &str, place: &str) {
    assert!(!places.split(' ').any(|name| name == place), "panic requested by the test");
}

/// Starts a server with two workers.
pub fn start(config: Config) -> TestServer {
    let (closes, closed) = mpsc::channel();
    let (ready, address) = mpsc::channel();
    let io = Io::new();
    let server = Server::new(io.clone(), TestApp { closes: Mutex::new(closes) }, config);
    std::thread::spawn(move || {
        actix_web::rt::System::new().block_on(async move {
            let http = HttpServer::new(move || {
                // Identifies the worker of a response.
                let worker = format!("{:?}", std::thread::current().id());
                App::new()
                    .wrap(DefaultHeaders::new().add(("x-worker", worker)))
                    .configure(|service| server.mount(service))
            })
            .workers(2)
            .h1_allow_half_closed(false)
            .tcp_nodelay(true)
            .on_connect(socketio::on_connect)
            .disable_signals()
            .bind(("127.0.0.1", 0))
            .unwrap();
            ready.send(http.addrs()[0]).unwrap();
            http.run().await.unwrap();
        });
    });
    TestServer { address: address.recv().unwrap(), io, closes: closed }
}

impl TestServer {
    /// A server in another process. `io` and `closes` are not connected to it.
    pub fn of(address: SocketAddr) -> Self {
        Self { address, io: Io::new(), closes: mpsc::channel().1 }
    }

    /// Sends `name` with `arg` to all sockets in `room`.
    pub async fn broadcast(&self, room: &str, name: &str, arg: Value) {
        self.io.send(vec![Operation::Emit(broadcast(room, name, arg))]).await;
    }

    /// The reason of the next closed peer.
    pub fn next_close(&self) -> CloseReason {
        self.closes.recv_timeout(DEADLINE).expect("a peer is closed")
    }
}

/// The emit of an event to one room.
pub fn broadcast(room: &str, name: &str, arg: Value) -> Emit {
    Emit {
        namespace: "/".into(),
        rooms: vec![room.into()],
        except: None,
        packet: Encoded::event("/", name, &(arg,), None).unwrap(),
        volatile: false,
        backpressure: None,
    }
}

/// A frame from the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    Text(String),
    Binary(Vec<u8>),
    Pong(Vec<u8>),
    Close(u16),
    /// The server closed the TCP connection.
    End,
}

/// A raw client. Its mask is zero, so that payloads are readable.
pub struct Client {
    pub stream: TcpStream,
    buffer: Vec<u8>,
}

/// A masked client frame.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..=125 => bytes.push(0x80 | length as u8),
        length @ 126..=0xFFFF => {
            bytes.push(0x80 | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        length => {
            bytes.push(0x80 | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

/// The request that opens a WebSocket session.
pub fn upgrade_request(query: &str) -> String {
    format!(
        "GET /socket.io/?{query} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

impl Client {
    /// A new TCP connection.
    pub async fn dial(address: SocketAddr, receive_buffer: Option<u32>) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        if let Some(bytes) = receive_buffer {
            socket.set_recv_buffer_size(bytes).unwrap();
        }
        let stream = socket.connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    /// Sends a request and reads the head of the response. The rest stays in the buffer.
    pub async fn request(&mut self, request: &str) -> String {
        self.send(request.as_bytes()).await;
        loop {
            if let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = self.buffer.drain(..end + 4).collect();
                return String::from_utf8(head).unwrap();
            }
            assert!(self.fill().await, "the server closed before it answered");
        }
    }

    /// Resets the connection.
    pub fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Reads until the server closes.
    pub async fn rest(&mut self) -> String {
        while self.fill().await {}
        String::from_utf8(std::mem::take(&mut self.buffer)).unwrap()
    }

    /// A session in no namespace.
    pub async fn open(server: &TestServer) -> Self {
        let mut client = Self::dial(server.address, None).await;
        client.upgrade().await;
        client
    }

    /// Upgrades the connection to a WebSocket and opens a session.
    pub async fn upgrade(&mut self) {
        let head = self.request(&upgrade_request("EIO=4&transport=websocket")).await;
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        assert!(matches!(self.next().await, Frame::Text(text) if text.starts_with("0{\"sid\"")));
    }

    /// A WebSocket that may probe for session `sid`.
    pub async fn probe(address: SocketAddr, sid: &str) -> Self {
        let mut client = Self::dial(address, None).await;
        client.upgrade_probe(sid).await;
        client
    }

    /// Upgrades the connection to a WebSocket that probes for session `sid`.
    pub async fn upgrade_probe(&mut self, sid: &str) {
        let head = self.request(&upgrade_request(&format!("EIO=4&transport=websocket&sid={sid}"))).await;
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    }

    /// A session that has joined `/` and received the first events.
    pub async fn join(server: &TestServer) -> Self {
        let mut client = Self::open(server).await;
        client.connect().await;
        client
    }

    /// Joins `/`.
    pub async fn connect(&mut self) {
        self.send_text("40").await;
        assert!(matches!(self.next().await, Frame::Text(text) if text.starts_with("40{\"sid\":\"")));
        assert_eq!(self.next().await, Frame::Text("42[\"hello\"]".into()));
        assert_eq!(self.next().await, Frame::Text("42[\"early\"]".into()));
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        timeout(DEADLINE, self.stream.write_all(bytes)).await.expect("the server reads").unwrap();
    }

    /// Sends until the server closes the connection or everything is sent.
    pub async fn send_in_parts(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(65_536) {
            if timeout(DEADLINE, self.stream.write_all(part)).await.expect("the server reads").is_err() {
                return;
            }
        }
    }

    /// The next frame except pongs.
    pub async fn next_except_pongs(&mut self) -> Frame {
        loop {
            match self.next().await {
                Frame::Pong(_) => {}
                frame => return frame,
            }
        }
    }

    /// Sends a text frame.
    pub async fn send_text(&mut self, text: &str) {
        self.send(&frame(0x81, text.as_bytes())).await;
    }

    /// Reads more data. Returns false if the server has closed.
    async fn fill(&mut self) -> bool {
        let read = timeout(DEADLINE, self.stream.read_buf(&mut self.buffer)).await;
        matches!(read.expect("the server sends or closes"), Ok(bytes) if bytes > 0)
    }

    /// The next frame. Engine.IO pings are answered and skipped.
    pub async fn next(&mut self) -> Frame {
        loop {
            match self.next_with_pings().await {
                Frame::Text(text) if text == "2" => self.send_text("3").await,
                frame => return frame,
            }
        }
    }

    /// The next frame, including Engine.IO pings.
    pub async fn next_with_pings(&mut self) -> Frame {
        loop {
            if let Some(frame) = self.take_frame() {
                return frame;
            }
            if !self.fill().await {
                return Frame::End;
            }
        }
    }

    fn take_frame(&mut self) -> Option<Frame> {
        let (first, length) = (*self.buffer.first()?, *self.buffer.get(1)?);
        let (start, length) = match length {
            126 => (4, u16::from_be_bytes(self.buffer.get(2..4)?.try_into().ok()?) as usize),
            127 => (10, u64::from_be_bytes(self.buffer.get(2..10)?.try_into().ok()?) as usize),
            length => (2, length as usize),
        };
        let payload = self.buffer.get(start..start + length)?.to_vec();
        self.buffer.drain(..start + length);
        Some(match first {
            0x81 => Frame::Text(String::from_utf8(payload).unwrap()),
            0x82 => Frame::Binary(payload),
            0x8A => Frame::Pong(payload),
            0x88 => Frame::Close(u16::from_be_bytes(payload[..2].try_into().unwrap())),
            other => panic!("unexpected first byte {other:#x}"),
        })
    }
}
