//! The flags of `socketio`, which is a library without flags: limits of one connection. Converted into
//! [`socketio::Config`].

use std::time::Duration;

use clap::Args;

/// Limits of one Socket.IO connection.
#[derive(Debug, Clone, Args)]
#[group(skip)]
#[command(next_help_heading = "Sockets")]
pub struct Sockets {
    /// How often a client is asked whether it is there
    #[arg(long, env = "GODZILLA_PING_INTERVAL", value_name = "TIME", default_value = "10s", value_parser = time)]
    pub ping_interval: Duration,

    /// How long it may take to answer that; then it is taken for gone
    #[arg(long, env = "GODZILLA_PING_TIMEOUT", value_name = "TIME", default_value = "5s", value_parser = time)]
    pub ping_timeout: Duration,

    /// How long a connection may last without joining a namespace
    #[arg(long, env = "GODZILLA_CONNECT_TIMEOUT", value_name = "TIME", default_value = "10s", value_parser = time)]
    pub connect_timeout: Duration,

    /// How long a client may leave what is sent to it unread before it is dropped
    #[arg(long, env = "GODZILLA_STALL_TIMEOUT", value_name = "TIME", default_value = "5s", value_parser = time)]
    pub stall_timeout: Duration,

    /// Largest message that a client may send, in bytes; a larger frame is refused before it is read
    #[arg(long, env = "GODZILLA_PAYLOAD_LIMIT", value_name = "BYTES", default_value_t = 65_536,
          value_parser = payload)]
    pub payload_limit: usize,

    /// Most binary attachments in one message
    #[arg(long, env = "GODZILLA_ATTACHMENTS", value_name = "COUNT", default_value_t = 10, value_parser = count)]
    pub attachments: usize,

    /// Most bytes that may wait for one client to read them; one more and it is dropped, recoverably
    #[arg(long = "outbox-bytes", env = "GODZILLA_OUTBOX_BYTES", value_name = "BYTES", default_value_t = 262_144,
          value_parser = send_queue)]
    pub send_queue_bytes: usize,

    /// Most messages that may wait for one client to read them
    #[arg(long = "outbox-frames", env = "GODZILLA_OUTBOX_FRAMES", value_name = "COUNT", default_value_t = 256,
          value_parser = frames)]
    pub send_queue_frames: usize,

    /// Most bytes that may wait for all clients together; beyond it those that are behind are dropped sooner
    #[arg(long, env = "GODZILLA_QUEUED_BYTES", value_name = "BYTES", default_value_t = 268_435_456,
          value_parser = queued)]
    pub queued_bytes: usize,
}

impl Sockets {
    /// Converts the flags into the configuration of the library.
    pub fn to_config(&self) -> socketio::Config {
        socketio::Config {
            ping_interval: self.ping_interval,
            ping_timeout: self.ping_timeout,
            connect_timeout: self.connect_timeout,
            stall_timeout: self.stall_timeout,
            max_payload: self.payload_limit,
            max_attachments: self.attachments,
            send_queue_bytes: self.send_queue_bytes,
            send_queue_frames: self.send_queue_frames,
            queued_bytes: self.queued_bytes,
            ..socketio::Config::default()
        }
    }
}

fn time(text: &str) -> Result<Duration, &'static str> {
    let allowed = Duration::from_millis(100)..=Duration::from_secs(600);
    let time = humantime::parse_duration(text).ok().filter(|time| allowed.contains(time));
    time.ok_or("expected a time such as 500ms, 10s or 2m, from 100ms to 10m")
}

/// Parses the size of a message.
pub fn payload(text: &str) -> Result<usize, &'static str> {
    within(text, 1_024, 16_777_216).ok_or("expected bytes, from 1024 to 16777216")
}

fn send_queue(text: &str) -> Result<usize, &'static str> {
    within(text, 16_384, 67_108_864).ok_or("expected bytes, from 16384 to 67108864")
}

/// Parses the number of queued messages. A batch has up to 64 messages, and half of the queue must be free for one.
fn frames(text: &str) -> Result<usize, &'static str> {
    within(text, 128, 65_536).ok_or("expected a count, from 128 to 65536")
}

fn queued(text: &str) -> Result<usize, &'static str> {
    within(text, 1_048_576, 68_719_476_736).ok_or("expected bytes, from 1048576 to 68719476736")
}

fn count(text: &str) -> Result<usize, &'static str> {
    within(text, 1, 65_536).ok_or("expected a count, from 1 to 65536")
}

fn within(text: &str, least: usize, most: usize) -> Option<usize> {
    text.parse().ok().filter(|number| (least..=most).contains(number))
}
