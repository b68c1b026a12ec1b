//! Clients of the Redis and the MongoDB that several processes share, with bounded times. Sessions, the event stream of a cluster and the
//! table of chat nodes each use a [`Redis`] of their own.
//!
//! A request to Redis first waits for a free connection, while other requests get responses, and then at most [`DEADLINE`] for its own.
//! After [`OUTAGE`] consecutive requests without a response, all waiting requests fail at once, and further ones fail without a wait until
//! the next response arrives: an outage takes no request longer than one deadline.

mod deployment;
#[cfg(feature = "mongodb")]
pub mod mongo;

use std::{sync::Arc, time::Duration};

use deadpool_redis::{
    Pool, PoolBuilder,
    redis::{AsyncCommands, Client, RedisError, aio::ConnectionLike},
};
use tokio::{
    sync::{Semaphore, SemaphorePermit, watch},
    time::{sleep, timeout},
};

pub use deadpool_redis::{Connection, Hook, HookError, PoolError, redis};
pub use deployment::{Deployment, Location, NotADeployment};

/// The maximum time of one request to Redis, including the connection setup.
pub const DEADLINE: Duration = Duration::from_millis(500);

/// The number of consecutive requests without a response that count as an outage.
const OUTAGE: u32 = 4;

/// The maximum time that a request waits for a free connection.
const MAX_WAIT: Duration = Duration::from_secs(3);

/// A pool of connections to one Redis. Cheap to clone; clones share the pool.
#[derive(Clone)]
pub struct Redis {
    pool: Pool,
    client: Client,
    deployment: Deployment,
    /// One permit per connection.
    permits: Arc<Semaphore>,
    /// The number of consecutive requests without a response.
    unanswered: watch::Sender<u32>,
}

/// The text is not an address of a Redis. Never contains it, because it may contain a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected an address such as redis://:password@127.0.0.1:6379/0, with % : @ / ? # in a user or password percent-encoded"
)]
pub struct NotAnAddress;

/// A failed request to Redis. Never contains the address, which may contain a password.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// No connection could be established.
    #[error("no connection: {0}")]
    Connection(#[from] PoolError),
    /// Redis returned an error reply, or the connection broke.
    #[error(transparent)]
    Redis(#[from] RedisError),
    /// No response arrived in time, to this request or to the requests before it.
    #[error("no answer in time")]
    Late,
}

/// Checks that this is an address of a Redis. Does not connect.
///
/// # Errors
/// When it is not of the form `redis://[user:password@]host[:port][/database]`.
pub fn check_redis_url(url: &str) -> Result<(), NotAnAddress> {
    // The parser ends the host at the first of these characters, which can be one of a password.
    let after_host =
        url.split_once("://").and_then(|(_, rest)| rest.find(['/', '?', '#']).map(|at| &rest[at..]));
    if after_host.is_some_and(|rest| rest.contains('@')) {
        return Err(NotAnAddress);
    }
    Client::open(url).map(drop).map_err(|_| NotAnAddress)
}

/// The `run_id` of the Redis process, which changes at every start.
///
/// # Errors
/// When Redis does not respond or returns an error reply.
pub async fn run(connection: &mut impl ConnectionLike) -> Result<String, RedisError> {
    let info: String = redis::cmd("INFO").arg("server").query_async(connection).await?;
    Ok(field(&info, "run_id"))
}

/// A field of a reply to `INFO`; an empty string when the reply does not contain the field.
pub fn field(info: &str, name: &str) -> String {
    let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.unwrap_or_default().trim().to_owned()
}

impl Redis {
    /// The Redis at `at`, used over at most `connections` connections. It need not be reachable yet.
    ///
    /// # Errors
    /// When the address is not of the form `redis://[user:password@]host[:port][/database]`.
    pub fn new(at: impl Into<Location>, connections: usize) -> Result<Self, NotAnAddress> {
        Self::with_hook(at, connections, None)
    }

    /// Like [`Redis::new`], with a hook that runs on each new connection before its first request and can reject the connection.
    ///
    /// # Errors
    /// When the address is not valid, as for [`Redis::new`].
    pub fn with_hook(
        at: impl Into<Location>,
        connections: usize,
        on_connect: Option<Hook>,
    ) -> Result<Self, NotAnAddress> {
        let Location { url, deployment } = at.into();
        check_redis_url(&url)?;
        let client = Client::open(&*url).map_err(|_| NotAnAddress)?;
        let builder = deadpool_redis::Config::from_url(url).builder().map_err(|_| NotAnAddress)?;
        let builder = on_connect.into_iter().fold(builder.max_size(connections), PoolBuilder::post_create);
        let pool = builder.build().map_err(|_| NotAnAddress)?;
        let (permits, unanswered) = (Arc::new(Semaphore::new(connections)), watch::Sender::new(0));
        Ok(Self { pool, client, deployment, permits, unanswered })
    }

    /// The name of a key of this deployment.
    pub fn key(&self, key: &str) -> String {
        self.deployment.key(key)
    }

    /// The client for connections outside the pool, such as connections that subscribe.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Writes a key that nobody reads. For readiness.
    ///
    /// # Errors
    /// When no response arrives in time, or Redis refuses the write.
    pub async fn check(&self) -> Result<(), Unanswered> {
        let key = self.key("checked");
        self.ask(async |mut redis| redis.set(&key, 1).await).await
    }

    /// Runs `request` on a connection of the pool.
    ///
    /// # Errors
    /// When no response arrives in time, or Redis returns an error reply.
    pub async fn ask<T>(
        &self,
        request: impl AsyncFnOnce(Connection) -> Result<T, RedisError>,
    ) -> Result<T, Unanswered> {
        let _permit = self.acquire().await?;
        let response = async { Ok(request(self.pool.get().await?).await?) };
        let response = timeout(DEADLINE, response).await.unwrap_or(Err(Unanswered::Late));
        let is_unanswered = match &response {
            Ok(_) => false,
            Err(Unanswered::Redis(error)) => error.is_io_error(),
            Err(_) => true,
        };
        self.unanswered.send_if_modified(|count| {
            let before = *count;
            *count = if is_unanswered { count.saturating_add(1) } else { 0 };
            before != *count
        });
        response
    }

    /// Waits for a permit, at most [`MAX_WAIT`]. Fails at once when an outage begins, and without waiting during an outage.
    async fn acquire(&self) -> Result<SemaphorePermit<'_>, Unanswered> {
        let mut unanswered = self.unanswered.subscribe();
        if *unanswered.borrow_and_update() >= OUTAGE {
            return self.permits.try_acquire().map_err(|_| Unanswered::Late);
        }
        tokio::select! {
            permit = self.permits.acquire() => permit.map_err(|_| Unanswered::Late),
            _ = unanswered.wait_for(|count| *count >= OUTAGE) => Err(Unanswered::Late),
            () = sleep(MAX_WAIT) => Err(Unanswered::Late),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_refused_is_not_quoted() {
        let good = ["redis://127.0.0.1:6379/0", "redis://user:s3cret@host:6379/1", "redis://:s3%2Fcret@host"];
        for url in good {
            assert_eq!(check_redis_url(url), Ok(()), "{url}");
        }
        let bad = [
            "",
            "s3cret",
            "http://s3cret",
            "rediss://:s3cret@host",
            "redis://:s3/cret@host",
            "redis://u:1?s@h",
        ];
        for url in bad {
            assert_eq!(check_redis_url(url), Err(NotAnAddress), "{url}");
        }
        assert!(!NotAnAddress.to_string().contains("s3cret"));
    }
}
