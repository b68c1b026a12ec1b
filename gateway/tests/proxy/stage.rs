//! A gateway with services that do what the test says, byte by byte.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use actix_web::{App, HttpServer, web};
use clap::Parser;
use gateway::{Backend, Config, Gateway, Node, Nodes, Proxy, Upstreams};
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

/// Longer than anything takes; nothing is concluded from its passing but failure.
pub const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    gateway: Config,
}

/// A gateway on a port of its own, with alice logged in, in front of one accounts service and two chat nodes.
pub struct Stage {
    pub address: SocketAddr,
    pub token: String,
    pub accounts: Service,
    pub one: Service,
    pub two: Service,
    pub nodes: watch::Sender<Nodes>,
    /// Notified when the gateway wants the nodes to be looked at.
    pub look: Arc<Notify>,
    pub proxy: Proxy,
    _folder: tempfile::TempDir,
}

/// A service that the test plays.
pub struct Service {
    pub listener: Arc<TcpListener>,
    pub backend: Backend,
}

/// A service that is away.
pub struct Closed {
    _socket: TcpSocket,
    pub backend: Backend,
}

/// One end of a connection, read and written as the test wants.
pub struct Peer {
    pub stream: TcpStream,
    /// What was read and not yet looked at.
    seen: Vec<u8>,
}

/// A node as the table has it that takes what is new.
pub fn open(name: &str, backend: &Backend) -> (String, Node) {
    (name.to_owned(), Node { backend: backend.clone(), is_open: true })
}

pub fn key() -> Key {
    Key::new(&[7; 32]).unwrap()
}

impl Stage {
    pub async fn opens(flags: &[&str]) -> Self {
        Self::opens_lingering(flags, Duration::from_secs(1)).await
    }

    /// The same, where the HTTP server waits so long for a client to go.
    pub async fn opens_lingering(flags: &[&str], linger: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteSessions::open(&folder.path().join("sessions.sqlite3"), Timestamp::now).unwrap();
        let alice: Username = "alice".parse().unwrap();
        let token = store.open(&alice).await.unwrap().reveal().to_owned();
        let (accounts, one, two) = (Service::opens().await, Service::opens().await, Service::opens().await);
        // Of these two names alice's node is the first.
        let table = [open("one", &one.backend), open("due", &two.backend)];
        let (nodes, watched) = watch::channel(Nodes::new(table));
        let cli = Cli::try_parse_from(["gateway"].iter().chain(flags)).unwrap();
        let gateway = Gateway::new(cli.gateway, Arc::new(store));
        let look = Arc::new(Notify::new());
        let upstreams = Upstreams {
            accounts: accounts.backend.clone(),
            nodes: watched,
            look: look.clone(),
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
                .wrap(gateway.door())
        });
        let server = server.on_connect(gateway::on_connect).h1_allow_half_closed(false);
        let server = server.client_disconnect_timeout(linger);
        let server = server.workers(1).disable_signals().listen(listener).unwrap().run();
        actix_web::rt::spawn(server);
        Self { address, token, accounts, one, two, nodes, look, proxy, _folder: folder }
    }

    /// A client's connection on which this was sent.
    pub async fn sends(&self, bytes: impl AsRef<[u8]>) -> Peer {
        let mut client = Peer::of(TcpStream::connect(self.address).await.unwrap());
        client.writes(bytes).await;
        client
    }

    /// The head of alice's request, up to and with the empty line.
    pub fn head(&self, line: &str, more: &str) -> String {
        format!("{line} HTTP/1.1\r\nHost: chat.example\r\nCookie: auth_token={}\r\n{more}\r\n", self.token)
    }

    /// Alice's handshake for a WebSocket with this query.
    pub fn handshake(&self, query: &str) -> String {
        self.head(
            &format!("GET /socket.io/?{query}"),
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        )
    }
}

/// The right answer to [`Stage::handshake`], as RFC 6455 has it.
pub const ACCEPTED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// A small good answer.
pub const FINE: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\nfine";

impl Service {
    pub async fn opens() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let backend = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        Self { listener: Arc::new(listener), backend }
    }

    /// The next connection.
    pub async fn accepts(&self) -> Peer {
        let accepted = timeout(PATIENCE, self.listener.accept()).await.expect("nobody connects");
        Peer::of(accepted.unwrap().0)
    }

    /// Listens no more. Its port is refused, and nobody else's, as long as the answer lives.
    pub fn closes(self) -> Closed {
        let address = self.listener.local_addr().unwrap();
        drop(self.listener);
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(address).unwrap();
        Closed { _socket: socket, backend: self.backend }
    }

    /// That nobody has connected until now.
    pub fn is_untouched(&self) {
        let next = std::pin::pin!(self.listener.accept());
        let polled = futures_util::FutureExt::now_or_never(next);
        assert!(polled.is_none(), "somebody connected: {polled:?}");
    }

    pub fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }
}

impl Peer {
    fn of(stream: TcpStream) -> Self {
        Self { stream, seen: Vec::new() }
    }

    pub async fn writes(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Everything up to and with the next empty line.
    pub async fn head(&mut self) -> String {
        loop {
            if let Some(end) = self.seen.windows(4).position(|four| four == b"\r\n\r\n") {
                return String::from_utf8(self.seen.drain(..end + 4).collect()).unwrap();
            }
            self.fill().await;
        }
    }

    /// The next so many bytes.
    pub async fn takes(&mut self, count: usize) -> String {
        while self.seen.len() < count {
            self.fill().await;
        }
        String::from_utf8(self.seen.drain(..count).collect()).unwrap()
    }

    /// What comes until the other side closes.
    pub async fn rest(&mut self) -> String {
        let mut rest = std::mem::take(&mut self.seen);
        match timeout(PATIENCE, self.stream.read_to_end(&mut rest)).await {
            Ok(_) => String::from_utf8_lossy(&rest).into_owned(),
            Err(_) => panic!("still open after {:?}", String::from_utf8_lossy(&rest)),
        }
    }

    /// That nothing is there to be read, and the connection open.
    pub fn is_silent(&self) {
        let mut byte = [0];
        assert!(self.seen.is_empty(), "{:?}", String::from_utf8_lossy(&self.seen));
        let read = self.stream.try_read(&mut byte);
        assert!(read.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock), "{read:?}");
    }

    async fn fill(&mut self) {
        let read = timeout(PATIENCE, self.stream.read_buf(&mut self.seen)).await;
        let seen = || String::from_utf8_lossy(&self.seen).into_owned();
        let read = read.unwrap_or_else(|_| panic!("nothing more comes after {:?}", seen()));
        assert!(read.unwrap() > 0, "closed after {:?}", seen());
    }
}

/// Who a recorded request says is asking, with a signature for exactly this request.
pub fn identity(head: &str) -> Option<Identity> {
    let mut line = head.lines().next().unwrap().split(' ');
    let target = Target { method: line.next().unwrap(), path: line.next().unwrap() };
    let signed = header(head, HEADER).expect("every request is signed");
    key().verify(&signed, target, Timestamp::now()).unwrap()
}

/// The only value of a header in a head.
pub fn header(head: &str, name: &str) -> Option<String> {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    let mut values =
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned());
    let value = values.next();
    assert_eq!(values.next(), None, "{name} twice in {head}");
    value
}

/// The names of all headers in a head, in lower case and order.
pub fn names(head: &str) -> Vec<String> {
    let lines = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    let mut names: Vec<_> = lines.map(|(name, _)| name.to_ascii_lowercase()).collect();
    names.sort_unstable();
    names
}

pub fn status(head: &str) -> u16 {
    head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
}
