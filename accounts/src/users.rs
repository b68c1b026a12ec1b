//! The store of registered users: the trait [`Users`] and its backends.

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
#[cfg(feature = "mongodb")]
pub mod mongo;
pub mod sqlite;

use std::fmt;

use async_trait::async_trait;
use proto::Username;

#[cfg(feature = "mongodb")]
pub use mongo::MongoUsers;
pub use sqlite::SqliteUsers;

use crate::Error;

/// A registered user.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// The name in the case of its registration.
    pub username: Username,
    /// The bcrypt hash of the password as stored. It is validated when a password is checked.
    pub hash: String,
}

/// Result of a registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Creation {
    /// The user is stored.
    Created,
    /// The name is taken; case is ignored. Nothing was changed.
    Exists,
}

/// The store of users. Names are unique by [`Username::key`].
#[async_trait]
pub trait Users: Send + Sync + 'static {
    /// Stores a new user unless the name is taken. Of two concurrent calls exactly one returns [`Creation::Created`].
    async fn create(&self, username: &Username, hash: &str) -> Result<Creation, Error>;

    /// Finds the user with this [`Username::key`].
    async fn find(&self, key: &str) -> Result<Option<User>, Error>;

    /// Replaces the hash `old` with `new`. Does nothing when the user has another hash.
    async fn renew(&self, key: &str, old: &str, new: &str) -> Result<(), Error>;

    /// Whether the store contains no user. Sample data is added to empty stores only.
    async fn is_empty(&self) -> Result<bool, Error>;
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User").field("username", &self.username).finish_non_exhaustive()
    }
}
