//! Flags that roles share, the flags of the tools, and the rules that concern two parts. Parsed by [`crate::cli`]. The flags of a role are
//! in its file in [`crate::role`].

pub mod shared;
pub mod sockets;

use std::{
    ffi::OsStr,
    net::SocketAddr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use clap::Args;

pub use self::sockets::Sockets;
use crate::telemetry;

/// Configuration of `seed`.
#[derive(Debug, Clone, Args)]
pub struct Seed {
    // Directory of the store.
    #[command(flatten)]
    pub store: Store,
    // Passwords and logins.
    #[command(flatten, next_help_heading = "Accounts")]
    pub accounts: accounts::Config,
    // Logs.
    #[command(flatten)]
    pub telemetry: telemetry::Config,
}

/// Configuration of `backup`.
#[derive(Debug, Clone, Args)]
pub struct Backup {
    /// Directory of the copy; absent or empty
    #[arg(value_name = "DIR")]
    pub to: PathBuf,
    // Directory of the store.
    #[command(flatten)]
    pub store: Store,
    // Logs.
    #[command(flatten)]
    pub telemetry: telemetry::Config,
}

/// Configuration of `check`.
#[derive(Debug, Clone, Args)]
pub struct Check {
    // Directory of the store.
    #[command(flatten)]
    pub store: Store,
    // Logs.
    #[command(flatten)]
    pub telemetry: telemetry::Config,
}

/// Configuration of `healthcheck`.
#[derive(Debug, Clone, Args)]
pub struct Healthcheck {
    /// The server's admin address
    #[arg(long, env = "GODZILLA_ADMIN_LISTEN", value_name = "IP:PORT", default_value = "127.0.0.1:9100",
          value_parser = proto::address::listen)]
    pub admin_listen: SocketAddr,
}

/// Location of the embedded store.
#[derive(Debug, Clone, Args)]
#[group(skip)]
#[command(next_help_heading = "Store")]
pub struct Store {
    /// Directory of the embedded store; made if absent, kept private to this user. `godzilla backup` copies it
    #[arg(long, env = "GODZILLA_DATA_DIR", value_name = "DIR", default_value = "./data")]
    pub data_dir: PathBuf,
}

/// Bytes that a message needs besides its text: names, quotes, an ack number.
const ENVELOPE: usize = 1_024;

impl Store {
    /// The directory of the SQLite files, for the tools that read or copy them.
    pub fn directory(&self) -> &Path {
        let value = self.data_dir.as_os_str().as_bytes();
        value.strip_prefix(b"sqlite:").map_or(&self.data_dir, |path| Path::new(OsStr::from_bytes(path)))
    }
}

/// Refuses limits of sockets and of chat that contradict each other. The text names the flags.
pub fn check_limits(sockets: &Sockets, chat: &::chat::Config) -> Result<(), String> {
    let (send_queue, answer) = (sockets.send_queue_bytes, ::chat::config::ANSWER_BYTES + ENVELOPE);
    if send_queue < answer {
        return Err(format!(
            "the value of --outbox-bytes (GODZILLA_OUTBOX_BYTES) is refused: a page of history needs {answer}"
        ));
    }
    if chat.text_limit + ENVELOPE > sockets.payload_limit {
        return Err(format!(
            "--text-limit (GODZILLA_TEXT_LIMIT) must be at least {ENVELOPE} bytes below --payload-limit \
             (GODZILLA_PAYLOAD_LIMIT)"
        ));
    }
    Ok(())
}
