//! Who is registered. Implemented by [`sqlite`] and [`mongo`], called by `people`.

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod mongo;
pub mod sqlite;

use std::fmt;

use async_trait::async_trait;
use proto::Username;

pub use mongo::MongoUsers;
pub use sqlite::SqliteUsers;

use crate::Error;

/// A registered user.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// The name in the spelling it was registered with.
    pub username: Username,
    /// The bcrypt hash of the password, as stored: damaged ones are for the one who verifies to find.
    pub hash: String,
}

/// What became of a registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Creation {
    /// The user is stored.
    Created,
    /// Somebody has the name, in some case of its letters; nothing was changed.
    Exists,
}

/// The store of users. A name is one user in any case of its letters ([`Username::key`]).
#[async_trait]
pub trait Users: Send + Sync + 'static {
    /// Stores a new user, unless the name is taken. Of two at once exactly one is [`Creation::Created`].
    async fn create(&self, username: &Username, hash: &str) -> Result<Creation, Error>;

    /// The user of this [`Username::key`].
    async fn find(&self, key: &str) -> Result<Option<User>, Error>;

    /// Stores the hash `new` in place of `old`, which has another cost. Does nothing when the user has another hash by now.
    async fn renew(&self, key: &str, old: &str, new: &str) -> Result<(), Error>;

    /// The highest cost of a stored bcrypt hash, 0 to 99; none when there is no hash. Reads all users.
    async fn highest_cost(&self) -> Result<Option<u32>, Error>;

    /// Whether nobody is registered: sample data goes into no other store.
    async fn is_empty(&self) -> Result<bool, Error>;
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User").field("username", &self.username).finish_non_exhaustive()
    }
}
