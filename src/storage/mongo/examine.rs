//! MongoDB: whether it answers, is a replica set, and grants the rights that the roles need.

use mongodb::bson::doc;
use remote::{
    Deployment,
    cause::FORBIDS,
    mongo::{Store, answered, trials},
};

use super::{super::StoreUrl, connection, connection::Hosts};
use crate::doctor::Finding;

/// The oldest MongoDB major version that is tested.
const OLDEST_MONGO: i32 = 6;

/// Checks that MongoDB answers, is a replica set, and accepts what the roles do with the collections of `deployment`. Leaves no data.
pub async fn examine(url: &StoreUrl, deployment: &Deployment) -> Vec<Finding> {
    let store = match connection::store_once(url, deployment).await {
        Ok(store) => store,
        Err(connection::Failure::Address(error)) => {
            return vec![Finding::error("MongoDB", error.to_string())];
        }
        Err(connection::Failure::Dns(problem)) => return vec![Finding::error("MongoDB", problem)],
    };
    let (mut findings, database) = (Vec::new(), store.database.clone());
    match answered(database.run_command(doc! { "hello": 1 })).await {
        Ok(hello) if hello.get_str("setName").is_err() => findings.push(Finding::error(
            "MongoDB",
            "is not a replica set, so that writes cannot be acknowledged by a majority; start mongod with --replSet and call rs.initiate()",
        )),
        Ok(hello) if !hello.get_bool("isWritablePrimary").unwrap_or(false) => findings.push(Finding::error(
            "MongoDB",
            "the server of the address is not the primary and refuses writes; name all members and replicaSet= instead of directConnection=true",
        )),
        Ok(_) => findings.extend(examine_collections(&store, url).await),
        Err(error) => {
            let text = format!(
                "{}; start it, or correct {}: hosts, password, replicaSet",
                error.not_ready_reason(),
                url.flag
            );
            return vec![Finding::error("MongoDB", text)];
        }
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

/// Tries what the roles do with their collections.
async fn examine_collections(store: &Store, url: &StoreUrl) -> Vec<Finding> {
    // The collections of the roles set the trials of the store.
    drop(super::stores(store, Hosts::of(url)));
    let mut failures = trials::failures(store).await;
    for settings in super::settings(store) {
        let problem = settings.problem().await.filter(|problem| !failures.contains(problem));
        failures.extend(problem);
    }
    failures.into_iter().map(|failure| Finding::error("MongoDB", with_remedy(failure, url.flag))).collect()
}

/// The phrase of a failure, and a further remedy where the phrase needs one. `flag` sets the address.
fn with_remedy(failure: String, flag: &str) -> String {
    if failure.starts_with(FORBIDS) {
        format!("{failure}; give the user of {flag} the role readWrite on the database")
    } else if failure.contains("no disk space") {
        format!("{failure}; free space on its disk")
    } else {
        failure
    }
}
