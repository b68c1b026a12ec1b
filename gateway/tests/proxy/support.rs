//! A gateway with services that the test controls, byte by byte.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use actix_web::{App, HttpServer, web};
use clap::Parser;
use cluster::{Backend, Node, Nodes};
use gateway::{Config, Gateway, Proxy, Upstreams};
use proto::{
    Identity, Timestamp, Username,
    signature::{HEADER, Key, Target},
};
use sessions::{Sessions, SqliteSessions};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{Notify, watch},
    time::timeout,
};

/// Longer than any operation takes. A test that reaches it has failed.
pub const TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    gateway: Config,
}

/// A gateway on its own port, with alice logged in, in front of one accounts service and two chat nodes.
pub struct TestServer {
    pub address: SocketAddr,
    pub token: String,
    pub accounts: Service,
    pub one: Service,
    pub two: Service,
    pub nodes: watch::Sender<Nodes>,
    /// Notified when the gateway requests a refresh of the nodes.
    pub refresh: Arc<Notify>,
    pub proxy: Proxy,
    _folder: tempfile::TempDir,
}

/// A service that the test controls.
pub struct Service {
    pub listener: Arc<TcpListener>,
    pub backend: Backend,
}

/// A service that is down. Its port stays reserved and refuses connections.
pub struct StoppedService {
    _socket: TcpSocket,
    pub backend: Backend,
}

/// One end of a connection.
pub struct Peer {
    pub stream: TcpStream,
    /// Bytes that were received and not read yet.
    buffer: Vec<u8>,
}

/// A node in the table that accepts new sessions.
pub fn open(name: &str, backend: &Backend) -> (String, Node) {
    (name.to_owned(), Node { backend: backend.clone(), is_open: true })
}

pub fn key() -> Key {
    Key::new(&[7; 32]).unwrap()
}

impl TestServer {
    pub async fn start(flags: &[&str]) -> Self {
        Self::start_with_disconnect_timeout(flags, Duration::from_secs(1)).await
    }

    /// Starts a server with this disconnect timeout.
    pub async fn start_with_disconnect_timeout(flags: &[&str], disconnect_timeout: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteSessions::open(&folder.path().join("sessions.sqlite3"), Timestamp::now).unwrap();
        let alice: Username = "alice".parse().unwrap();
        let token = store.open(&alice, &[]).await.unwrap().reveal().to_owned();
        let (accounts, one, two) = (Service::start().await, Service::start().await, Service::start().await);
        // Of these two names, alice prefers the first.
        let table = [open("one", &one.backend), open("due", &two.backend)];
        let (nodes, watched) = watch::channel(Nodes::new(table));
        let cli = Cli::try_parse_from(["gateway"].iter().chain(flags)).unwrap();
        let gateway = Gateway::new(cli.gateway, Arc::new(store));
        let refresh = Arc::new(Notify::new());
        let upstreams = Upstreams {
            accounts: accounts.backend.clone(),
            nodes: watched,
            refresh: refresh.clone(),
            key: key(),
            payload_limit: 1_024,
        };
        let proxy = gateway.proxy(upstreams);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mounted = proxy.clone();
        let server = HttpServer::new(move || {
            let worker = mounted.worker();
            App::new()
                .configure(|service| gateway.routes(service))
                .service(worker.login().wrap(gateway.login_limit()))
                .service(worker.registration().wrap(gateway.registration_limit()))
                .configure(|service| worker.routes(service))
                .default_service(web::to(gateway::not_found))
                .wrap(gateway.middleware())
        });
        let server = server.on_connect(gateway::on_connect).h1_allow_half_closed(false);
        let server = server.client_disconnect_timeout(disconnect_timeout);
        let server = server.workers(1).disable_signals().listen(listener).unwrap().run();
        actix_web::rt::spawn(server);
        Self { address, token, accounts, one, two, nodes, refresh, proxy, _folder: folder }
    }

    /// Opens a client's connection and sends these bytes.
    pub async fn send(&self, bytes: impl AsRef<[u8]>) -> Peer {
        let mut client = Peer::of(TcpStream::connect(self.address).await.unwrap());
        client.write(bytes).await;
        client
    }

