//! References to names in other services. A name that another service refers to is not given to another user, even if the store of
//! users lacks the name, for example because the store was restored to an older state. Implemented by the caller of
//! [`Accounts::new`](crate::Accounts::new).

use async_trait::async_trait;
use proto::Username;

/// The references cannot be read. Contains the cause.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UnreadableReferences(pub String);

/// The references to names. A service refers only to names of registered users, and users are never deleted. So a reference to a name
/// without a user belongs to a lost user, and cannot appear between the check and the registration.
#[async_trait]
pub trait NameReferences: Send + Sync + 'static {
    /// Whether another service refers to this name, without regard to case.
    ///
    /// # Errors
    /// When the references cannot be read. The name is then not registered.
    async fn is_referenced(&self, name: &Username) -> Result<bool, UnreadableReferences>;
}
