//! The fixture of the integration tests: the chat with a real store, a real presence service and a real `HttpServer`, and WebSocket
//! clients. The identity is given by request headers in place of the gateway.

#![allow(dead_code, clippy::unwrap_used, missing_docs)]

pub mod gated_directory;

use std::{
    collections::VecDeque,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use actix_web::{App, HttpMessage, HttpServer, dev::Service};
use chat::{Chat, Config, Deps, SqliteStore, directory::Directory, history::History};
use futures_util::{SinkExt, StreamExt};
use proto::{Identity, Timestamp, Username};
use serde_json::{Value, json};
use sessions::{Sessions, SharedSessions, SqliteSessions, Token};
use socketio::{Io, Server};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, tungstenite::client::IntoClientRequest};

use gated_directory::Gate;

/// The timeout of every wait. Only a failing test reaches it.
pub const DEADLINE: Duration = Duration::from_secs(20);

pub struct TestChat {
    pub address: SocketAddr,
    pub chat: Chat,
    pub sessions: Arc<SqliteSessions>,
    /// The offset of the session store's clock, in milliseconds.
    pub clock_offset: Arc<AtomicU64>,
    pub io: Io,
    server: actix_web::dev::ServerHandle,
    _presence: tokio::sync::oneshot::Sender<()>,
    _dir: tempfile::TempDir,
}

/// One login.
#[derive(Clone)]
pub struct Login {
    pub user: String,
    pub token: Token,
}

/// One connected client.
pub struct Client {
    ws: WebSocketStream<MaybeTlsStream<TcpStream>>,
    acks: u64,
    /// Received packets that no call has consumed.
    buffered: VecDeque<String>,
}

/// A user lookup in which every name but `unregistered` is registered.
struct AllRegistered;

#[async_trait::async_trait]
impl chat::UserLookup for AllRegistered {
    async fn find(&self, name: &Username) -> Result<Option<Username>, chat::Error> {
        Ok(Some(name.clone()).filter(|name| name.as_str() != "unregistered"))
    }
}

impl TestChat {
    pub async fn start() -> Self {
        Self::with(Config::default()).await
    }

    pub async fn with(config: Config) -> Self {
        Self::with_directory(config, |directory| directory).await
    }

    /// A chat whose directory is wrapped by `wrap`.
    pub async fn with_directory(
        config: Config,
        wrap: impl FnOnce(Arc<dyn Directory>) -> Arc<dyn Directory>,
    ) -> Self {
        Self::with_parts(config, wrap, |history| history, None).await
    }

    /// A chat whose reads of changes and messages wait at `gate`.
    pub async fn with_gated_reads(config: Config, gate: &Gate) -> Self {
        Self::with_parts(config, |directory| gate.wrap(directory), |history| gate.wrap_history(history), None)
            .await
    }

    /// A chat that finds its sessions in `sessions`.
    pub async fn with_sessions(sessions: SharedSessions) -> Self {
        Self::with_parts(Config::default(), |directory| directory, |history| history, Some(sessions)).await
    }

    async fn with_parts(
        config: Config,
        wrap: impl FnOnce(Arc<dyn Directory>) -> Arc<dyn Directory>,
        wrap_history: impl FnOnce(Arc<dyn History>) -> Arc<dyn History>,
        shared_sessions: Option<SharedSessions>,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&dir.path().join("chat.sqlite3")).unwrap();
        let clock_offset = Arc::<AtomicU64>::default();
        let offset = clock_offset.clone();
        let clock = move || Timestamp(Timestamp::now().0 + offset.load(Ordering::Relaxed));
        let sessions = SqliteSessions::open(&dir.path().join("sessions.sqlite3"), clock).unwrap();
        let sessions = Arc::new(sessions);
        let (presence_url, presence) = start_presence();
        let config = Config { presence_url, ..config };
        let io = Io::new();
        let (history, journal) = (wrap_history(store.history()), store.journal());
        let directory = wrap(store.directory());
        let deps = Deps {
            history,
            order: chat::Order::Store(journal),
            directory,
            ticket_key: store.secret(),
            user_lookup: Arc::new(AllRegistered),
            sessions: shared_sessions.unwrap_or_else(|| sessions.clone()),
            io: io.clone(),
            config,
        };
        let chat = chat::start(deps).await.unwrap();
        let sockets =
            Server::new(io.clone(), chat::client::Clients::new(chat.clone()), socketio::Config::default());
        let routes = chat.clone();
        let http = HttpServer::new(move || {
            let routes = routes.clone();
            App::new()
                .wrap_fn(|request, service| {
                    let header =
                        |name| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
                    if let (Some(user), Some(session)) = (header("test-user"), header("test-session")) {
                        let username = user.parse().unwrap();
                        request.extensions_mut().insert(Identity { username, session });
                    }
                    service.call(request)
                })
                .configure(|service| sockets.mount(service))
                .configure(|service| routes.routes(service))
        });
        let http = http
            .workers(2)
            .on_connect(socketio::on_connect)
            .h1_allow_half_closed(false)
            .disable_signals()
            .bind(("127.0.0.1", 0))
            .unwrap();
        let address = http.addrs()[0];
        let running = http.run();
        let server = running.handle();
        actix_rt::spawn(running);
        Self { address, chat, sessions, clock_offset, io, server, _presence: presence, _dir: dir }
    }

    /// Logs a user in.
    pub async fn login(&self, user: &str) -> Login {
        let token = self.sessions.open(&user.parse().unwrap(), &[]).await.unwrap();
        Login { user: user.to_owned(), token }
    }

    /// Logs a user in and connects a client.
    pub async fn client(&self, user: &str) -> Client {
        self.connect(&self.login(user).await).await
    }

    /// Connects a client and waits for its `welcome`.
    pub async fn connect(&self, login: &Login) -> Client {
        let mut client = self.open_websocket(login).await;
        client.send("40").await;
        client.receive_until("40{").await;
        client.event("welcome").await;
        client
    }

    /// Opens a WebSocket without sending CONNECT.
    pub async fn open_websocket(&self, login: &Login) -> Client {
        let url = format!("ws://{}/socket.io/?EIO=4&transport=websocket", self.address);
        let mut request = url.into_client_request().unwrap();
        request.headers_mut().insert("test-user", login.user.parse().unwrap());
        request.headers_mut().insert("test-session", login.token.id().as_str().parse().unwrap());
        let (ws, _) = tokio_tungstenite::connect_async(request).await.unwrap();
        let mut client = Client { ws, acks: 0, buffered: VecDeque::new() };
        client.receive_until("0{").await;
        client
    }

    /// Creates a room over HTTP.
    pub async fn create_room(&self, name: &str, owner: &str, private: bool) {
        let (status, _) = self.http(owner, "POST", "/rooms", json!({"name": name, "private": private})).await;
        assert_eq!(status, 201);
    }

    /// Sends an HTTP request with a JSON body. Returns status and body.
    pub async fn http(&self, user: &str, method: &str, path: &str, body: Value) -> (u16, Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.http_text(user, method, path, &body).await
    }

    /// Sends an HTTP request with a raw body. Returns status and body.
    pub async fn http_text(&self, user: &str, method: &str, path: &str, body: &str) -> (u16, Value) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\ntest-user: {user}\r\ntest-session: s\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(DEADLINE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let body = answer.split("\r\n\r\n").nth(1).unwrap();
        (status, serde_json::from_str(body).unwrap_or(Value::Null))
    }

    pub async fn close(self) {
        self.server.stop(false).await;
    }
}

