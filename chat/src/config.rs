//! The chat's configuration: flags and `GODZILLA_*` variables. The binary parses it and passes it to [`crate::start`].

use std::time::Duration;

use clap::Args;

/// Limits and addresses of the chat.
#[derive(Debug, Clone, Args)]
#[group(skip)]
#[command(next_help_heading = "Chat")]
pub struct Config {
    /// The longest message text, in bytes
    #[arg(long, env = "GODZILLA_TEXT_LIMIT", default_value_t = 8192, value_parser = at_least_one, value_name = "BYTES")]
    pub text_limit: usize,
    /// Messages per second that one socket may send, on average
    #[arg(long, env = "GODZILLA_MESSAGE_RATE", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    pub message_rate: u32,
    /// Messages that one socket may send at once
    #[arg(long, env = "GODZILLA_MESSAGE_BURST", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    pub message_burst: u32,
    /// Acks that one socket may wait for at the same time
    #[arg(long, env = "GODZILLA_OPEN_ACKS", default_value_t = 64, value_parser = at_least_one, value_name = "N")]
    pub open_acks: usize,
    /// Rooms that one user may make or enter; the lobby and rooms into which others have added the user are not counted
    #[arg(long, env = "GODZILLA_ROOMS_PER_USER", default_value_t = 100, value_parser = at_least_one, value_name = "N")]
    pub rooms_per_user: usize,
    /// Memberships that one user may have made for others by adding them to rooms
    #[arg(long, env = "GODZILLA_ADDITIONS_PER_USER", default_value_t = 1000, value_parser = at_least_one, value_name = "N")]
    pub additions_per_user: usize,
    /// Sockets that one user may have open at the same time
    #[arg(long, env = "GODZILLA_SOCKETS_PER_USER", default_value_t = 20, value_parser = at_least_one, value_name = "N")]
    pub sockets_per_user: usize,
    /// Where the presence service listens
    #[arg(long, env = "GODZILLA_PRESENCE_URL", default_value = "http://127.0.0.1:50051", value_name = "URL")]
    pub presence_url: String,
    /// This node's name; the first part of the host's name when absent
    #[arg(long, env = "GODZILLA_NODE", value_name = "NAME")]
    pub node: Option<String>,
}

/// Refuses the URL of a presence service that no client can use. The text names the flag.
///
/// # Errors
/// When the URL does not have the form `http://HOST[:PORT]`.
pub fn check_presence_url(url: &str) -> Result<(), String> {
    let has_form =
        url.starts_with("http://") && tonic::transport::Endpoint::from_shared(url.to_owned()).is_ok();
    let refused = "the value of --presence-url (GODZILLA_PRESENCE_URL) is refused: expected an address such as http://127.0.0.1:50051";
    if has_form { Ok(()) } else { Err(refused.to_owned()) }
}

/// Deadline of an event or a request. The client receives an error when it expires.
pub const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// Deadline of the store for one batch of a room. Shorter than [`ANSWER_DEADLINE`], so that the error reaches the client in time.
pub const STORE_DEADLINE: Duration = Duration::from_secs(4);

/// Maximum number of messages in a page of history.
pub const PAGE: u32 = 100;

/// Number of messages in a page of history when the client sends no limit.
pub const DEFAULT_PAGE: u32 = 50;

/// Maximum number of messages in the answer to a `join` with `since`.
pub const SINCE: usize = 500;

/// Maximum number of bytes of JSON in one answer with messages: half of the default capacity of a socket's send queue.
pub const ANSWER_BYTES: usize = 128 * 1024;

/// Maximum number of names in a `presence` or `typing` event. Further online users are announced by `presence:diff` only.
pub const NAMES: usize = 200;

/// Maximum number of messages that a recovering client receives. A client that has missed more reads the history.
pub const RECOVERY: usize = 500;

/// Maximum number of bytes of these messages, because they are queued at once for the reconnected client.
pub const RECOVERY_BYTES: usize = 256 * 1024;

/// Maximum number of messages of the log, over all rooms, that are scanned for missed messages.
pub const RECOVERY_SCAN: u64 = 50_000;

impl Default for Config {
    fn default() -> Self {
        Self {
            text_limit: 8192,
            message_rate: 10,
            message_burst: 20,
            open_acks: 64,
            rooms_per_user: 100,
            additions_per_user: 1000,
            sockets_per_user: 20,
            presence_url: "http://127.0.0.1:50051".to_owned(),
            node: None,
        }
    }
}

impl Config {
    /// This node's name: the configured one, or the name derived from the host's.
    pub fn node_name(&self) -> String {
        self.node.clone().unwrap_or_else(|| node_of(&host()))
    }
}

/// Maximum length of a node's name in characters.
const NODE_NAME: usize = 63;

/// The name of a node on `host`: the first label of the host's name, with dashes instead of characters other than ASCII letters and digits,
/// at most [`NODE_NAME`] characters. The end of a longer label is replaced by a hash of the label, because hosts often differ only there.
pub fn node_of(host: &str) -> String {
    let label = host.split('.').next().unwrap_or_default();
    let dash = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let name: String = label.chars().map(dash).collect();
    if name.is_empty() {
        return "chat".to_owned();
    }
    if name.len() <= NODE_NAME {
        return name;
    }
    let hash = label.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{}-{:08x}", &name[..NODE_NAME - 9], hash >> 32)
}

/// The host's name. `chat` when it is empty or cannot be read.
pub fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "chat".to_owned() } else { name.trim().to_owned() }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("expected at least 1".to_owned()),
        Ok(number) => Ok(number),
        Err(_) => Err("expected a whole number".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        chat: Config,
    }

    #[test]
    fn default_equals_parsing_without_flags() {
        let parsed = Cli::try_parse_from(["chat"]).unwrap().chat;
        assert_eq!(format!("{parsed:?}"), format!("{:?}", Config::default()));
    }

    #[test]
    fn limit_of_zero_is_refused() {
        for flag in
            ["--text-limit", "--message-rate", "--open-acks", "--sockets-per-user", "--rooms-per-user"]
        {
            assert!(Cli::try_parse_from(["chat", flag, "0"]).is_err(), "{flag}");
        }
    }
}
