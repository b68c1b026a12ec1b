//! The roles of one process: one role alone, or several by `godzilla run`. The roles of `run` are those of the other commands: they use
//! the same stores, and the same protocols with each other and with roles of other processes.

mod arguments;

use std::{ffi::OsString, fmt, net::SocketAddr};

use clap::{ArgMatches, Command, FromArgMatches, Subcommand, error::ErrorKind, parser::ValueSource};
use tracing::Level;

use super::{
    ROLES,
    definition::{Context, Definition, Neighbours, OwnListen, RoleConfig},
    harness::{self, Role, Shared},
};
use crate::{
    admin,
    admin::Opening,
    config::{ADMIN, LISTEN, check_apart},
    doctor::{self, Environment, Finding},
    error::Error,
    limits::{
        self, Needs,
        budgets::{self, Budget, Fitted},
    },
    storage, telemetry,
};

/// The roles of a process with their flags.
#[derive(Debug)]
pub struct RoleSet {
    /// In the order of the table.
    roles: Vec<Member>,
    /// Whether the process is `run`, which names its roles.
    named: bool,
    admin: admin::Config,
    telemetry: telemetry::Config,
    /// The refusal of a flag that contradicts the set of roles, or that no role has. It names the remedy.
    refusal: Option<String>,
    /// The memory budgets without a flag, and the text about budgets that do not fit into the control group.
    memory: Fitted,
}

/// A role of the set.
struct Member {
    definition: &'static Definition,
    config: Box<dyn RoleConfig>,
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.config.fmt(f)
    }
}

impl Subcommand for RoleSet {
    fn augment_subcommands(command: Command) -> Command {
        command.subcommands(ROLES.iter().map(arguments::alone)).subcommand(arguments::run())
    }

    fn augment_subcommands_for_update(command: Command) -> Command {
        Self::augment_subcommands(command)
    }

    fn has_subcommand(name: &str) -> bool {
        name == arguments::RUN || definition(name).is_some()
    }
}

impl FromArgMatches for RoleSet {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        match matches.subcommand() {
            Some((arguments::RUN, matches)) => Self::read(&arguments::chosen(matches), true, matches),
            Some((name, matches)) => Self::read(definition(name).as_slice(), false, matches),
            None => Err(clap::Error::new(ErrorKind::MissingSubcommand)),
        }
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn definition(name: &str) -> Option<&'static Definition> {
    ROLES.iter().find(|role| role.name == name)
}

