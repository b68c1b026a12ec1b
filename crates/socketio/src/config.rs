//! The server's numbers. An application fills a [`Config`]; everything else reads it.

use std::time::Duration;

/// Intervals and limits of a server. The defaults are those of the reference implementation where it has the setting.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Where the server lives, with both slashes.
    pub path: String,
    /// What every session id ends with, up to 40 of `A-Z a-z 0-9 _ -`: where several nodes serve one address, the name by which
    /// a load balancer finds the session's. A fresh id has 20 characters in front of it.
    pub sid_suffix: String,
    /// Time between a pong and the next ping, and between open and the first ping.
    pub ping_interval: Duration,
    /// How long a ping may stay unsent_acks.
    pub ping_timeout: Duration,
    /// How long a client may take to join its first namespace, and stay after it has left its last.
    pub connect_timeout: Duration,
    /// How long a WebSocket that probes may take to apply the session.
    pub upgrade_timeout: Duration,
    /// How long one message may take to arrive: the body of a long-polling POST, or a WebSocket message from the first byte of its
    /// first frame to the last.
    pub body_timeout: Duration,
    /// Whether sessions may be opened over long-polling.
    pub polling: bool,
    /// Whether sessions may be opened over, or move to, a WebSocket.
    pub websocket: bool,
    /// Which pages of other origins may use long-polling. (WebSockets are not subject to it: see [`crate::App::admit`].)
    pub cors: Cors,
    /// The largest message a client may send, in bytes: a frame, or all fragments of one together.
    pub max_payload: usize,
    /// The most binary attachments in one packet.
    pub max_attachments: usize,
    /// The most namespaces one client may join.
    pub max_namespaces: usize,
    /// A client that has joined no namespace by the time so many others have come to the same worker after it is sent away.
    pub max_unjoined: usize,
    /// The most acks that the server waits for from one client at a time.
    pub max_pending_acks: usize,
    /// The most bytes queued toward one client before the connection is closed as slow.
    pub send_queue_bytes: usize,
    /// The most frames queued toward one client before the connection is closed as slow.
    pub send_queue_frames: usize,
    /// The most bytes queued toward all clients together before those that are behind are closed as slow even below their own
    /// limits. A frame that is shared by many clients counts for each.
    pub queued_bytes: usize,
    /// How long queued frames may wait without one of them leaving before the connection is closed as slow.
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

/// Cross-origin access (the Fetch standard, "CORS protocol"), by which browsers decide what pages of other origins may read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Cors {
    /// Same-origin pages only.
    #[default]
    Off,
    /// Pages of any origin, without cookies.
    Any,
    /// Pages of any origin, with cookies. Only for servers that do not rely on cookies.
    Reflect,
    /// Pages of these origins, with cookies.
    Origins(Vec<String>),
}
