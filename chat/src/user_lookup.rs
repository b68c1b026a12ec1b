//! Who is registered, as far as chat must know: a room takes nobody who does not exist. Implemented by whoever starts the chat.

use async_trait::async_trait;
use proto::Username;

use crate::Error;

/// The registered users.
#[async_trait]
pub trait UserLookup: Send + Sync + 'static {
    /// The user of this name in any case of its letters, in the spelling it was registered with.
    ///
    /// # Errors
    /// [`Error::Store`] when nobody can say.
    async fn find(&self, name: &Username) -> Result<Option<Username>, Error>;
}
