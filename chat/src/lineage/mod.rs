//! Which history the messages of a cluster are of. Every position that a client holds carries the id of its history. A store that was
//! restored from a backup begins another one, so a client that comes with a position of before loads anew. StoredMessage in the store of
//! messages; read and ended by [`crate::broker::stream`]. Backend: [`mongo`].

pub mod mongo;

use async_trait::async_trait;

use crate::Error;

/// See the module. An id is 64 bits in lower-case hex.
#[async_trait]
pub trait Lineage: Send + Sync + 'static {
    /// The id of the present history. It is another one than before when the store shows by itself that it was restored.
    ///
    /// # Errors
    /// [`Error::Store`] when the store does not answer.
    async fn current(&self) -> Result<String, Error>;

    /// Ends the history that the log had in its epoch `epoch`, and answers with the id of the next one. Called again for the same
    /// epoch, by any process, it changes nothing.
    ///
    /// # Errors
    /// [`Error::Store`] when the store does not answer.
    async fn end(&self, epoch: &str) -> Result<String, Error>;
}
