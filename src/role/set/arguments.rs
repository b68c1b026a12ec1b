//! The flags of a process: those of each role alone, and of `run` the union of the flags of all roles, and of each role beside the
//! gateway its own address. The configuration of each role is read from them as the role alone reads it.

use std::{collections::BTreeSet, ffi::OsString, net::SocketAddr};

use clap::{
    Arg, ArgAction, ArgMatches, Args, Command,
    builder::{PossibleValue, PossibleValuesParser},
    parser::ValueSource,
};

use super::super::{
    ROLES,
    definition::{Definition, OwnListen, Together},
};
use crate::{admin, config::LISTEN, telemetry};

/// The command of several roles.
pub const RUN: &str = "run";

const RUN_EXAMPLES: &str = "\
Examples:
  godzilla run --roles gateway,accounts,chat,presence --secret-file key --redis-url redis://127.0.0.1:6379/0 \\
    --mongo-uri 'mongodb://127.0.0.1/godzilla?replicaSet=rs0'
  godzilla run --roles gateway,chat --listen 0.0.0.0:8080 --chat-listen 10.0.0.6:3000 --accounts-url http://10.0.0.5:8081 \\
    --presence-url http://10.0.0.5:50051 --mongo-uri-file mongo --redis-url-file redis --secret-file key
  godzilla run --roles presence,accounts --accounts-listen 10.0.0.5:8081 --presence-listen 10.0.0.5:50051 \\
    --mongo-uri-file mongo --redis-url-file redis --secret-file key
The flags and variables are those of the roles. A flag that several roles have is given once. --listen is the address of the
gateway; each other role has its own. A gateway uses the accounts of its process, and a chat node the presence. There is one
admin address: /readyz is ready when all roles are, and names the parts of each.";

/// The rows of the table with roles of `run`.
fn rows() -> impl Iterator<Item = (&'static Definition, &'static Together)> {
    ROLES.iter().filter_map(|role| Some((role, role.together.as_ref()?)))
}

/// The command of one role.
pub fn alone(role: &Definition) -> Command {
    let command = telemetry::Config::augment_args(admin::Config::augment_args((role.add_flags)(
        Command::new(role.name),
    )));
    command.about(role.about).after_help(role.examples)
}

/// The command of several roles.
pub fn run() -> Command {
    let values = rows().map(|(role, together)| PossibleValue::new(role.name).help(together.about));
    let roles = Arg::new("roles")
        .long("roles")
        .env("GODZILLA_ROLES")
        .value_name("ROLE")
        .value_delimiter(',')
        .value_parser(PossibleValuesParser::new(values))
        .action(ArgAction::Append)
        .required(true)
        .help_heading("Roles")
        .help("Roles of this process, separated by commas");
    let mut args = vec![roles];
    for (role, together) in rows() {
        args.extend(together.listen.iter().map(|own| own.arg(role)));
        for arg in args_of(role) {
            if !args.iter().any(|other| other.get_id() == arg.get_id()) {
                args.push(arg);
            }
        }
    }
    let names: Vec<&str> = rows().map(|(role, _)| role.name).collect();
    let names = names.join(", ");
    let (others, last) = names.rsplit_once(", ").unwrap_or(("", &names));
    let about = format!("Run several of the roles {others} and {last} in one process");
    Command::new(RUN).args(args).about(about).after_help(RUN_EXAMPLES)
}

/// The arguments of the role alone.
fn args_of(role: &Definition) -> Vec<Arg> {
    alone(role).get_arguments().cloned().collect()
}

impl OwnListen {
    /// The flag without its dashes, which is also the id of the argument.
    fn id(&self) -> &'static str {
        self.flag().trim_start_matches('-')
    }

    fn variable(&self) -> &'static str {
        self.name.split_once('(').map_or("", |(_, variable)| variable.trim_end_matches(')'))
    }

    /// The argument, with the default of the role alone.
    fn arg(&self, role: &Definition) -> Arg {
        let default = args_of(role).into_iter().find(|arg| arg.get_id() == "listen");
        let default = default.map(|arg| arg.get_default_values().to_vec()).unwrap_or_default();
        Arg::new(self.id())
            .long(self.id())
            .env(self.variable())
            .value_name("IP:PORT")
            .default_values(default)
            .value_parser(proto::address::listen)
            .help_heading(self.heading)
            .help(self.help)
    }
}

