//! The stores of durable data. `serve` opens [`EmbeddedStores`], which one process uses, and the roles accounts and chat open
//! [`SharedStores`], which many processes use. What Redis holds is in [`redis`].

#[cfg(feature = "mongodb")]
mod mongo;
pub mod redis;
mod shared;
pub mod sqlite;

use std::sync::Arc;

use accounts::Users;
use chat::{
    directory::Directory,
    history::{History, Journal},
};
use proto::signature::Key;
use sessions::SharedSessions;

pub use self::shared::{SharedStores, compare, mongodb_version, open_shared};
use crate::admin::Probe;

/// All stores of a process that shares no data with others.
pub struct EmbeddedStores {
    /// Users.
    pub users: Arc<dyn Users>,
    /// Login sessions.
    pub sessions: SharedSessions,
    /// Messages.
    pub history: Arc<dyn History>,
    /// The messages and changes in the order of the log.
    pub journal: Arc<dyn Journal>,
    /// Rooms and members.
    pub directory: Arc<dyn Directory>,
    /// The key of recovery tickets.
    pub ticket_key: Key,
    /// The checks of `/readyz`, by the name of the part.
    pub probes: Vec<(&'static str, Probe)>,
    /// Closes the stores, even while parts still have handles. Blocks for a bounded time.
    pub close: Box<dyn Fn() + Send>,
}
