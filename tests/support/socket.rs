//! A Socket.IO client that records everything it receives and panics on packets that no conformant server sends. Opened by `TestUser`;
//! built on `connection`, whose task responds to pings while the test does something else.

use std::{
    collections::{HashMap, VecDeque},
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::{
    connection::{ConnectFailure, Connection, Ending, Handshake, Incoming},
    packet::Packet,
    with_timeout,
};

/// One connection, in namespace `/`.
pub struct Socket {
    /// The user's name, for messages of failures.
    name: String,
    /// The id of the Engine.IO session: a secret between client and server.
    pub session: String,
    /// The id in the namespace.
    pub sid: String,
    /// The private session id, which authorizes a recovery.
    pub pid: String,
    /// The last event argument that was a string: the official client uses it as its offset.
    pub offset: Option<String>,
    /// Every received `message` event, in order.
    pub received: Vec<Value>,
    /// Events that no call has returned yet.
    inbox: VecDeque<(String, Vec<Value>)>,
    /// Acks that no call has returned yet.
    acks: HashMap<u64, Value>,
    /// The next ack id.
    next_id: u64,
    /// How the connection ended; `None` while it is open.
    ended: Option<Ending>,
    /// The WebSocket.
    connection: Connection,
}

impl Socket {
    /// Opens a WebSocket, then joins `/`.
    pub async fn open(
        name: &str,
        from: Ipv4Addr,
        to: SocketAddr,
        handshake: Handshake,
    ) -> Result<Self, ConnectFailure> {
        let mut socket = Self::open_transport(name, from, to, &handshake).await?;
        socket.connect(handshake.auth.as_ref()).await?;
        Ok(socket)
    }

    /// Opens a WebSocket and nothing more.
    pub async fn open_transport(
        name: &str,
        from: Ipv4Addr,
        to: SocketAddr,
        handshake: &Handshake,
    ) -> Result<Self, ConnectFailure> {
        let connection = Connection::open(from, to, handshake).await?;
        Ok(Self {
            name: name.into(),
            session: String::new(),
            sid: String::new(),
            pid: String::new(),
            offset: None,
            received: Vec::new(),
            inbox: VecDeque::new(),
            acks: HashMap::new(),
            next_id: 0,
            ended: None,
            connection,
        })
    }

    /// Joins `/` and waits for the response. The first packet must be the Engine.IO handshake.
    async fn connect(&mut self, auth: Option<&Value>) -> Result<(), ConnectFailure> {
        self.send_text(format!("40{}", auth.map(Value::to_string).unwrap_or_default()));
        loop {
            match with_timeout("a response to CONNECT", self.connection.incoming.recv()).await {
                Some(Incoming::Packet(Packet::Open(handshake))) if self.session.is_empty() => {
                    self.session = handshake["sid"].as_str().unwrap_or_default().to_owned();
                }
                Some(Incoming::Packet(Packet::Connected(answer))) if !self.session.is_empty() => {
                    self.sid = answer["sid"].as_str().unwrap_or_default().to_owned();
                    self.pid = answer["pid"].as_str().unwrap_or_default().to_owned();
                    return Ok(());
                }
                Some(Incoming::Packet(Packet::Refused(why))) if !self.session.is_empty() => {
                    return Err(ConnectFailure::ConnectError(why));
                }
                Some(Incoming::Packet(Packet::Close)) => {}
                Some(Incoming::Ended(ending)) => return Err(ConnectFailure::Ended(ending)),
                other => panic!("{}: {other:?} before the response to CONNECT", self.name),
            }
        }
    }

    /// Sends any text as one frame.
    pub fn send_text(&self, text: impl Into<String>) {
        let _ = self.connection.outgoing.send(Message::text(text.into()));
    }

    /// Sends any bytes as one binary frame.
    pub fn send_binary(&self, bytes: Vec<u8>) {
        let _ = self.connection.outgoing.send(Message::binary(bytes));
    }

    /// Emits an event without an ack.
    pub fn emit(&self, event: &str, payload: &Value) {
        self.send_text(format!("42{}", json!([event, payload])));
    }

    /// Emits an event with an ack and returns the ack's id at once.
    pub fn request(&mut self, event: &str, payload: &Value) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.send_text(format!("42{id}{}", json!([event, payload])));
        id
    }

    /// The ack of an earlier [`Socket::request`]; `None` when the connection ended first.
    pub async fn try_ack(&mut self, id: u64) -> Option<Value> {
        let what = format!("the ack {id} of {}", self.name);
        with_timeout(&what, async {
            loop {
                if let Some(ack) = self.acks.remove(&id) {
                    return Some(ack);
                }
                if !self.take().await {
                    return None;
                }
            }
        })
        .await
    }

    /// The ack of an earlier [`Socket::request`].
    pub async fn ack(&mut self, id: u64) -> Value {
        let ack = self.try_ack(id).await;
        ack.unwrap_or_else(|| panic!("{}: ended ({:?}) before the ack {id}", self.name, self.ended))
    }

    /// Emits an event and waits for its ack.
    pub async fn emit_with_ack(&mut self, event: &str, payload: &Value) -> Value {
        let id = self.request(event, payload);
        self.ack(id).await
    }

    /// Sends a message to the lobby; it must be accepted.
    pub async fn send_message(&mut self, text: &str) -> Value {
        self.send_message_to("lobby", text).await
    }

    /// Sends a message to a room; it must be accepted.
    pub async fn send_message_to(&mut self, room: &str, text: &str) -> Value {
        let ack = self.emit_with_ack("message", &json!({"room": room, "text": text})).await;
        assert_eq!(ack["ok"], true, "{} sent {text:?} in {room}: {ack}", self.name);
        ack
    }

    /// Joins a room; it must be accepted.
    pub async fn join(&mut self, room: &str) -> Value {
        let ack = self.emit_with_ack("join", &json!({"room": room})).await;
        assert_eq!(ack["ok"], true, "{} joins {room}: {ack}", self.name);
        ack
    }

    /// Waits for a message with this text.
    pub async fn receive_message(&mut self, text: &str) -> Value {
        self.until("message", |message| message["data"]["text"] == text).await
    }

    /// Whether a message with this text has arrived. Meaningful only after a fence: the receipt of a message that was sent
    /// later.
    pub fn has_received(&self, text: &str) -> bool {
        self.received.iter().any(|message| message["data"]["text"] == text)
    }

    /// Waits for the next event of this name and returns its first argument.
    pub async fn next(&mut self, event: &str) -> Value {
        self.until(event, |_| true).await
    }

    /// Waits for an event of this name that fits, and discards earlier events of that name.
    pub async fn until(&mut self, event: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let what = format!("{}'s event {event}", self.name);
        with_timeout(&what, async {
            loop {
                while let Some(at) = self.inbox.iter().position(|(name, _)| name == event) {
                    let (_, mut args) = self.inbox.remove(at).expect("just found");
                    let payload = args.first_mut().map(Value::take).unwrap_or_default();
                    if fits(&payload) {
                        return payload;
                    }
                }
                assert!(self.take().await, "{}: ended ({:?}) without {event}", self.name, self.ended);
            }
        })
        .await
    }

    /// Waits until the connection has ended.
    pub async fn closed(&mut self) -> Ending {
        let what = format!("the end of {}'s connection", self.name);
        with_timeout(&what, async {
            loop {
                if let Some(ending) = &self.ended {
                    return ending.clone();
                }
                self.take().await;
            }
        })
        .await
    }

    /// Waits until the connection has ended and returns the first argument of the last event of this name.
    pub async fn closed_after(&mut self, event: &str) -> Value {
        let ending = self.closed().await;
        let last = self.inbox.iter_mut().rfind(|(name, _)| name == event);
        let (_, args) = last.unwrap_or_else(|| panic!("{}: {ending:?} without {event}", self.name));
        args.first_mut().map(Value::take).unwrap_or_default()
    }

    /// The number of received events of this name that fit and were not returned yet.
    pub fn waiting(&self, event: &str, fits: impl Fn(&Value) -> bool) -> usize {
        let fitting =
            self.inbox.iter().filter(|(name, args)| name == event && args.first().is_some_and(&fits));
        fitting.count()
    }

    /// Whether the connection has ended, as far as it was received.
    pub fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// Discards the received messages and events, for sockets that receive many.
    pub fn clear(&mut self) {
        self.received.clear();
        self.inbox.clear();
    }

    /// The texts of all received messages, in order.
    pub fn texts(&self) -> Vec<&str> {
        self.received.iter().filter_map(|message| message["data"]["text"].as_str()).collect()
    }

    /// Receives for this time; false when the connection ends before.
    pub async fn is_open_for(&mut self, time: Duration) -> bool {
        tokio::time::timeout(time, async { while self.take().await {} }).await.is_err()
    }

    /// Receives everything that was sent to this connection until now: up to its end, or to the ack of a request sent now.
    pub async fn receive_pending(&mut self) {
        let id = self.request("history", &json!({"room": "lobby", "limit": 1}));
        self.try_ack(id).await;
    }

    /// Receives one report; false once the connection has ended.
    async fn take(&mut self) -> bool {
        match self.connection.incoming.recv().await {
            Some(Incoming::Packet(packet)) => self.keep(packet),
            Some(Incoming::Fault(fault)) => panic!("{}: {fault}", self.name),
            Some(Incoming::Ended(ending)) => self.ended = Some(ending),
            None => return false,
        }
        self.ended.is_none()
    }

    fn keep(&mut self, packet: Packet) {
        match packet {
            Packet::Event { name, args, .. } => {
                if let Some(offset) = args.last().and_then(Value::as_str) {
                    self.offset = Some(offset.to_owned());
                }
                if name == "message" {
                    self.received.push(args.first().cloned().unwrap_or_default());
                }
                self.inbox.push_back((name, args));
            }
            Packet::Ack { id, mut args } => {
                assert!(args.len() == 1, "{}: an ack with {args:?}", self.name);
                let previous = self.acks.insert(id, args.remove(0));
                assert!(previous.is_none() && id < self.next_id, "{}: ack {id} was not requested", self.name);
            }
            Packet::Left | Packet::Close | Packet::Open(_) => {}
            other => panic!("{}: {other:?} was not expected", self.name),
        }
    }
}
