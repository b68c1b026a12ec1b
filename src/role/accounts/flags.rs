//! The flags of the role `accounts`, and its row in the table of roles.

use std::net::SocketAddr;

use async_trait::async_trait;
use clap::Args;

use crate::{
    config::shared,
    error::Error,
    role::{
        definition::{Context, Definition, Requirements, RoleConfig},
        harness::Role,
    },
};

/// The row of the table of roles.
pub const ROLE: Definition = Definition::new::<Config>(
    "accounts",
    "Run the accounts service alone: register, login, logout and me, on MongoDB and Redis, behind a gateway",
    EXAMPLES,
);

const EXAMPLES: &str = "\
Examples:
  head -c 32 /dev/urandom | base64 > key && chmod 600 key
  godzilla accounts --secret-file key --redis-url redis://127.0.0.1:6379/0 \\
    --mongo-uri 'mongodb://127.0.0.1/godzilla?replicaSet=rs0'
It starts without MongoDB and Redis; /readyz on the admin address names the stores that it waits for.";

/// The flags.
#[derive(Debug, Clone, Args)]
#[group(skip)]
pub struct Config {
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
    pub accounts: ::accounts::Config,
}

#[async_trait(?Send)]
impl RoleConfig for Config {
    fn listen(&self) -> SocketAddr {
        self.listen
    }

    fn set_listen(&mut self, address: SocketAddr) {
        self.listen = address;
    }

    fn requirements(&self) -> Requirements<'_> {
        Requirements { secret: Some(&self.secret), redis: Some(&self.redis), mongo: Some(&self.mongo) }
    }

    async fn open(self: Box<Self>, context: Context) -> Result<Box<dyn Role>, Error> {
        Ok(Box::new(super::Accounts::open(*self, context).await?))
    }
}
