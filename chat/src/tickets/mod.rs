//! Who may come back: a ticket is made out at every connect and shown at a later one, so that a client goes on where it was
//! even when the process died in between. The guest's door writes and reads them. Backends: [`sqlite`], [`redis`].

#[cfg(test)]
mod conformance;
pub mod redis;
pub mod sqlite;

use async_trait::async_trait;
use proto::{Timestamp, Username};

use crate::Error;

/// How long a ticket is good: as long as the session that it was made out under can be.
pub const LIFETIME_MS: u64 = sessions::LIFETIME_SECONDS * 1000;

/// What a client that comes back is recognised by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// The secret that the client shows.
    pub pid: String,
    /// The socket id it had and gets again.
    pub sid: String,
    /// Who it was; nobody else can use the ticket.
    pub user: Username,
    /// Where the log was when it connected: where to go on when it has seen nothing since.
    pub since: u64,
    /// When it was made out.
    pub issued: Timestamp,
}

/// The store of tickets.
#[async_trait]
pub trait Tickets: Send + Sync + 'static {
    /// Keeps a ticket, and forgets those that are too old.
    async fn issue(&self, ticket: Ticket) -> Result<(), Error>;

    /// The ticket of this `pid`, if it was made out at or after `oldest`.
    async fn find(&self, pid: &str, oldest: Timestamp) -> Result<Option<Ticket>, Error>;
}
