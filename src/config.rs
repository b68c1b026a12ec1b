//! The whole configuration: the flags of each part, combined per role and tool, and the rules that concern two parts.
//! Parsed by [`crate::cli`], read by the roles.

mod chat;
mod run;
pub mod shared;
mod sockets;

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;

pub use self::{chat::Chat, run::Run, sockets::Sockets};
use crate::{admin, telemetry};

/// Configuration of `serve`.
#[derive(Debug, Clone, Args)]
pub struct Serve {
    // Gateway.
    #[command(flatten)]
    pub gateway: gateway::Config,
    // Directory of the store.
    #[command(flatten)]
    pub store: Store,
    // Limits of a connection.
    #[command(flatten)]
    pub sockets: Sockets,
    // Limits of messages and rooms.
    #[command(flatten, next_help_heading = "Chat")]
    pub chat: ::chat::Config,
    // Passwords and logins.
    #[command(flatten, next_help_heading = "Accounts")]
    pub accounts: accounts::Config,
    /// Where the presence service listens (gRPC, plain text: it stays on a loopback address)
    #[arg(long, env = "GODZILLA_PRESENCE_LISTEN", value_name = "IP:PORT", default_value = "127.0.0.1:50051",
          value_parser = proto::address::listen)]
    #[arg(help_heading = "Presence")]
    pub presence_listen: SocketAddr,
    // Online users.
    #[command(flatten, next_help_heading = "Presence")]
    pub presence: presence::Config,
    // Operator listener.
    #[command(flatten)]
    pub admin: admin::Config,
    // Logs.
    #[command(flatten)]
    pub telemetry: telemetry::Config,
}

/// Configuration of `gateway`.
#[derive(Debug, Clone, Args)]
pub struct Gateway {
    // Gateway.
    #[command(flatten)]
    pub gateway: gateway::Config,
    /// The accounts service, such as http://accounts:8081
    #[arg(long, env = "GODZILLA_ACCOUNTS_URL", value_name = "URL", help_heading = "Services")]
    pub accounts_url: Option<gateway::Backend>,
    /// Largest body of a polling request, in bytes; what the chat nodes have
    #[arg(long, env = "GODZILLA_PAYLOAD_LIMIT", value_name = "BYTES", default_value_t = 65_536,
          value_parser = sockets::payload, help_heading = "Services")]
    pub payload_limit: usize,
    // Sessions, and the table of chat nodes.
    #[command(flatten)]
    pub redis: shared::Redis,
    // Prefix of the keys.
    #[command(flatten)]
    pub deployment: shared::Deployment,
    // Key of signed identities.
    #[command(flatten)]
    pub secret: shared::Secret,
    // Operator listener.
    #[command(flatten)]
    pub admin: admin::Config,
    // Logs.
    #[command(flatten)]
    pub telemetry: telemetry::Config,
}

/// Configuration of `accounts`.
#[derive(Debug, Clone, Args)]
pub struct Accounts {
    /// Where the service listens (plain HTTP, for the gateway: a private network only)
    #[arg(long, env = "GODZILLA_LISTEN", value_name = "IP:PORT", default_value = "127.0.0.1:8081",
          value_parser = proto::address::listen)]
    #[arg(help_heading = "Accounts")]
    pub listen: SocketAddr,
    // Users.
    #[command(flatten)]
    pub mongo: shared::Mongo,
    // Sessions.
    #[command(flatten)]
    pub redis: shared::Redis,
    // Prefix of the keys and collections.
    #[command(flatten)]
    pub deployment: shared::Deployment,
    // Key of signed identities.
    #[command(flatten)]
    pub secret: shared::Secret,
    // Passwords and logins.
    #[command(flatten, next_help_heading = "Accounts")]
    pub accounts: accounts::Config,
    // Operator listener.
    #[command(flatten)]
    pub admin: admin::Config,
    // Logs.
    #[command(flatten)]
    pub telemetry: telemetry::Config,
}

