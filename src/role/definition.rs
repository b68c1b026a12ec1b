//! What a role defines. The command line, `run`, the doctor, the limits of the system and the start read the table of these definitions
//! ([`super::ROLES`]).

use std::{any::Any, fmt, net::SocketAddr, time::Duration};

use async_trait::async_trait;
use clap::{ArgMatches, Args, Command, FromArgMatches};

use super::harness::{Process, Running};
use crate::{config::shared, error::Error};

/// A role, as a row of the table.
pub struct Definition {
    /// The name on the command line.
    pub name: &'static str,
    /// The line in the list of commands.
    pub about: &'static str,
    /// The end of the help.
    pub examples: &'static str,
    /// Adds the flags of the role to a command.
    pub add_flags: fn(Command) -> Command,
    /// Reads the flags.
    pub read_flags: fn(&ArgMatches) -> Result<Box<dyn RoleConfig>, clap::Error>,
}

/// The flags of a role, without those of the admin server and of the log, which every process has once.
#[async_trait(?Send)]
pub trait RoleConfig: Any + fmt::Debug {
    /// The address on which the role listens.
    fn listen(&self) -> SocketAddr;

    /// Replaces this address.
    fn set_listen(&mut self, address: SocketAddr);

    /// Uses another `role` of the process, at this URL, in place of the one that a flag names.
    fn set_neighbour(&mut self, role: &str, url: &str) {
        _ = (role, url);
    }

    /// Refuses combinations that no single part can detect. The text names the flags. The role reports
    /// missing values when it starts.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    /// The stores and the key that the role needs. The doctor examines each kind once for all roles of a process.
    fn requirements(&self) -> Requirements<'_> {
        Requirements::default()
    }

    /// Lowers the memory budgets that clients can use up, see [`crate::limits::fit`].
    fn fit_memory(&mut self) {}

    /// How long requests are accepted after SIGTERM, unless the configuration sets it: the time in which load balancers and Kubernetes
    /// stop sending requests to the role.
    fn drain_delay(&self) -> Duration {
        Duration::ZERO
    }

    /// Reads the secrets, listens, opens the stores, and starts the parts. Other services may be unavailable, and stores of other
    /// processes: a role that needs them waits. The end of the process drops this future.
    ///
    /// # Errors
    /// When a value is missing or invalid, when the role cannot listen or use its files, or when a part cannot start.
    async fn start(self: Box<Self>, process: Process) -> Result<Box<dyn Running>, Error>;
}

/// The stores and the key that a role needs.
#[derive(Default)]
pub struct Requirements<'a> {
    /// Redis, and the key of signed identities.
    pub cluster: Option<&'a shared::Cluster>,
    /// The store of durable data.
    pub mongo: Option<&'a shared::Mongo>,
}

impl Definition {
    /// A role with the flags `C`.
    pub const fn new<C: RoleConfig + Args>(
        name: &'static str,
        about: &'static str,
        examples: &'static str,
    ) -> Self {
        Self { name, about, examples, add_flags: C::augment_args, read_flags: read::<C> }
    }
}

fn read<C: RoleConfig + FromArgMatches>(matches: &ArgMatches) -> Result<Box<dyn RoleConfig>, clap::Error> {
    Ok(Box::new(C::from_arg_matches(matches)?))
}
