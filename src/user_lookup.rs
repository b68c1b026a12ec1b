//! User lookup for chat: whether a user is registered.

use std::sync::Arc;

use accounts::Users;
use async_trait::async_trait;
use proto::Username;

/// Looks users up in the user store.
pub struct StoreUserLookup(pub Arc<dyn Users>);

#[async_trait]
impl chat::UserLookup for StoreUserLookup {
    async fn find(&self, name: &Username) -> Result<Option<Username>, chat::Error> {
        let found = self.0.find(&name.key()).await.map_err(|error| chat::Error::Store(error.to_string()))?;
        Ok(found.map(|user| user.username))
    }
}