/// Configuration of `presence`.
#[derive(Debug, Clone, Args)]
pub struct Presence {
    /// Where the service listens (gRPC, plain text, and every client that reaches it can report users as online: a private network only)
    #[arg(long, env = "GODZILLA_LISTEN", value_name = "IP:PORT", default_value = "127.0.0.1:50051",
          value_parser = proto::address::listen)]
    #[arg(help_heading = "Presence")]
    pub listen: SocketAddr,
    // Online users.
    #[command(flatten, next_help_heading = "Presence")]
    pub service: presence::Config,
    // Deployment of callers that name no deployment.
    #[command(flatten)]
    pub deployment: shared::Deployment,
    // Operator listener.
    #[command(flatten)]
    pub admin: admin::Config,
    // Logs.
    #[command(flatten)]
    pub telemetry: telemetry::Config,
}

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
    /// Give up what is lost and make the rest usable: a new epoch of the log, all sessions closed, damaged texts replaced by U+FFFD. No
    /// server may run. Keep a copy of the directory
    #[arg(long)]
    pub accept_loss: bool,
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

/// The flag of the address of a role.
const LISTEN: &str = "--listen (GODZILLA_LISTEN)";

/// The flag of the address of the operator listener.
const ADMIN: &str = "--admin-listen (GODZILLA_ADMIN_LISTEN)";

/// Bytes that a message needs besides its text: names, quotes, an ack number.
const ENVELOPE: usize = 1_024;

impl Serve {
    /// Refuses combinations that no single part can detect. The text names the flags.
    pub fn check(&self) -> Result<(), String> {
        self.check_addresses()?;
        check_limits(&self.sockets, &self.chat)
    }

    fn check_addresses(&self) -> Result<(), String> {
        let presence = self.presence_listen;
        check_apart(&[
            (LISTEN, self.gateway.listen),
            (ADMIN, self.admin.admin_listen),
            ("--presence-listen (GODZILLA_PRESENCE_LISTEN)", presence),
        ])?;
        if !presence.ip().is_loopback() {
            return Err("the value of --presence-listen (GODZILLA_PRESENCE_LISTEN) is refused: every client that reaches it \
                        can report users as online, so in `serve` it stays on a loopback address"
                .to_owned());
        }
        if self.chat.presence_url != ::chat::Config::default().presence_url {
            return Err(
                "--presence-url (GODZILLA_PRESENCE_URL) has no effect in `serve`, where presence runs in the same process; \
                        --presence-listen moves it"
                    .to_owned(),
            );
        }
        Ok(())
    }
}

impl Gateway {
    /// Refuses combinations that no single part can detect. The text names the flags. The role reports missing values.
    pub fn check(&self) -> Result<(), String> {
        check_apart(&[(LISTEN, self.gateway.listen), (ADMIN, self.admin.admin_listen)])
    }

    /// The address of the accounts service.
    pub fn accounts(&self) -> Result<gateway::Backend, String> {
        let flag = "--accounts-url (GODZILLA_ACCOUNTS_URL)";
        self.accounts_url.clone().ok_or_else(|| shared::missing(flag, "where the accounts service is"))
    }
}

impl Accounts {
    /// Refuses combinations that no single part can detect. The text names the flags. The role reports missing values.
    pub fn check(&self) -> Result<(), String> {
        check_apart(&[(LISTEN, self.listen), (ADMIN, self.admin.admin_listen)])
    }
}

impl Presence {
    /// Refuses combinations that no single part can detect. The text names the flags.
    pub fn check(&self) -> Result<(), String> {
        check_apart(&[(LISTEN, self.listen), (ADMIN, self.admin.admin_listen)])
    }
}

/// Refuses two addresses on which the process cannot listen at the same time. The text names their flags.
fn check_apart(all: &[(&str, SocketAddr)]) -> Result<(), String> {
    for (index, (flag, address)) in all.iter().enumerate() {
        if let Some((other, _)) = all[..index].iter().find(|(_, earlier)| collide(*earlier, *address)) {
            return Err(format!("{other} and {flag} name the same port"));
        }
    }
    Ok(())
}

fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let everywhere = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0 && one.port() == other.port() && (one.ip() == other.ip() || everywhere)
}

/// Refuses limits of sockets and of chat that contradict each other. The text names the flags.
fn check_limits(sockets: &Sockets, chat: &::chat::Config) -> Result<(), String> {
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
