//! The roles of one process: one role alone, or several by `godzilla run`. The roles of `run` are those of the other commands: they use
//! the same stores, and the same protocols with each other and with roles of other processes.

use std::net::SocketAddr;

use clap::{ArgMatches, Args, Command, FromArgMatches, Subcommand, error::ErrorKind};

use super::{
    ROLES,
    definition::Definition,
    harness::{self, Member, Shared},
};
use crate::{admin, error::Error, listener::reachable, storage, telemetry};

/// The command of several roles.
const RUN: &str = "run";

const RUN_EXAMPLES: &str = "\
Examples:
  godzilla run --roles gateway,accounts,chat,presence --secret-file key --redis-url redis://127.0.0.1:6379/0 \\
    --mongo-uri 'mongodb://127.0.0.1/godzilla?replicaSet=rs0'
  godzilla run --roles gateway,chat --listen 0.0.0.0:8080 --chat-listen 10.0.0.6:3000 --accounts-url http://10.0.0.5:8081 \\
    --presence-url http://10.0.0.5:50051 --mongo-uri-file mongo --redis-url-file redis --secret-file key
The flags and variables are those of the roles. A flag that several roles have is given once. --listen is the address of the
gateway; each other role has its own. A gateway uses the accounts of its process, and a chat node the presence. There is one
admin address: /readyz is ready when all roles are, and names the parts of each.";

/// The flags of `run` beside those of its roles.
#[derive(Debug, Args)]
struct Run {
    /// Roles of this process, separated by commas
    #[arg(long, env = "GODZILLA_ROLES", value_name = "ROLE", value_delimiter = ',', required = true,
          value_parser = ["gateway", "accounts", "chat", "presence"], help_heading = "Roles")]
    roles: Vec<String>,
    /// Where accounts listens (plain HTTP, for gateways: a private network only)
    #[arg(long, env = "GODZILLA_ACCOUNTS_LISTEN", value_name = "IP:PORT", default_value = "127.0.0.1:8081",
          value_parser = proto::address::listen, help_heading = "Accounts")]
    accounts_listen: SocketAddr,
    /// Where the chat node listens (plain HTTP, for gateways: a private network only)
    #[arg(long, env = "GODZILLA_CHAT_LISTEN", value_name = "IP:PORT", default_value = "127.0.0.1:3000",
          value_parser = proto::address::listen, help_heading = "Chat")]
    chat_listen: SocketAddr,
    /// Where presence listens (gRPC, plain text, and every client that reaches it can report users as online: a private network only)
    #[arg(long, env = "GODZILLA_PRESENCE_LISTEN", value_name = "IP:PORT", default_value = "127.0.0.1:50051",
          value_parser = proto::address::listen, help_heading = "Presence")]
    presence_listen: SocketAddr,
}

impl Run {
    /// The address of a role, and its flag. `None` for the role that keeps `--listen`.
    fn listen(&self, role: &str) -> Option<(&'static str, SocketAddr)> {
        match role {
            "accounts" => Some(("--accounts-listen", self.accounts_listen)),
            "chat" => Some(("--chat-listen", self.chat_listen)),
            "presence" => Some(("--presence-listen", self.presence_listen)),
            _ => None,
        }
    }
}

/// The roles of a process with their flags.
#[derive(Debug)]
pub struct RoleSet {
    /// In the order of the table.
    roles: Vec<Member>,
    /// Whether the process is `run`, which names its roles.
    named: bool,
    admin: admin::Config,
    telemetry: telemetry::Config,
}

impl Subcommand for RoleSet {
    fn augment_subcommands(command: Command) -> Command {
        command.subcommands(ROLES.iter().map(alone)).subcommand(together())
    }

    fn augment_subcommands_for_update(command: Command) -> Command {
        Self::augment_subcommands(command)
    }

    fn has_subcommand(name: &str) -> bool {
        name == RUN || ROLES.iter().any(|role| role.name == name)
    }
}