    /// The head of a request of alice, with the empty line.
    pub fn head(&self, line: &str, more: &str) -> String {
        format!("{line} HTTP/1.1\r\nHost: chat.example\r\nCookie: auth_token={}\r\n{more}\r\n", self.token)
    }

    /// A WebSocket handshake of alice with this query.
    pub fn handshake(&self, query: &str) -> String {
        self.head(
            &format!("GET /socket.io/?{query}"),
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        )
    }
}

/// The valid response to [`TestServer::handshake`] (RFC 6455).
pub const SWITCHING_PROTOCOLS: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// A small valid response.
pub const OK_RESPONSE: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\nfine";

impl Service {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let backend = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        Self { listener: Arc::new(listener), backend }
    }

    /// Accepts the next connection.
    pub async fn accept(&self) -> Peer {
        let accepted = timeout(TIMEOUT, self.listener.accept()).await.expect("a connection");
        Peer::of(accepted.unwrap().0)
    }

    /// Stops listening. The port refuses connections, and no other process can bind it, until the result is dropped.
    pub fn stop(self) -> StoppedService {
        let address = self.listener.local_addr().unwrap();
        drop(self.listener);
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(address).unwrap();
        StoppedService { _socket: socket, backend: self.backend }
    }

    /// Asserts that there is no new connection.
    pub fn assert_no_connection(&self) {
        let next = std::pin::pin!(self.listener.accept());
        let polled = futures_util::FutureExt::now_or_never(next);
        assert!(polled.is_none(), "unexpected connection: {polled:?}");
    }

    pub fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }
}

impl Peer {
    fn of(stream: TcpStream) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Reads until the next empty line, inclusive.
    pub async fn read_head(&mut self) -> String {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                return String::from_utf8(self.buffer.drain(..end + 4).collect()).unwrap();
            }
            self.fill().await;
        }
    }

    /// Reads the next `count` bytes.
    pub async fn read(&mut self, count: usize) -> String {
        while self.buffer.len() < count {
            self.fill().await;
        }
        String::from_utf8(self.buffer.drain(..count).collect()).unwrap()
    }

    /// Reads until the other side closes.
    pub async fn read_to_end(&mut self) -> String {
        let mut rest = std::mem::take(&mut self.buffer);
        match timeout(TIMEOUT, self.stream.read_to_end(&mut rest)).await {
            Ok(_) => String::from_utf8_lossy(&rest).into_owned(),
            Err(_) => panic!("still open after {:?}", String::from_utf8_lossy(&rest)),
        }
    }

    /// Asserts that no bytes are available and the connection is open.
    pub fn assert_idle(&self) {
        let mut byte = [0];
        assert!(self.buffer.is_empty(), "{:?}", String::from_utf8_lossy(&self.buffer));
        let read = self.stream.try_read(&mut byte);
        assert!(read.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock), "{read:?}");
    }

    async fn fill(&mut self) {
        let read = timeout(TIMEOUT, self.stream.read_buf(&mut self.buffer)).await;
        let buffer = || String::from_utf8_lossy(&self.buffer).into_owned();
        let read = read.unwrap_or_else(|_| panic!("nothing more comes after {:?}", buffer()));
        assert!(read.unwrap() > 0, "closed after {:?}", buffer());
    }
}

/// The identity in a recorded request, after verification of its signature.
pub fn identity(head: &str) -> Option<Identity> {
    let mut line = head.lines().next().unwrap().split(' ');
    let target = Target { method: line.next().unwrap(), path: line.next().unwrap() };
    let signed = header(head, HEADER).expect("every request is signed");
    key().verify(&signed, target, Timestamp::now()).unwrap()
}

/// The value of a header that occurs at most once in a head.
pub fn header(head: &str, name: &str) -> Option<String> {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    let mut values =
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned());
    let value = values.next();
    assert_eq!(values.next(), None, "{name} twice in {head}");
    value
}

/// The names of all headers in a head, in lower case, sorted.
pub fn names(head: &str) -> Vec<String> {
    let lines = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    let mut names: Vec<_> = lines.map(|(name, _)| name.to_ascii_lowercase()).collect();
    names.sort_unstable();
    names
}

pub fn status(head: &str) -> u16 {
    head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
}
