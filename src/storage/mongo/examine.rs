//! MongoDB: whether it answers, is a replica set, and grants the rights that the roles need.

use mongodb::bson::doc;
use remote::{Deployment, mongo::answered};

use super::{super::StoreUrl, connection};
use crate::doctor::Finding;

/// The oldest MongoDB major version that is tested.
const OLDEST_MONGO: i32 = 6;

/// Checks that MongoDB answers and is a replica set.
pub async fn examine(url: &StoreUrl) -> Vec<Finding> {
    // Rights are granted per database, so the names of the deployment's collections do not matter.
    let database = match connection::store_once(url, &Deployment::default()).await {
        Ok(store) => store.database,
        Err(connection::Failure::Address(error)) => {
            return vec![Finding::error("MongoDB", error.to_string())];
        }
        Err(connection::Failure::Dns(problem)) => return vec![Finding::error("MongoDB", problem)],
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
                "{}; start it, or correct {}: hosts, password, replicaSet",
                error.not_ready_reason(),
                url.flag
            );
            return vec![Finding::error("MongoDB", text)];
        }
    }
    // `find` needs the same rights as the role; `hello` needs no right.
    let users = database.collection::<mongodb::bson::Document>("users");
    if let Err(error) = answered(users.find_one(doc! { "_id": "" })).await {
        let text = format!(
            "{}; give the user of {} the role readWrite on the database",
            error.not_ready_reason(),
            url.flag
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
