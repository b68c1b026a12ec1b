//! The flags of the role `serve`, and its row in the table of roles.

use std::net::SocketAddr;

use async_trait::async_trait;
use clap::{Args, Command};

use crate::{
    config::{Sockets, Store, check_limits},
    error::Error,
    limits,
    role::{
        definition::{Definition, RoleConfig},
        harness::{Process, Running},
    },
};

/// The row of the table of roles.
pub const ROLE: Definition = Definition {
    add_flags,
    ..Definition::new::<Config>(
        "serve",
        "Run everything in one process on an embedded store (the default when no command is given)",
        EXAMPLES,
    )
};

const EXAMPLES: &str = "\
Examples:
  godzilla                                          chat on http://127.0.0.1:8080, data in ./data
  godzilla serve --listen 0.0.0.0:8080 --data-dir /var/lib/godzilla
  godzilla serve --allow-origin https://app.example.org --trusted-proxy 10.0.0.7
  GODZILLA_LOG_FORMAT=json godzilla                 every flag has a variable; a flag wins over it

A misspelt variable that starts with GODZILLA_ stops the start.";

const PRESENCE_FLAG: &str = "--presence-listen (GODZILLA_PRESENCE_LISTEN)";

/// The flags.
#[derive(Debug, Clone, Args)]
#[group(skip)]
pub struct Config {
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
}

/// The flag of chat that has no effect here is hidden.
fn add_flags(command: Command) -> Command {
    Config::augment_args(command).mut_arg("presence_url", |arg| arg.hide(true))
}

#[async_trait(?Send)]
impl RoleConfig for Config {
    fn listen(&self) -> SocketAddr {
        self.gateway.listen
    }

    fn set_listen(&mut self, address: SocketAddr) {
        self.gateway.listen = address;
    }

    fn check(&self) -> Result<(), String> {
        if !self.presence_listen.ip().is_loopback() {
            return Err(format!(
                "the value of {PRESENCE_FLAG} is refused: every client that reaches it can report users as online, so in `serve` it \
                 stays on a loopback address"
            ));
        }
        if self.chat.presence_url != ::chat::Config::default().presence_url {
            return Err(
                "--presence-url (GODZILLA_PRESENCE_URL) has no effect in `serve`, where presence runs in the same process; \
                        --presence-listen moves it"
                    .to_owned(),
            );
        }
        check_limits(&self.sockets, &self.chat)
    }

    fn fit_memory(&mut self) {
        limits::fit_kib(&mut self.gateway.unread_answers);
        limits::fit(&mut self.sockets.queued_bytes);
    }

    async fn start(self: Box<Self>, process: Process) -> Result<Box<dyn Running>, Error> {
        Ok(Box::new(super::start(*self, process).await?))
    }
}