impl RoleSet {
    fn read(roles: &[&'static Definition], named: bool, matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut members = Vec::new();
        for definition in roles {
            let mut config = (definition.read_flags)(matches)?;
            if named && let Some(address) = arguments::own_listen(definition, roles, matches) {
                config.set_listen(address);
            }
            members.push(Member { definition, config });
        }
        let is_default = |id: &str| {
            !matches!(matches.value_source(id), Some(ValueSource::CommandLine | ValueSource::EnvVariable))
        };
        let mut all: Vec<Budget<'_>> = members.iter_mut().flat_map(|role| role.config.budgets()).collect();
        let memory = budgets::fit(&mut all, limits::memory(), &is_default);
        Ok(Self {
            roles: members,
            named,
            admin: admin::Config::from_arg_matches(matches)?,
            telemetry: telemetry::Config::from_arg_matches(matches)?,
            memory,
            refusal: if named { arguments::refusal(matches, roles) } else { None },
        })
    }

    /// The flags of a role of the set.
    #[cfg(test)]
    pub fn config<C: RoleConfig>(&self) -> Option<&C> {
        self.roles.iter().find_map(|role| (&*role.config as &dyn std::any::Any).downcast_ref())
    }

    /// What the process needs of the system.
    pub fn needs(&self) -> Needs {
        let store = self.roles.iter().any(|role| role.definition.has_embedded_store);
        Needs { store, roles: self.roles.len() }
    }

    /// The addresses of the roles, each with the name of its flag and its variable.
    pub fn addresses(&self) -> Vec<(&'static str, SocketAddr)> {
        let of = |role: &Member| {
            let flag = match own_listen(role).filter(|_| self.named) {
                Some(own) => own.name,
                None => LISTEN,
            };
            [vec![(flag, role.config.listen())], role.config.further_listens()].concat()
        };
        self.roles.iter().flat_map(of).collect()
    }

    /// The variables that only other roles than `roles` read. They are ignored, as by a role alone. Empty when a name is not that of a
    /// role.
    pub fn variables_of_others(roles: &[&str]) -> Vec<OsString> {
        arguments::variables_of_others(roles)
    }

    /// Refuses combinations that no single part can detect. The text names the flags. The roles report missing values.
    pub fn check(&self) -> Result<(), String> {
        if let Some(refusal) = &self.refusal {
            return Err(refusal.clone());
        }
        check_apart(&[&self.addresses()[..], &[(ADMIN, self.admin.admin_listen)]].concat())?;
        self.roles.iter().try_for_each(|role| role.config.check())
    }

    /// Refuses environment variables that have no effect in these roles.
    pub fn check_variables(&self, is_set: &dyn Fn(&str) -> bool) -> Result<(), String> {
        self.roles.iter().try_for_each(|role| role.config.check_variables(is_set))
    }

    fn neighbours(&self) -> Neighbours {
        Neighbours {
            names: self.roles.iter().map(|role| role.definition.name).collect(),
            addresses: Vec::new(),
            has_secure_cookies: self.roles.iter().any(|role| role.config.has_secure_cookies()),
        }
    }

    /// The findings of the doctor. What roles share is examined once. Services of the same process are not examined: they do not run
    /// yet.
    pub async fn examine(&self, environment: &Environment) -> Vec<Finding> {
        let mut findings = doctor::machine::examine(self.needs());
        findings.extend(self.memory.shortage.clone().map(|text| Finding::warning("memory", text)));
        findings.extend(environment.examine());
        findings.extend(self.check().err().map(|text| Finding::error("configuration", text)));
        findings.extend(doctor::addresses::examine(&self.addresses()));
        findings.extend(doctor::addresses::examine_admin(self.admin.admin_listen));
        let requirements = || self.roles.iter().map(|role| role.config.requirements());
        if let Some(secret) = requirements().find_map(|needed| needed.secret) {
            findings.extend(secret.key().err().map(|text| Finding::error("secret", text)));
        }
        let deployment = requirements().find_map(|needed| needed.deployment);
        let deployment = deployment.map(|flags| flags.deployment.clone()).unwrap_or_default();
        if let Some(redis) = requirements().find_map(|needed| needed.redis) {
            let uses: Vec<_> = requirements()
                .filter_map(|needed| needed.redis)
                .flat_map(|(_, uses)| uses)
                .copied()
                .collect();
            findings.extend(storage::redis::examine(redis.0, &deployment, &uses).await);
        }
        match requirements().find_map(|needed| needed.store) {
            Some(Ok(url)) => findings.extend(storage::examine(&url, &deployment).await),
            Some(Err(text)) => findings.push(Finding::error("MongoDB", text)),
            None => {}
        }
        let neighbours = self.neighbours();
        for role in &self.roles {
            findings.extend(role.config.examine(environment, &neighbours).await);
        }
        findings
    }

    /// Runs the roles until a signal requests the end, then drains them.
    ///
    /// # Errors
    /// When a role cannot be opened or started, or a part ends unexpectedly.
    pub fn run(self) -> Result<(), Error> {
        if let Some(text) = &self.memory.shortage {
            telemetry::write_line(Level::WARN, text);
        }
        let shared = Shared {
            admin: self.admin.clone(),
            telemetry: self.telemetry.clone(),
            named: self.named,
            unfinished_requests: self.memory.unfinished_requests,
        };
        harness::run(shared, async |opening| self.open(opening).await)
    }

    /// Reports all stores and secrets that are missing or refused at once.
    fn check_required(&self) -> Result<(), String> {
        let requirements: Vec<_> = self.roles.iter().map(|role| role.config.requirements()).collect();
        let store = requirements.iter().find_map(|needed| needed.store.as_ref());
        let redis = requirements.iter().find_map(|needed| needed.redis);
        let secret = requirements.iter().find_map(|needed| needed.secret);
        let refusals = [
            store.and_then(|url| url.as_ref().err().cloned()),
            redis.and_then(|(redis, _)| redis.url().err()),
            secret.and_then(|secret| secret.key().err()),
        ];
        let refusals: Vec<String> = refusals.into_iter().flatten().collect();
        if refusals.is_empty() { Ok(()) } else { Err(refusals.join("\n  ")) }
    }

    /// Opens the roles in the reverse order of the table. The system may choose the port of a role. So a role
    /// whose port another role of this process needs is a later row, and is opened first.
    async fn open(self, opening: Opening) -> Result<Vec<Box<dyn Role>>, Error> {
        self.check_required().map_err(Error::Config)?;
        let mut neighbours = self.neighbours();
        let mut opened = Vec::new();
        for role in self.roles.into_iter().rev() {
            let listen_flag = match own_listen(&role).filter(|_| self.named) {
                Some(own) => own.flag(),
                None => "--listen",
            };
            let name = role.definition.name;
            let context = Context { listen_flag, opening: opening.of(name), neighbours: &neighbours };
            let role = role.config.open(context).await?;
            neighbours.addresses.push((name, role.address()));
            opened.push(role);
        }
        Ok(opened)
    }
}

fn own_listen(role: &Member) -> Option<&'static OwnListen> {
    role.definition.together.as_ref()?.listen.as_ref()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_table_of_roles_is_consistent() {
        let names: BTreeSet<_> = ROLES.iter().map(|role| role.name).collect();
        assert_eq!(names.len(), ROLES.len(), "two roles have one name");
        assert!(!names.contains(arguments::RUN));
        let together = || ROLES.iter().filter_map(|role| Some((role.name, role.together.as_ref()?)));
        let with_listen = together().filter(|(_, together)| together.listen.is_none());
        assert_eq!(with_listen.count(), 1, "one role of `run` keeps --listen");
        for own in together().filter_map(|(_, together)| together.listen.as_ref()) {
            let upper = own.flag().trim_start_matches('-').replace('-', "_").to_ascii_uppercase();
            assert_eq!(own.name, format!("{} (GODZILLA_{upper})", own.flag()));
        }
        for (at, role) in ROLES.iter().enumerate() {
            let args: Vec<_> = arguments::alone(role).get_arguments().cloned().collect();
            assert!(args.iter().any(|arg| arg.get_id() == "listen"), "{} has no --listen", role.name);
            for service in role.together.iter().flat_map(|together| together.services) {
                let later = &ROLES[at + 1..];
                assert!(
                    later.iter().any(|other| other.name == service.role),
                    "{} uses a later row",
                    role.name
                );
                let flag = args.iter().find(|arg| arg.get_id() == service.id).expect("the role has the flag");
                let (long, variable) = (flag.get_long().unwrap(), flag.get_env().unwrap().display());
                assert_eq!(service.flag, format!("--{long} ({variable})"));
            }
        }
    }
}