/// The roles that `--roles` names, in the order of the table.
pub fn chosen(matches: &ArgMatches) -> Vec<&'static Definition> {
    let names: BTreeSet<&String> = matches.get_many("roles").into_iter().flatten().collect();
    let is_named = |role: &&Definition| names.iter().any(|name| *name == role.name);
    rows().map(|(role, _)| role).filter(is_named).collect()
}

/// The address of a role of `run`. `None` for the role that keeps `--listen`.
pub fn own_listen(role: &Definition, roles: &[&Definition], matches: &ArgMatches) -> Option<SocketAddr> {
    let own = own_listens(&[role]).pop()?;
    let is_alone = roles.len() == 1 && is_given(matches, "listen");
    let id = if is_alone { "listen" } else { own.id() };
    matches.get_one::<SocketAddr>(id).copied()
}

fn own_listens<'a>(roles: &[&'a Definition]) -> Vec<&'a OwnListen> {
    roles.iter().filter_map(|role| role.together.as_ref()?.listen.as_ref()).collect()
}

/// Whether a flag or its variable is given.
fn is_given(matches: &ArgMatches, id: &str) -> bool {
    matches.value_source(id).is_some_and(|source| source != ValueSource::DefaultValue)
}

/// The first given flag that contradicts the set of roles, or that no role of it has.
pub fn refusal(matches: &ArgMatches, roles: &[&Definition]) -> Option<String> {
    let unused = || {
        let flag = unused(matches, roles)?;
        Some(format!("no role of --roles has the flag --{flag}; remove it, or add the role that has it"))
    };
    conflict_of_listen(matches, roles).or_else(|| conflict_of_service(matches, roles)).or_else(unused)
}

/// `--listen` sets the address of the gateway, or of a role alone.
fn conflict_of_listen(matches: &ArgMatches, roles: &[&Definition]) -> Option<String> {
    let others = own_listens(roles);
    if !is_given(matches, "listen") || others.len() < roles.len() {
        return None;
    }
    match (&others[..], roles) {
        ([own], [role]) => is_given(matches, own.id())
            .then(|| format!("{LISTEN} and {} both set the address of {}", own.name, role.name)),
        _ => Some(format!(
            "{LISTEN} sets the address of one role, and this process has several without a gateway; use {}",
            others.iter().map(|own| own.name).collect::<Vec<_>>().join(", ")
        )),
    }
}

/// The address of a service is given that runs in this process.
fn conflict_of_service(matches: &ArgMatches, roles: &[&Definition]) -> Option<String> {
    let services = roles.iter().flat_map(|role| {
        let services = role.together.iter().flat_map(|together| together.services);
        services.map(|service| (role.name, service))
    });
    let is_here = |name: &str| roles.iter().any(|role| role.name == name);
    let mut conflicts =
        services.filter(|(_, service)| is_here(service.role) && is_given(matches, service.id));
    conflicts.next().map(|(caller, service)| {
        let (flag, service) = (service.flag, service.role);
        format!(
            "{flag} has no effect when {caller} and {service} run in one process: {caller} uses the {service} of this process. Remove \
             the flag, or remove {service} from --roles"
        )
    })
}

/// The arguments that no role of the set has.
fn args_of_others(roles: &[&Definition]) -> Vec<Arg> {
    let mut used: BTreeSet<String> =
        roles.iter().flat_map(|role| args_of(role)).map(|arg| arg.get_id().to_string()).collect();
    used.extend(own_listens(roles).iter().map(|own| own.id().to_owned()));
    used.insert("roles".to_owned());
    run().get_arguments().filter(|arg| !used.contains(arg.get_id().as_str())).cloned().collect()
}

/// The first flag on the command line that no role of the set has.
fn unused(matches: &ArgMatches, roles: &[&Definition]) -> Option<String> {
    let is_given = |arg: &Arg| matches.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine);
    let others = args_of_others(roles).into_iter().filter(is_given);
    others.filter_map(|arg| arg.get_long().map(str::to_owned)).next()
}

/// The variables that only other roles than `roles` read. Empty when a name is not that of a role.
pub fn variables_of_others(roles: &[&str]) -> Vec<OsString> {
    let row = |name: &&str| rows().map(|(role, _)| role).find(|role| role.name == *name);
    let roles: Option<Vec<_>> = roles.iter().map(row).collect();
    let others = roles.map(|roles| args_of_others(&roles)).unwrap_or_default();
    others.iter().filter_map(|arg| arg.get_env().map(ToOwned::to_owned)).collect()
}
