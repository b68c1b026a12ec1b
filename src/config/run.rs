//! The flags of `run`: the union of the flags of all roles, and of each role beside the gateway its own address. The configuration
//! of each role is read from them as the role alone reads it.

use std::{collections::BTreeSet, ffi::OsString, net::SocketAddr};

use clap::{
    Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, ValueEnum, builder::EnumValueParser,
    parser::ValueSource,
};

use super::{ADMIN, Accounts, Chat, Gateway, LISTEN, Presence, check_apart, check_limits};
use crate::{admin, telemetry};

/// A role that can run beside others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum RoleName {
    /// The only role that clients reach.
    Gateway,
    /// Register, login, logout and me.
    Accounts,
    /// A chat node.
    Chat,
    /// Who is online.
    Presence,
}

/// Configuration of `run`: that of each role of the set.
#[derive(Debug, Clone)]
pub struct Run {
    /// `None` when the role is not in the set, as for the other roles.
    pub gateway: Option<Gateway>,
    pub accounts: Option<Accounts>,
    pub chat: Option<Chat>,
    pub presence: Option<Presence>,
    /// Operator listener, one for all roles.
    pub admin: admin::Config,
    /// Logs of all roles.
    pub telemetry: telemetry::Config,
    /// Flags that contradict the set of roles. Each text names the flag and the remedy.
    conflicts: Vec<String>,
    /// Given flags that no role of the set has.
    unused: Vec<String>,
}

/// The address of a role beside the gateway: the flag, the variable, the id and the heading.
struct OwnListen {
    role: RoleName,
    id: &'static str,
    flag: &'static str,
    variable: &'static str,
    heading: &'static str,
    help: &'static str,
}

const OWN_LISTENS: [OwnListen; 3] = [
    OwnListen {
        role: RoleName::Accounts,
        id: "accounts_listen",
        flag: "accounts-listen",
        variable: "GODZILLA_ACCOUNTS_LISTEN",
        heading: "Accounts",
        help: "Where accounts listens (plain HTTP, for gateways: a private network only)",
    },
    OwnListen {
        role: RoleName::Chat,
        id: "chat_listen",
        flag: "chat-listen",
        variable: "GODZILLA_CHAT_LISTEN",
        heading: "Chat",
        help: "Where the chat node listens (plain HTTP, for gateways: a private network only)",
    },
    OwnListen {
        role: RoleName::Presence,
        id: "presence_listen",
        flag: "presence-listen",
        variable: "GODZILLA_PRESENCE_LISTEN",
        heading: "Presence",
        help: "Where presence listens (gRPC, plain text, and every client that reaches it can report users as online: a private \
               network only)",
    },
];

impl OwnListen {
    /// The argument, with the default of the role alone.
    fn arg(&self) -> Arg {
        let default = self.role.args().into_iter().find(|arg| arg.get_id() == "listen");
        let default = default.map(|arg| arg.get_default_values().to_vec()).unwrap_or_default();
        Arg::new(self.id)
            .long(self.flag)
            .env(self.variable)
            .value_name("IP:PORT")
            .default_values(default)
            .value_parser(proto::address::listen)
            .help_heading(self.heading)
            .help(self.help)
    }

    fn name(&self) -> String {
        format!("--{} ({})", self.flag, self.variable)
    }
}

impl RoleName {
    const ALL: [Self; 4] = [Self::Gateway, Self::Accounts, Self::Chat, Self::Presence];

    /// The arguments of the role alone.
    fn args(self) -> Vec<Arg> {
        let command = Command::new("role");
        let command = match self {
            Self::Gateway => Gateway::augment_args(command),
            Self::Accounts => Accounts::augment_args(command),
            Self::Chat => Chat::augment_args(command),
            Self::Presence => Presence::augment_args(command),
        };
        command.get_arguments().cloned().collect()
    }

    /// The role's name on the command line.
    fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Accounts => "accounts",
            Self::Chat => "chat",
            Self::Presence => "presence",
        }
    }
}

