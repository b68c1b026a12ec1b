//! The tool `migrate`: changes stored rooms to the form of this release, while no chat node runs.

use actix_web::rt::System;
use async_trait::async_trait;
use chat::migration::{Caller, Migration, MigrationError, Status};
use remote::Location;

use crate::{
    config::{Migrate, MigrationStep},
    error::Error,
    output,
    storage::{self, StoreUrl},
    telemetry,
};

/// What `--status` and `--plan` print when there is nothing to do, and `--up` as well.
const DONE: &str = "All rooms have the form of this release. Nothing was changed.";

/// The caller of a migration: lists nodes in Redis, and prints the progress.
struct Terminal {
    redis: Location,
}

#[async_trait]
impl Caller for Terminal {
    async fn running_nodes(&self) -> Result<Vec<String>, String> {
        cluster::running(self.redis.clone()).await
    }

    fn report(&self, migrated: u64, left: u64) {
        print(&format!("{migrated} rooms are migrated, {left} are left."));
    }
}

/// Migrates the rooms, or prints their state.
///
/// # Errors
/// When chat nodes run, a room cannot be migrated, or a store fails. With `--status`, when rooms must be migrated.
pub fn run(config: Migrate) -> Result<(), Error> {
    telemetry::logs(&config.telemetry)?;
    System::new().block_on(migrate(config))
}

async fn migrate(config: Migrate) -> Result<(), Error> {
    let url = StoreUrl::of_services(&config.mongo).map_err(Error::Config)?;
    let redis = storage::redis::location(&config.redis, &config.deployment)?;
    let migration = storage::open_migration(&url, &config.deployment.deployment).await?;
    let status = migration.status().await.map_err(failed)?;
    let Status { left, is_done: false } = status else {
        print(DONE);
        return Ok(());
    };
    match config.step.selected() {
        MigrationStep::Status => Err(Error::Unmigrated(format!(
            "{left} rooms have the form of an earlier release: stop all chat nodes, and run `godzilla migrate --up`"
        ))),
        MigrationStep::Plan => plan(left, &Terminal { redis }).await,
        MigrationStep::Up => migrate_rooms(&*migration, left, redis).await,
    }
}

async fn plan(left: u64, terminal: &Terminal) -> Result<(), Error> {
    let nodes = terminal.running_nodes().await.map_err(Error::Tool)?;
    print(&format!(
        "`godzilla migrate --up` stops the start of chat nodes of earlier releases, moves the members of {left} rooms to a collection of their \
         own, and records the form."
    ));
    if !nodes.is_empty() {
        print(&format!("It is refused while chat nodes run: {}.", nodes.join(", ")));
    }
    Ok(())
}

async fn migrate_rooms(migration: &dyn Migration, left: u64, redis: Location) -> Result<(), Error> {
    print(&format!(
        "{left} rooms are migrated: their members move to a collection of their own. This can be interrupted and started again."
    ));
    let migrated = migration.migrate(&Terminal { redis }).await.map_err(failed)?;
    print(&format!("{migrated} rooms were migrated. Start the chat nodes of this release."));
    Ok(())
}

/// Prints a line. A standard output that cannot be written does not end a migration.
fn print(line: &str) {
    if let Err(error) = output::show(format!("{line}\n")) {
        tracing::warn!(%error, line, "standard output cannot be written");
    }
}

fn failed(error: MigrationError) -> Error {
    Error::Tool(error.to_string())
}