/// The command of one role.
fn alone(role: &Definition) -> Command {
    let command = (role.add_flags)(Command::new(role.name));
    let command = telemetry::Config::augment_args(admin::Config::augment_args(command));
    command.about(role.about).after_help(role.examples)
}

/// The command of several roles: the union of their flags.
fn together() -> Command {
    let mut command = Run::augment_args(Command::new(RUN));
    for role in ROLES.iter().filter(|role| role.name != "serve") {
        for arg in alone(role).get_arguments() {
            if !command.get_arguments().any(|other| other.get_id() == arg.get_id()) {
                command = command.arg(arg.clone());
            }
        }
    }
    command
        .about("Run several of the roles gateway, accounts, chat and presence in one process")
        .after_help(RUN_EXAMPLES)
}

impl FromArgMatches for RoleSet {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let Some((name, matches)) = matches.subcommand() else {
            return Err(clap::Error::new(ErrorKind::MissingSubcommand));
        };
        let run = if name == RUN { Some(Run::from_arg_matches(matches)?) } else { None };
        let is_named = |role: &&Definition| match &run {
            Some(run) => run.roles.iter().any(|name| name == role.name),
            None => role.name == name,
        };
        let mut roles = Vec::new();
        for role in ROLES.iter().filter(is_named) {
            let mut config = (role.read_flags)(matches)?;
            let own = run.as_ref().and_then(|run| run.listen(role.name));
            own.iter().for_each(|(_, address)| config.set_listen(*address));
            config.fit_memory();
            let listen_flag = own.map_or("--listen", |(flag, _)| flag);
            roles.push(Member { name: role.name, listen_flag, config });
        }
        let urls: Vec<_> = roles
            .iter()
            .map(|role| (role.name, format!("http://{}", reachable(role.config.listen()))))
            .collect();
        for role in &mut roles {
            urls.iter().for_each(|(name, url)| role.config.set_neighbour(name, url));
        }
        let named = run.is_some();
        let (admin, telemetry) =
            (admin::Config::from_arg_matches(matches)?, telemetry::Config::from_arg_matches(matches)?);
        Ok(Self { roles, named, admin, telemetry })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl RoleSet {
    /// The flags of a role of the set.
    #[cfg(test)]
    pub fn config<C: super::definition::RoleConfig>(&self) -> Option<&C> {
        self.roles.iter().find_map(|role| (&*role.config as &dyn std::any::Any).downcast_ref())
    }

    /// Refuses combinations that no single part can detect. The text names the flags. The roles report missing values.
    pub fn check(&self) -> Result<(), String> {
        self.roles.iter().try_for_each(|role| role.config.check())
    }

    /// What the doctor found: for each part its version, or what is wrong. What roles share is examined once.
    pub async fn examine(&self) -> Vec<(&'static str, Result<String, String>)> {
        let mut found = vec![("godzilla", Ok(env!("CARGO_PKG_VERSION").to_owned()))];
        found.extend(self.check().err().map(|text| ("configuration", Err(text))));
        let requirements = || self.roles.iter().map(|role| role.config.requirements());
        let text = |error: Error| error.to_string();
        if let Some(cluster) = requirements().find_map(|needed| needed.cluster) {
            found.extend(cluster.key().err().map(|error| ("secret", Err(text(error)))));
            let version = async { storage::redis::version(cluster.location()?).await };
            found.push(("Redis", version.await.map_err(text)));
        }
        if let Some(mongo) = requirements().find_map(|needed| needed.mongo) {
            let version = async { storage::mongodb_version(&mongo.uri().map_err(Error::Config)?).await };
            found.push(("MongoDB", version.await.map_err(text)));
        }
        found
    }

    /// Runs the roles until a signal requests the end, then drains them.
    ///
    /// # Errors
    /// When a role cannot be started, or a part ends unexpectedly.
    pub fn run(self) -> Result<(), Error> {
        let shared = Shared { admin: self.admin, telemetry: self.telemetry, named: self.named };
        harness::run(shared, self.roles)
    }
}
