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
    /// Checks that the store of users was not replaced by another one. In the other store the names of lost users would be free.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the store was replaced, or when that cannot be determined. No user may then be registered.
    async fn check_collection(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Stores a new user unless the name is taken. Of two concurrent calls exactly one returns [`Creation::Created`].
    async fn create(&self, username: &Username, hash: &str) -> Result<Creation, Error>;

    /// Finds the user with this [`Username::key`].
    async fn find(&self, key: &str) -> Result<Option<User>, Error>;

    /// Replaces the hash `old` with `new`. Does nothing when the user has another hash.
    async fn renew(&self, key: &str, old: &str, new: &str) -> Result<(), Error>;

    /// The highest cost of all stored bcrypt hashes, 0 to 99; `None` without a hash. Reads all users.
    async fn highest_cost(&self) -> Result<Option<u32>, Error>;

    /// Whether the store contains no user. Sample data is added to empty stores only.
    async fn is_empty(&self) -> Result<bool, Error>;
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User").field("username", &self.username).finish_non_exhaustive()
    }
}