impl Args for Run {
    fn augment_args(command: Command) -> Command {
        let roles = Arg::new("roles")
            .long("roles")
            .env("GODZILLA_ROLES")
            .value_name("ROLE")
            .value_delimiter(',')
            .value_parser(EnumValueParser::<RoleName>::new())
            .action(ArgAction::Append)
            .required(true)
            .help_heading("Roles")
            .help("Roles of this process, separated by commas");
        let mut args = vec![roles];
        for role in RoleName::ALL {
            args.extend(OWN_LISTENS.iter().filter(|own| own.role == role).map(OwnListen::arg));
            for arg in role.args() {
                if !args.iter().any(|other| other.get_id() == arg.get_id()) {
                    args.push(arg);
                }
            }
        }
        command.args(args)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Run {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let roles: BTreeSet<RoleName> = matches.get_many("roles").into_iter().flatten().copied().collect();
        let has = |role| roles.contains(&role);
        let address = |id: &str| matches.get_one::<SocketAddr>(id).copied();
        let mut this = Self {
            gateway: has(RoleName::Gateway).then(|| Gateway::from_arg_matches(matches)).transpose()?,
            accounts: has(RoleName::Accounts).then(|| Accounts::from_arg_matches(matches)).transpose()?,
            chat: has(RoleName::Chat).then(|| Chat::from_arg_matches(matches)).transpose()?,
            presence: has(RoleName::Presence).then(|| Presence::from_arg_matches(matches)).transpose()?,
            admin: admin::Config::from_arg_matches(matches)?,
            telemetry: telemetry::Config::from_arg_matches(matches)?,
            conflicts: conflicts(matches, &roles),
            unused: unused(matches, &roles),
        };
        let own = |role: RoleName| {
            let own = OWN_LISTENS.iter().find(|own| own.role == role);
            let is_alone = roles.len() == 1 && is_given(matches, "listen");
            if is_alone { address("listen") } else { own.and_then(|own| address(own.id)) }
        };
        let set = |listen: Option<&mut SocketAddr>, role| {
            if let (Some(listen), Some(own)) = (listen, own(role)) {
                *listen = own;
            }
        };
        set(this.accounts.as_mut().map(|config| &mut config.listen), RoleName::Accounts);
        set(this.chat.as_mut().map(|config| &mut config.listen), RoleName::Chat);
        set(this.presence.as_mut().map(|config| &mut config.listen), RoleName::Presence);
        Ok(this)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Whether a flag or its variable is given.
fn is_given(matches: &ArgMatches, id: &str) -> bool {
    matches.value_source(id).is_some_and(|source| source != ValueSource::DefaultValue)
}

/// Given flags that contradict the set of roles.
fn conflicts(matches: &ArgMatches, roles: &BTreeSet<RoleName>) -> Vec<String> {
    let mut texts = Vec::new();
    let others: Vec<&OwnListen> = OWN_LISTENS.iter().filter(|own| roles.contains(&own.role)).collect();
    if is_given(matches, "listen") && !roles.contains(&RoleName::Gateway) {
        match others[..] {
            [own] if is_given(matches, own.id) => {
                texts.push(format!("{LISTEN} and {} both set the address of {}", own.name(), own.role.name()));
            }
            [_] => {}
            _ => texts.push(format!(
                "{LISTEN} sets the address of one role, and this process has several without a gateway; use {}",
                others.iter().map(|own| own.name()).collect::<Vec<_>>().join(", ")
            )),
        }
    }
    let inside = [
        ("accounts_url", "--accounts-url (GODZILLA_ACCOUNTS_URL)", RoleName::Accounts, RoleName::Gateway),
        ("presence_url", "--presence-url (GODZILLA_PRESENCE_URL)", RoleName::Presence, RoleName::Chat),
    ];
    for (id, flag, service, caller) in inside {
        if is_given(matches, id) && roles.contains(&service) && roles.contains(&caller) {
            texts.push(format!(
                "{flag} has no effect when {} and {} run in one process: {} uses the {} of this process. Remove the flag, or \
                 remove {} from --roles",
                caller.name(),
                service.name(),
                caller.name(),
                service.name(),
                service.name()
            ));
        }
    }
    texts
}

/// The arguments that no role of the set has.
fn args_of_others(roles: &BTreeSet<RoleName>) -> Vec<Arg> {
    let mut used: BTreeSet<String> =
        roles.iter().flat_map(|role| role.args()).map(|arg| arg.get_id().to_string()).collect();
    used.extend(OWN_LISTENS.iter().filter(|own| roles.contains(&own.role)).map(|own| own.id.to_owned()));
    used.insert("roles".to_owned());
    let all = Run::augment_args(Command::new("run"));
    all.get_arguments().filter(|arg| !used.contains(arg.get_id().as_str())).cloned().collect()
}

/// The flags on the command line that no role of the set has.
fn unused(matches: &ArgMatches, roles: &BTreeSet<RoleName>) -> Vec<String> {
    let is_given = |arg: &Arg| matches.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine);
    let others = args_of_others(roles).into_iter().filter(is_given);
    others.filter_map(|arg| arg.get_long().map(str::to_owned)).collect()
}

impl Run {
    /// Number of roles.
    pub fn roles(&self) -> usize {
        let roles =
            [self.gateway.is_some(), self.accounts.is_some(), self.chat.is_some(), self.presence.is_some()];
        roles.into_iter().filter(|is_there| *is_there).count()
    }

    /// The addresses of the roles, each with the name of its flag and its variable.
    pub fn addresses(&self) -> Vec<(&'static str, SocketAddr)> {
        let listen = [
            (LISTEN, self.gateway.as_ref().map(|config| config.gateway.listen)),
            (
                "--accounts-listen (GODZILLA_ACCOUNTS_LISTEN)",
                self.accounts.as_ref().map(|config| config.listen),
            ),
            ("--chat-listen (GODZILLA_CHAT_LISTEN)", self.chat.as_ref().map(|config| config.listen)),
            (
                "--presence-listen (GODZILLA_PRESENCE_LISTEN)",
                self.presence.as_ref().map(|config| config.listen),
            ),
        ];
        listen.into_iter().filter_map(|(flag, address)| Some((flag, address?))).collect()
    }

    /// The variables that only other roles than `roles` read. They are ignored, as by a role alone. Empty when a name is not
    /// that of a role.
    pub fn variables_of_others(roles: &[&str]) -> Vec<OsString> {
        let roles: Result<BTreeSet<_>, _> =
            roles.iter().map(|role| RoleName::from_str(role, false)).collect();
        let others = roles.map(|roles| args_of_others(&roles)).unwrap_or_default();
        others.iter().filter_map(|arg| arg.get_env().map(ToOwned::to_owned)).collect()
    }

    /// Refuses combinations that no single role can detect. The text names the flags. The roles report missing values.
    pub fn check(&self) -> Result<(), String> {
        if let Some(conflict) = self.conflicts.first() {
            return Err(conflict.clone());
        }
        if let Some(flag) = self.unused.first() {
            return Err(format!(
                "no role of --roles has the flag --{flag}; remove it, or add the role that has it"
            ));
        }
        check_apart(&[&self.addresses()[..], &[(ADMIN, self.admin.admin_listen)]].concat())?;
        self.chat.as_ref().map_or(Ok(()), |chat| check_limits(&chat.sockets, &chat.chat))
    }
}
