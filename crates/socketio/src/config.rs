//! The configuration of a server. An application creates a [`Config`].

use std::time::Duration;

use actix_web::http::header::HeaderName;

/// Intervals and limits of a server. Where the reference implementation has the setting, the default is the
/// same.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The URL path of the server, with a leading and a trailing slash.
    pub path: String,
    /// A suffix of every session id, up to 40 characters of `A-Z a-z 0-9 _ -`. Where several nodes serve one
    /// address, it is the node's name, by which a load balancer routes the requests of a session. The random
    /// part in front of it has 20 characters.
    pub sid_suffix: String,
    /// Time from a pong to the next ping, and from the open packet to the first ping.
    pub ping_interval: Duration,
    /// Time within which a client must answer a ping.
    pub ping_timeout: Duration,
    /// Time within which a client must join its first namespace, and in which it may stay connected after it
    /// has left its last one.
    pub connect_timeout: Duration,
    /// Time within which a probing WebSocket must complete the upgrade.
    pub upgrade_timeout: Duration,
    /// Time within which one message must be received: the body of a long-polling POST, or a WebSocket
    /// message from the first byte of its first frame to the last byte.
    pub body_timeout: Duration,
    /// Whether clients may open sessions with long-polling.
    pub polling: bool,
    /// Whether clients may open sessions with a WebSocket, or upgrade to one.
    pub websocket: bool,
    /// Connection state recovery in memory, for all namespaces. `None`: off, or an application with a log of
    /// its own ([`crate::Accepted::recovered`]). Servers with the same [`crate::Io`] share the log of the first.
    pub recovery: Option<Recovery>,
    /// Whether the heads of a session's first and of its latest request are kept
    /// ([`crate::Socket::handshake`], [`crate::Socket::request`]). It costs a copy of the headers for each
    /// request, and about 1 KB for each session.
    pub request_heads: bool,
    /// A request header with the longest time, in milliseconds, for which a GET of long-polling waits for packets. Then its
    /// answer is a packet without meaning (`6`), and nothing is lost. A proxy that drains can send it. `None`: GETs wait
    /// for the next packet, a ping at the latest.
    pub poll_limit_header: Option<HeaderName>,
    /// The origins whose pages may use long-polling. CORS does not apply to WebSockets: see
    /// [`crate::App::admit`].
    pub cors: Cors,
    /// The largest message that a client may send, in bytes: one frame, or all fragments of a message
    /// together.
    pub max_payload: usize,
    /// The largest number of binary attachments of one packet.
    pub max_attachments: usize,
    /// The largest number of namespaces of one client.
    pub max_namespaces: usize,
    /// The number of sessions that may open on one worker before a session that opened earlier, and has
    /// joined no namespace, is closed.
    pub max_unjoined: usize,
    /// The largest number of acks that the server awaits from one client at a time.
    pub max_pending_acks: usize,
    /// The largest number of bytes in the send queue of one client. A client that exceeds it is closed as
    /// slow.
    pub send_queue_bytes: usize,
    /// The largest number of frames in the send queue of one client. A client that exceeds it is closed as
    /// slow.
    pub send_queue_frames: usize,
    /// The largest number of bytes in the send queues of all clients together. Beyond it, clients that lag
    /// are closed as slow below their own limits. A frame that is shared by several queues counts in each.
    pub queued_bytes: usize,
    /// Time without progress after which a client with a non-empty send queue is closed as slow.
    pub stall_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            path: "/socket.io/".to_owned(),
            sid_suffix: String::new(),
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(20),
            connect_timeout: Duration::from_secs(45),
            upgrade_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(10),
            polling: true,
            websocket: true,
            recovery: None,
            request_heads: false,
            poll_limit_header: None,
            cors: Cors::default(),
            max_payload: 1_000_000,
            max_attachments: 10,
            max_namespaces: 8,
            max_unjoined: 4096,
            max_pending_acks: 256,
            send_queue_bytes: 1024 * 1024,
            send_queue_frames: 4096,
            queued_bytes: 256 * 1024 * 1024,
            stall_timeout: Duration::from_secs(5),
        }
    }
}

/// Connection state recovery in memory ([`Config::recovery`]), as `connectionStateRecovery` of the
/// reference implementation. A session is recovered whole or not at all. Nothing survives a restart of the
/// process.
///
/// Every event that is sent over [`crate::Io`] or [`crate::Socket::emit`] is stored, and the client receives its
/// offset as an additional last argument. Volatile events and events that request an ack are not stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// How long a disconnected session can be recovered, and an event is kept.
    pub window: Duration,
    /// The largest number of disconnected sessions. Beyond it the session that was disconnected first is
    /// dropped. A session in more than 1,024 rooms is not kept.
    pub max_sessions: usize,
    /// The largest number of events. Beyond it the oldest is dropped.
    pub max_events: usize,
    /// The largest size of all events in bytes, each with 128 bytes for its place. Beyond it the oldest is
    /// dropped.
    pub max_bytes: usize,
}

impl Recovery {
    /// Two minutes, 10,000 sessions, 100,000 events, 64 MiB. A client that has missed more bytes than
    /// [`Config::send_queue_bytes`] starts a new session.
    pub fn in_memory() -> Self {
        Self {
            window: Duration::from_secs(120),
            max_sessions: 10_000,
            max_events: 100_000,
            max_bytes: 64 * 1024 * 1024,
        }
    }
}

impl Default for Recovery {
    fn default() -> Self {
        Self::in_memory()
    }
}

/// Cross-origin access (Fetch standard, "CORS protocol"): which pages of other origins may read responses.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Cors {
    /// Same-origin pages only.
    #[default]
    Off,
    /// Pages of any origin, without cookies.
    Any,
    /// Pages of any origin, with cookies. Only for servers that do not authenticate by cookies.
    Reflect,
    /// Pages of these origins, with cookies.
    Origins(Vec<String>),
}
