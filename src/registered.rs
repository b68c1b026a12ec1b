//! What chat asks of accounts in one process: whether somebody is registered.

use std::sync::Arc;

use accounts::{SqliteUsers, Users};
use async_trait::async_trait;
use proto::Username;

/// The users of the embedded store, for chat.
pub struct Registered(pub Arc<SqliteUsers>);

#[async_trait]
impl chat::People for Registered {
    async fn find(&self, name: &Username) -> Result<Option<Username>, chat::Error> {
        let found = self.0.find(&name.key()).await.map_err(|error| chat::Error::Store(error.to_string()))?;
        Ok(found.map(|user| user.username))
    }
}
