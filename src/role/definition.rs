//! What a role defines. The command line, `run`, the doctor, the limits of the system and the start read the table of these definitions
//! ([`super::ROLES`]).

use std::{any::Any, fmt, net::SocketAddr};

use async_trait::async_trait;
use clap::{ArgMatches, Args, Command, FromArgMatches};

use super::harness::Role;
use crate::{
    admin::Opening,
    config::shared,
    doctor::{Environment, Finding},
    error::Error,
    limits::budgets::Budget,
    listener::reachable,
    storage::{StoreUrl, redis},
};

/// A role, as a row of the table.
pub struct Definition {
    /// The name on the command line.
    pub name: &'static str,
    /// The line in the list of commands.
    pub about: &'static str,
    /// The end of the help.
    pub examples: &'static str,
    /// Whether the role has an embedded store, which needs larger files than the other roles.
    pub has_embedded_store: bool,
    /// How it runs beside other roles. `None`: only alone.
    pub together: Option<Together>,
    /// Adds the flags of the role to a command.
    pub add_flags: fn(Command) -> Command,
    /// Reads the flags.
    pub read_flags: fn(&ArgMatches) -> Result<Box<dyn RoleConfig>, clap::Error>,
}

/// A role in a process with others (`godzilla run`).
pub struct Together {
    /// The line in the list of the values of `--roles`.
    pub about: &'static str,
    /// The flag of its address in such a process. `None` for the role that keeps `--listen`.
    pub listen: Option<OwnListen>,
    /// The roles that it uses. They are later rows of the table.
    pub services: &'static [Service],
}

/// The flag of an address in a process with several roles.
pub struct OwnListen {
    /// The flag and its variable, as `--echo-listen (GODZILLA_ECHO_LISTEN)`.
    pub name: &'static str,
    /// The heading in the help.
    pub heading: &'static str,
    /// The help.
    pub help: &'static str,
}

/// A role that another role uses: in the same process, or at the address in a flag.
pub struct Service {
    /// The name of the used role.
    pub role: &'static str,
    /// The id of the flag with its address.
    pub id: &'static str,
    /// The flag and the variable, for refusals.
    pub flag: &'static str,
}

/// The flags of a role, without those of the admin server and of the log, which every process has once.
#[async_trait(?Send)]
pub trait RoleConfig: Any + fmt::Debug {
    /// The address that `--listen` sets, or [`OwnListen`] in a process with several roles.
    fn listen(&self) -> SocketAddr;

    /// Replaces this address.
    fn set_listen(&mut self, address: SocketAddr);

    /// The further addresses, each with its flag and variable.
    fn further_listens(&self) -> Vec<(&'static str, SocketAddr)> {
        Vec::new()
    }

    /// Refuses combinations that no single part can detect, except addresses that collide. The text names the flags. The role reports
    /// missing values when it is opened.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    /// Refuses environment variables of other roles, where an operator expects an effect. `is_set` tests for a variable.
    fn check_variables(&self, is_set: &dyn Fn(&str) -> bool) -> Result<(), String> {
        _ = is_set;
        Ok(())
    }

    /// The stores and the key that the role needs. The doctor examines each kind once for all roles of a process.
    fn requirements(&self) -> Requirements<'_> {
        Requirements::default()
    }

    /// The memory budgets of the role, which clients can use up.
    fn budgets(&mut self) -> Vec<Budget<'_>> {
        Vec::new()
    }

    /// Whether the cookie of a login is always marked Secure.
    fn has_secure_cookies(&self) -> bool {
        false
    }

    /// The findings of the doctor that concern this role only.
    async fn examine(&self, environment: &Environment, neighbours: &Neighbours) -> Vec<Finding> {
        _ = (environment, neighbours);
        Vec::new()
    }

    /// Reads the secrets, listens, and opens the stores. Other services and stores may be unavailable.
    ///
    /// # Errors
    /// When a value is missing or invalid, or when the role cannot listen or use its files.
    async fn open(self: Box<Self>, context: Context<'_>) -> Result<Box<dyn Role>, Error>;
}

/// The stores and the key that a role needs.
#[derive(Default)]
pub struct Requirements<'a> {
    /// The key of signed identities.
    pub secret: Option<&'a shared::Secret>,
    /// Redis, and what the role does with it.
    pub redis: Option<(&'a shared::Redis, &'a [redis::Use])>,
    /// The names of keys and collections.
    pub deployment: Option<&'a shared::Deployment>,
    /// The store of durable data, or why its address cannot be read.
    pub store: Option<Result<StoreUrl, String>>,
}

/// The process in which a role is opened.
pub struct Context<'a> {
    /// The flag of the address of the role.
    pub listen_flag: &'static str,
    /// Reports what the role waits for.
    pub opening: Opening,
    /// The roles of the process. Those that this role uses have been opened.
    pub neighbours: &'a Neighbours,
}

/// The roles of a process.
#[derive(Default)]
pub struct Neighbours {
    /// The names of all roles.
    pub names: Vec<&'static str>,
    /// The addresses of the opened ones.
    pub addresses: Vec<(&'static str, SocketAddr)>,
    /// Whether one of them always marks the cookie of a login Secure.
    pub has_secure_cookies: bool,
}

impl Definition {
    /// A role with the flags `C`, which runs only alone.
    pub const fn new<C: RoleConfig + Args>(
        name: &'static str,
        about: &'static str,
        examples: &'static str,
    ) -> Self {
        Self {
            name,
            about,
            examples,
            has_embedded_store: false,
            together: None,
            add_flags: C::augment_args,
            read_flags: read::<C>,
        }
    }

    /// With what the role has in a process with others.
    pub const fn together(mut self, together: Together) -> Self {
        self.together = Some(together);
        self
    }
}

fn read<C: RoleConfig + FromArgMatches>(matches: &ArgMatches) -> Result<Box<dyn RoleConfig>, clap::Error> {
    Ok(Box::new(C::from_arg_matches(matches)?))
}

impl OwnListen {
    /// The flag, with its dashes.
    pub fn flag(&self) -> &'static str {
        self.name.split_once(' ').map_or(self.name, |(flag, _)| flag)
    }
}

impl Neighbours {
    /// Whether the process has the role of this name.
    pub fn has(&self, role: &str) -> bool {
        self.names.contains(&role)
    }

    /// The URL of an opened role of the process, as reached from this machine.
    pub fn url(&self, role: &str) -> Option<String> {
        let address = self.addresses.iter().find(|(name, _)| *name == role);
        address.map(|(_, address)| format!("http://{}", reachable(*address)))
    }
}
