//! The migration of stored rooms to the form of this release. Backend: [`crate::directory::mongo`].

use async_trait::async_trait;

use crate::Error;

/// Whether the stored rooms have the form of this release, and the number of those that have not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Whether chat nodes of this release start.
    pub is_done: bool,
    /// The number of rooms in the form of an earlier release.
    pub left: u64,
}

/// A store whose rooms can be migrated.
#[async_trait]
pub trait Migration: Send + Sync {
    /// The state of the stored rooms.
    ///
    /// # Errors
    /// When the store does not answer, or is of a later release.
    async fn status(&self) -> Result<Status, MigrationError>;

    /// Migrates all rooms. Returns the number of migrated rooms. It can be interrupted at any time and started again.
    ///
    /// # Errors
    /// When chat nodes run, a room cannot be migrated, or the store fails. Rooms that were migrated stay migrated.
    async fn migrate(&self, caller: &dyn Caller) -> Result<u64, MigrationError>;
}

/// What a migration needs from its caller.
#[async_trait]
pub trait Caller: Send + Sync {
    /// The chat nodes that run, as texts for the operator. Called before and during the migration.
    ///
    /// # Errors
    /// When they cannot be listed, with the reason.
    async fn running_nodes(&self) -> Result<Vec<String>, String>;

    /// Reports the number of rooms that are migrated, and of those that are left.
    fn report(&self, migrated: u64, left: u64);
}

/// Why a migration has ended early.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// Chat nodes run.
    #[error("chat nodes run: {}; stop all of them, and run `godzilla migrate --up` again", .0.join(", "))]
    NodesRun(Vec<String>),
    /// The nodes cannot be listed.
    #[error("the running chat nodes cannot be listed: {0}")]
    Nodes(String),
    /// Rooms cannot be migrated.
    #[error(
        "{count} rooms cannot be migrated, for example {room}: {reason}; correct or delete its document in the collection `rooms`, and run \
         `godzilla migrate --up` again"
    )]
    Rooms {
        /// The number of rooms.
        count: u64,
        /// One of them.
        room: String,
        /// Its reason.
        reason: String,
    },
    /// The store is of a later release.
    #[error("the rooms have the form {0} of a later release: use that release")]
    Later(u64),
    /// The store failed.
    #[error("{0}")]
    Store(#[from] Error),
}
