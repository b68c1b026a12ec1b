//! The lineage of a cluster's messages: the id of the current history. Every offset of a client contains the id of its history. A store
//! that was restored from a backup begins another history, so a client with an earlier offset reloads. The id is kept in the store of
//! messages. [`crate::broker::stream`] reads and ends it. Backend: [`mongo`].

#[cfg(feature = "mongodb")]
mod lost_members;
#[cfg(feature = "mongodb")]
mod lost_rooms;
#[cfg(feature = "mongodb")]
pub mod mongo;

use async_trait::async_trait;

use crate::Error;

/// The lineage of the messages. An id is 64 bits in lower-case hex.
#[async_trait]
pub trait Lineage: Send + Sync + 'static {
    /// The id of the current history. Begins a new history when the store itself shows that it was restored.
    ///
    /// # Errors
    /// [`Error::Store`] when the store does not answer.
    async fn current(&self) -> Result<String, Error>;

    /// Ends the history of the stream's epoch `epoch`. Returns the id of the next one. Further calls for the same epoch, by any process,
    /// change nothing.
    ///
    /// # Errors
    /// [`Error::Store`] when the store does not answer.
    async fn end(&self, epoch: &str) -> Result<String, Error>;
}
