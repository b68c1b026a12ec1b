//! Which chat nodes live and where: each announces itself in Redis under a lease ([`Announcement`]), and gateways watch ([`Watch`]).
//! Time is Redis's own, so that no two clocks have to agree.

mod announce;
mod scripts;
mod watch;

use std::time::Duration;

use deadpool_redis::{Connection, Pool, redis::RedisError};
use tokio::time::timeout;

pub use announce::Announcement;
pub use watch::Watch;

/// The hash of all nodes: name to `EXPIRES ADDRESS`, the former in milliseconds of Redis's clock.
const KEY: &str = "chat:nodes";

/// How long Redis may take for anything, connecting included.
const DEADLINE: Duration = Duration::from_millis(250);

/// Connections to Redis at most: one question at a time, and one more while a late one is given up.
const CONNECTIONS: usize = 2;

/// Why Redis did not answer. Never holds its address, which may hold a password.
#[derive(Debug, thiserror::Error)]
enum Unanswered {
    #[error("no connection: {0}")]
    Connection(#[from] deadpool_redis::PoolError),
    #[error(transparent)]
    Redis(#[from] RedisError),
    #[error("no answer in time")]
    Late,
}

/// The way to the table of nodes.
#[derive(Clone)]
struct Table(Pool);

impl Table {
    /// The table in the Redis at `url`, which need not be there yet.
    ///
    /// # Errors
    /// Names the flag and what is expected, never the address.
    fn new(url: &str) -> Result<Self, String> {
        let refused = "the value of --redis-url (GODZILLA_REDIS_URL) is refused: expected an address such as \
                       redis://127.0.0.1:6379/0";
        let builder = deadpool_redis::Config::from_url(url).builder().map_err(|_| refused)?;
        let pool = builder.max_size(CONNECTIONS).build().map_err(|_| refused)?;
        Ok(Self(pool))
    }

    /// Asks Redis something, within the deadline.
    async fn ask<T>(
        &self,
        question: impl AsyncFnOnce(Connection) -> Result<T, RedisError>,
    ) -> Result<T, Unanswered> {
        let answer = async { Ok(question(self.0.get().await?).await?) };
        timeout(DEADLINE, answer).await.map_err(|_| Unanswered::Late)?
    }
}

#[cfg(test)]
mod tests;
