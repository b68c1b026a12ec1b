//! The tool `doctor`: reads the configuration of a role from flags and environment as the role does, starts nothing,
//! and reports problems. Each finding is one line with its remedy.

mod addresses;
mod clients;
mod data;
mod environment;
mod machine;
#[cfg_attr(not(feature = "mongodb"), path = "doctor/without_mongodb.rs")]
mod mongo;
mod redis;

use std::fmt;

pub use self::environment::Environment;
use crate::{
    config::{Accounts, Chat, Gateway, Presence, Run, Serve, shared},
    error::Error,
    limits::Needs,
    output, shutdown,
};

/// The role whose configuration is checked.
#[derive(Debug, clap::Subcommand)]
pub enum Role {
    /// Check what `godzilla serve` would run with (the default when no role is given)
    Serve(Box<Serve>),
    /// Check what `godzilla gateway` would run with
    Gateway(Box<Gateway>),
    /// Check what `godzilla accounts` would run with
    Accounts(Box<Accounts>),
    /// Check what `godzilla chat` would run with
    Chat(Box<Chat>),
    /// Check what `godzilla presence` would run with
    Presence(Box<Presence>),
    /// Check what `godzilla run` would run with
    Run(Box<Run>),
}

/// A problem and its remedy.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    severity: Severity,
    /// The flag, file or part.
    subject: String,
    /// The problem, a semicolon, and the remedy.
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Severity {
    /// The role does not start or does not work.
    Error,
    /// The role works, perhaps not as intended.
    Warning,
}

impl Finding {
    fn error(subject: impl Into<String>, text: impl Into<String>) -> Self {
        Self { severity: Severity::Error, subject: subject.into(), text: text.into() }
    }

    fn warning(subject: impl Into<String>, text: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, subject: subject.into(), text: text.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        writeln!(f, "{severity}: {}: {}", self.subject, self.text)
    }
}

/// Prints the findings on standard output.
///
/// # Errors
/// When a finding is an error, or when standard output cannot be written.
pub fn run(role: &Role, environment: &Environment) -> Result<(), Error> {
    shutdown::run(async { show(&examine(role, environment).await) })
}

fn show(findings: &[Finding]) -> Result<(), Error> {
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
    let mut text: String = findings.iter().map(ToString::to_string).collect();
    if findings.is_empty() {
        text.push_str("no findings\n");
    }
    output::show(text).map_err(|error| Error::part("standard output cannot be written", error))?;
    if errors == 0 { Ok(()) } else { Err(Error::Findings(errors)) }
}

async fn examine(role: &Role, environment: &Environment) -> Vec<Finding> {
    let mut findings = machine::examine(needs(role));
    findings.extend(environment.examine());
    findings.extend(match role {
        Role::Serve(config) => environment.examine_port(config.gateway.listen),
        Role::Gateway(config) => environment.examine_port(config.gateway.listen),
        Role::Run(config) => {
            config.gateway.as_ref().and_then(|gateway| environment.examine_port(gateway.gateway.listen))
        }
        _ => None,
    });
    findings.extend(match role {
        Role::Serve(config) => serve(config),
        Role::Gateway(config) => gateway(config).await,
        Role::Accounts(config) => accounts(config).await,
        Role::Chat(config) => chat(config).await,
        Role::Presence(config) => presence(config),
        Role::Run(config) => run_of_roles(config).await,
    });
    findings
}

fn needs(role: &Role) -> Needs {
    let roles = if let Role::Run(config) = role { config.roles() } else { 1 };
    Needs { store: matches!(role, Role::Serve(_)), roles }
}

fn serve(config: &Serve) -> Vec<Finding> {
    let mut findings = refused(config.check());
    findings.extend(addresses::examine(&[
        ("--listen (GODZILLA_LISTEN)", config.gateway.listen),
        ("--presence-listen (GODZILLA_PRESENCE_LISTEN)", config.presence_listen),
    ]));
    findings.extend(addresses::examine_admin(config.admin.admin_listen));
    findings.extend(clients::examine(&config.gateway, config.accounts.cookie_secure));
    findings.extend(data::examine(&config.store.data_dir));
    findings
}

