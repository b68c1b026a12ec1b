//! Lookup of registered users, so that only registered users are added to rooms. Implemented by the caller of [`crate::start`].

use async_trait::async_trait;
use proto::Username;

use crate::Error;

/// The registered users.
#[async_trait]
pub trait UserLookup: Send + Sync + 'static {
    /// Returns the user with this name, without regard to case, in the registered spelling. `None` when there is no such user.
    ///
    /// # Errors
    /// [`Error::Store`] when the lookup fails.
    async fn find(&self, name: &Username) -> Result<Option<Username>, Error>;
}
