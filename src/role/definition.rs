//! What a role defines. The command line, `run`, the doctor, the limits of the system and the start read the table of these definitions
//! ([`super::ROLES`]).

use std::{any::Any, fmt, net::SocketAddr};

use async_trait::async_trait;
use clap::{ArgMatches, Args, Command, FromArgMatches};

use super::harness::Role;
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
    /// missing values when it is opened.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    /// The stores and the key that the role needs. The doctor examines each kind once for all roles of a process.
    fn requirements(&self) -> Requirements<'_> {
        Requirements::default()
    }

    /// Lowers the memory budgets that clients can use up, see [`crate::limits::fit`].
    fn fit_memory(&mut self) {}

    /// Reads the secrets, listens, and opens the stores. Other services and stores may be unavailable.
    ///
    /// # Errors
    /// When a value is missing or invalid, or when the role cannot listen or use its files.
    async fn open(self: Box<Self>, context: Context) -> Result<Box<dyn Role>, Error>;
}

/// The stores and the key that a role needs.
#[derive(Default)]
pub struct Requirements<'a> {
    /// The key of signed identities.
    pub secret: Option<&'a shared::Secret>,
    /// Redis.
    pub redis: Option<&'a shared::Redis>,
    /// The store of durable data.
    pub mongo: Option<&'a shared::Mongo>,
}

/// The process in which a role is opened.
pub struct Context {
    /// The flag of the address of the role.
    pub listen_flag: &'static str,
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