async fn gateway(config: &Gateway) -> Vec<Finding> {
    let mut findings = refused(config.check());
    findings.extend(addresses::examine(&[("--listen (GODZILLA_LISTEN)", config.gateway.listen)]));
    findings.extend(addresses::examine_admin(config.admin.admin_listen));
    findings.extend(clients::examine(&config.gateway, false));
    findings.extend(secret(&config.secret));
    findings.extend(redis::examine(&config.redis).await);
    findings.extend(accounts_service(config).await);
    findings
}

async fn accounts(config: &Accounts) -> Vec<Finding> {
    let mut findings = refused(config.check());
    findings.extend(addresses::examine(&[("--listen (GODZILLA_LISTEN)", config.listen)]));
    findings.extend(addresses::examine_admin(config.admin.admin_listen));
    findings.extend(secret(&config.secret));
    findings.extend(redis::examine(&config.redis).await);
    findings.extend(mongo::examine(&config.mongo).await);
    findings
}

async fn chat(config: &Chat) -> Vec<Finding> {
    let mut findings = refused(config.check());
    findings.extend(addresses::examine(&[("--listen (GODZILLA_LISTEN)", config.listen)]));
    findings.extend(addresses::examine_admin(config.admin.admin_listen));
    findings.extend(addresses::examine_advertised(config).await);
    findings.extend(secret(&config.secret));
    findings.extend(redis::examine(&config.redis).await);
    findings.extend(mongo::examine(&config.mongo).await);
    findings.extend(presence_service(config).await);
    findings
}

fn presence(config: &Presence) -> Vec<Finding> {
    let mut findings = refused(config.check());
    findings.extend(addresses::examine(&[("--listen (GODZILLA_LISTEN)", config.listen)]));
    findings.extend(addresses::examine_admin(config.admin.admin_listen));
    findings
}

/// Examines what the roles of `run` share once. Services of the same process are not examined: they do not run yet.
async fn run_of_roles(config: &Run) -> Vec<Finding> {
    let mut findings = refused(config.check());
    findings.extend(addresses::examine(&config.addresses()));
    findings.extend(addresses::examine_admin(config.admin.admin_listen));
    let (gateway, accounts, chat) = (&config.gateway, &config.accounts, &config.chat);
    let key = gateway.as_ref().map(|config| &config.secret);
    let key =
        key.or(accounts.as_ref().map(|config| &config.secret)).or(chat.as_ref().map(|config| &config.secret));
    findings.extend(key.and_then(secret));
    let redis = gateway.as_ref().map(|config| &config.redis);
    let redis =
        redis.or(accounts.as_ref().map(|config| &config.redis)).or(chat.as_ref().map(|config| &config.redis));
    if let Some(redis) = redis {
        findings.extend(redis::examine(redis).await);
    }
    let mongo = accounts.as_ref().map(|config| &config.mongo).or(chat.as_ref().map(|config| &config.mongo));
    if let Some(mongo) = mongo {
        findings.extend(mongo::examine(mongo).await);
    }
    if let Some(gateway) = gateway {
        let cookie_secure = accounts.as_ref().is_some_and(|config| config.accounts.cookie_secure);
        findings.extend(clients::examine(&gateway.gateway, cookie_secure));
        if accounts.is_none() {
            findings.extend(accounts_service(gateway).await);
        }
    }
    if let Some(chat) = chat {
        findings.extend(addresses::examine_advertised(chat).await);
        if config.presence.is_none() {
            findings.extend(presence_service(chat).await);
        }
    }
    findings
}

async fn accounts_service(config: &Gateway) -> Option<Finding> {
    match config.accounts() {
        Ok(url) => {
            addresses::examine_service("--accounts-url (GODZILLA_ACCOUNTS_URL)", &url.to_string()).await
        }
        Err(text) => Some(Finding::error("accounts", text)),
    }
}

async fn presence_service(config: &Chat) -> Option<Finding> {
    addresses::examine_service("--presence-url (GODZILLA_PRESENCE_URL)", &config.chat.presence_url).await
}

/// The error that the role itself would report.
fn refused(checked: Result<(), String>) -> Vec<Finding> {
    checked.err().map(|text| Finding::error("configuration", text)).into_iter().collect()
}

fn secret(secret: &shared::Secret) -> Option<Finding> {
    secret.key().err().map(|text| Finding::error("secret", text))
}