fn start_presence() -> (String, tokio::sync::oneshot::Sender<()>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let config = presence::Config {
        presence_flush: Duration::from_millis(10),
        typing_expiry: Duration::from_secs(600),
        ..Default::default()
    };
    presence::start(listener, config, async {
        let _ = stopped.await;
    });
    (url, stop)
}

impl Client {
    pub async fn send(&mut self, packet: &str) {
        self.try_send(packet).await.unwrap();
    }

    /// Sends to a server that may have ended the connection.
    pub async fn try_send(&mut self, packet: &str) -> Result<(), tokio_tungstenite::tungstenite::Error> {
        self.ws.send(packet.to_owned().into()).await
    }

    /// Sends a text message with bytes that are not UTF-8.
    pub async fn send_invalid_text(&mut self, bytes: &'static [u8]) {
        use tokio_tungstenite::tungstenite::{
            Message,
            protocol::frame::{
                Frame,
                coding::{Data, OpCode},
            },
        };
        let frame = Frame::message(bytes, OpCode::Data(Data::Text), true);
        self.ws.send(Message::Frame(frame)).await.unwrap();
    }

    /// Emits an event and returns the id of its ack.
    pub async fn emit(&mut self, event: &str, payload: Value) -> u64 {
        let ack = self.acks;
        self.acks += 1;
        self.send(&format!("42{ack}{}", json!([event, payload]))).await;
        ack
    }

    /// Emits an event and waits for its ack.
    pub async fn ask(&mut self, event: &str, payload: Value) -> Value {
        let ack = self.emit(event, payload).await;
        self.ack(ack).await
    }

    /// Waits for the ack with this id.
    pub async fn ack(&mut self, number: u64) -> Value {
        let prefix = format!("43{number}[");
        let packet = self.receive_until(&prefix).await;
        serde_json::from_str::<Value>(&packet[prefix.len() - 1..]).unwrap()[0].take()
    }

    /// Waits for the next event of this name and returns its arguments.
    pub async fn event(&mut self, name: &str) -> Vec<Value> {
        let packet = self.receive_until(&format!("42[\"{name}\",")).await;
        let Value::Array(mut args) = serde_json::from_str(&packet[2..]).unwrap() else { panic!("{packet}") };
        args.remove(0);
        args
    }

    /// Waits for the next message and returns its text.
    pub async fn message_text(&mut self) -> String {
        self.event("message").await[0]["data"]["text"].as_str().unwrap().to_owned()
    }

    /// Waits for the next packet that starts with `prefix`. Other packets are buffered.
    pub async fn receive_until(&mut self, prefix: &str) -> String {
        if let Some(at) = self.buffered.iter().position(|packet| packet.starts_with(prefix)) {
            return self.buffered.remove(at).unwrap();
        }
        loop {
            let packet =
                self.next().await.unwrap_or_else(|| panic!("closed before {prefix}: {:?}", self.buffered));
            if packet.starts_with(prefix) {
                return packet;
            }
            self.buffered.push_back(packet);
        }
    }

    /// Receives the next packet. `None` when the connection has ended.
    pub async fn next(&mut self) -> Option<String> {
        loop {
            let message = timeout(DEADLINE, self.ws.next())
                .await
                .unwrap_or_else(|_| panic!("timeout after {:?}", self.buffered));
            match message {
                Some(Ok(message)) if message.is_text() => {
                    let text = message.into_text().unwrap().to_string();
                    if text == "2" {
                        self.send("3").await;
                        continue;
                    }
                    return Some(text);
                }
                Some(Ok(message)) if !message.is_close() => continue,
                _ => return None,
            }
        }
    }

    /// Returns all buffered packets. An ack is awaited first, so every packet that was sent before has arrived.
    pub async fn drain(&mut self) -> Vec<String> {
        let refused = self.ask("nonsense", Value::Null).await;
        assert_eq!(refused["code"], "bad_request");
        self.buffered.drain(..).collect()
    }
}
