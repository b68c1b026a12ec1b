//! Redis: whether it answers, and whether its settings keep data durable.

use std::collections::HashMap;

use remote::{Deployment, Location, Redis, redis};

use crate::{config::shared, doctor::Finding};

/// The oldest Redis major version that is tested.
const OLDEST_REDIS: u32 = 7;

/// The reply of Redis: its `INFO server`, and settings by name.
type Settings = (String, HashMap<String, String>);

/// What a role does with Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Finds sessions.
    FindSessions,
    /// Opens and closes sessions, and counts failed logins.
    OpenSessions,
    /// Reads the table of nodes.
    ReadNodes,
    /// Holds a lease, writes the stream and stores recovery sessions.
    Chat,
}

/// Checks that Redis answers, that its settings do not lose sessions, and that it accepts what the roles do with it.
pub async fn examine(config: &shared::Redis, deployment: &Deployment, uses: &[Use]) -> Vec<Finding> {
    let url = match config.url() {
        Ok(url) => url,
        Err(text) => return vec![Finding::error("Redis", text)],
    };
    let redis = match Redis::new(url.reveal(), 1) {
        Ok(redis) => redis,
        Err(error) => {
            return vec![Finding::error("Redis", url.refused(&error))];
        }
    };
    let asked = redis.ask(async |mut redis| {
        let info: String = redis::cmd("INFO").arg("server").query_async(&mut redis).await?;
        let mut settings = HashMap::new();
        for name in ["appendonly", "appendfsync", "maxmemory", "maxmemory-policy"] {
            // An ACL can forbid the command, and managed services rename it.
            let setting = redis::cmd("CONFIG").arg("GET").arg(name).query_async(&mut redis).await;
            settings.extend(setting.unwrap_or_else(|_| HashMap::<String, String>::new()));
        }
        Ok((info, settings))
    });
    match asked.await {
        Ok(settings) => {
            let mut findings = examine_settings(&settings);
            let mut refusals = Vec::new();
            for role in uses {
                refusals.extend(refusals_of(*role, &Location::new(url.reveal(), deployment)).await);
            }
            // Roles share some commands.
            refusals.sort();
            refusals.dedup();
            findings.extend(refusals.into_iter().map(|text| Finding::error("Redis", text)));
            findings
        }
        Err(error) => vec![Finding::error(
            "Redis",
            format!("{}; start it, or correct {} and its password", error.not_ready_reason(), url.flag()),
        )],
    }
}

/// What Redis refuses, as phrases that follow its name.
async fn refusals_of(role: Use, at: &Location) -> Vec<String> {
    // The address was read before.
    match role {
        Use::FindSessions | Use::OpenSessions => Vec::new(),
        Use::ReadNodes => cluster::refusal(at.clone()).await.ok().flatten().into_iter().collect(),
        Use::Chat => chat::Redis::refusals(at.clone()).await.unwrap_or_default(),
    }
}

fn examine_settings((info, settings): &Settings) -> Vec<Finding> {
    let mut findings = Vec::new();
    let version = remote::field(info, "redis_version");
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_some_and(|major| major < OLDEST_REDIS) {
        let text = format!(
            "version {version} is older than any that is tested; upgrade it to {OLDEST_REDIS} or later"
        );
        findings.push(Finding::warning("Redis", text));
    }
    let is = |name: &str, value: &str| settings.get(name).is_some_and(|set| set == value);
    if settings.is_empty() {
        let text = "its settings cannot be read (CONFIG GET is refused); check that appendonly is yes and appendfsync is always";
        findings.push(Finding::warning("Redis", text));
        return findings;
    }
    if !is("appendonly", "yes") || !is("appendfsync", "always") {
        let text = "a crash of Redis can log users out; set `appendonly yes` and `appendfsync always`";
        findings.push(Finding::warning("Redis", text));
    }
    if !is("maxmemory", "0") && !is("maxmemory-policy", "noeviction") {
        let text = "Redis may evict sessions when its memory is full; set `maxmemory-policy noeviction`";
        findings.push(Finding::error("Redis", text));
    }
    findings
}
