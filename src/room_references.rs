//! References to names for accounts: the members of rooms.

use std::sync::Arc;

use accounts::{NameReferences, UnreadableReferences};
use async_trait::async_trait;
use chat::directory::Directory;
use proto::Username;

/// The names of members in a directory. MongoDB and SQLite have an index on members, and no index on the authors of messages: those are
/// compared at the start of `serve` ([`crate::stores`]).
pub struct RoomReferences(pub Arc<dyn Directory>);

#[async_trait]
impl NameReferences for RoomReferences {
    async fn is_referenced(&self, name: &Username) -> Result<bool, UnreadableReferences> {
        self.0.has_member(name).await.map_err(|error| UnreadableReferences(error.to_string()))
    }
}
