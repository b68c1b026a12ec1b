//! Redis and MongoDB: whether they answer, and whether their settings keep data durable.

use std::collections::HashMap;

use mongodb::bson::doc;
use remote::{Deployment, Redis, mongo::answered, redis};

use super::Finding;
use crate::{config::shared, mongo};

/// The oldest Redis major version that is tested.
const OLDEST_REDIS: u32 = 7;

/// The oldest MongoDB major version that is tested.
const OLDEST_MONGO: i32 = 6;

/// The reply of Redis: its `INFO server`, and settings by name.
type Settings = (String, HashMap<String, String>);

/// Checks that Redis answers and that its settings do not lose sessions.
pub async fn examine_redis(config: &shared::Redis) -> Vec<Finding> {
    let url = match config.url() {
        Ok(url) => url,
        Err(text) => return vec![Finding::error("Redis", text)],
    };
    let redis = match Redis::new(url.reveal(), 1) {
        Ok(redis) => redis,
        Err(error) => {
            return vec![Finding::error("--redis-url (GODZILLA_REDIS_URL)", format!("refused: {error}"))];
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
        Ok(settings) => examine_settings(&settings),
        Err(error) => vec![Finding::error(
            "Redis",
            format!(
                "{}; start it, or correct --redis-url (GODZILLA_REDIS_URL) and its password",
                error.not_ready_reason()
            ),
        )],
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

/// Checks that MongoDB answers and is a replica set.
pub async fn examine_mongo(config: &shared::Mongo) -> Vec<Finding> {
    let uri = match config.uri() {
        Ok(uri) => uri,
        Err(text) => return vec![Finding::error("MongoDB", text)],
    };
    // Rights are granted per database, so the names of the deployment's collections do not matter.
    let database = match mongo::store_once(uri.reveal(), &Deployment::default()).await {
        Ok(store) => store.database,
        Err(mongo::Failure::Address(error)) => return vec![Finding::error("MongoDB", error.to_string())],
        Err(mongo::Failure::Dns(problem)) => return vec![Finding::error("MongoDB", problem)],
    };
    let mut findings = Vec::new();
    match answered(database.run_command(doc! { "hello": 1 })).await {
        Ok(hello) if hello.get_str("setName").is_err() => findings.push(Finding::error(
            "MongoDB",
            "is not a replica set, so that writes cannot be acknowledged by a majority; start mongod with --replSet and call rs.initiate()",
        )),
        Ok(_) => {}
        Err(error) => {
            let text = format!(
                "{}; start it, or correct --mongo-uri (GODZILLA_MONGO_URI): hosts, password, replicaSet",
                error.not_ready_reason()
            );
            return vec![Finding::error("MongoDB", text)];
        }
    }
    // `find` needs the same rights as the role; `hello` needs no right.
    let users = database.collection::<mongodb::bson::Document>("users");
    if let Err(error) = answered(users.find_one(doc! { "_id": "" })).await {
        let text = format!(
            "{}; give the user of --mongo-uri the role readWrite on the database",
            error.not_ready_reason()
        );
        findings.push(Finding::error("MongoDB", text));
    }
    if let Ok(build) = answered(database.run_command(doc! { "buildInfo": 1 })).await {
        let major = build.get_array("versionArray").ok().and_then(|parts| parts.first()?.as_i32());
        if major.is_some_and(|major| major < OLDEST_MONGO) {
            let version = build.get_str("version").unwrap_or_default();
            let text = format!(
                "version {version} is older than any that is tested; upgrade it to {OLDEST_MONGO} or later"
            );
            findings.push(Finding::warning("MongoDB", text));
        }
    }
    findings
}
