//! A client of the Redis that several processes share, with bounded waiting and response times. Sessions, the event stream of a
//! cluster and the table of chat nodes each use a [`Redis`] of their own.
//!
//! Redis has [`DEADLINE`] to respond to a request, measured from the moment when the request is sent, without the time in which this
//! process did not run. Before that, a request waits for a free connection while other requests get responses: neither a thousand
//! concurrent clients, nor one late response, nor a busy processor is an outage. After [`OUTAGE`] consecutive requests without a response in time, all waiting requests fail at once, and requests fail
//! without waiting until the next response arrives.
//!
//! The MongoDB client, in [`mongo`], has queues of its own, so only its response times are bounded.

mod address;
pub mod cause;
mod deployment;
mod greeting;
#[cfg(feature = "mongodb")]
pub mod mongo;
mod operations;
mod store_gate;
pub mod swapped;

use std::{pin::pin, sync::Arc, time::Duration};

use deadpool_redis::{
    Pool,
    redis::{Client, RedisError, aio::ConnectionLike},
};
use tokio::{
    sync::{Semaphore, SemaphorePermit, watch},
    time::{Instant, sleep, timeout},
};

pub use address::{NotAnAddress, UNENCODED, check_redis_url, is_unencoded};
pub use cause::{NO_ANSWER, REFUSES};
pub use deadpool_redis::{Connection, Hook, HookError, PoolError, redis};
pub use deployment::{Deployment, Location, NotADeployment};
pub use operations::SCRIPTS;
pub use store_gate::{StoreGate, StoreGateClosed};

/// The maximum time of one request to Redis, including the connection setup.
pub const DEADLINE: Duration = Duration::from_millis(250);

/// The number of equal parts of [`DEADLINE`]. A part that ends late counts as one part: until then this process did not run and could not
/// receive a response.
const PARTS: u32 = 10;

/// The maximum time of one request when this process is slow.
const MAX_DEADLINE: Duration = Duration::from_millis(750);

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
    gate: StoreGate,
    /// One permit per connection.
    permits: Arc<Semaphore>,
    /// The number of consecutive requests without a response.
    unanswered: watch::Sender<u32>,
}

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
    /// The gate of the role is closed: no request was sent.
    #[error(transparent)]
    StoreGateClosed(#[from] StoreGateClosed),
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

/// The result of `response`, if it is ready within `deadline` of the time in which this process runs, and within `max` altogether.
async fn within<T>(response: impl Future<Output = T>, deadline: Duration, max: Duration) -> Option<T> {
    let (mut response, started) = (pin!(response), Instant::now());
    for _ in 0..PARTS {
        if let Ok(response) = timeout(deadline / PARTS, &mut response).await {
            return Some(response);
        }
        if started.elapsed() >= max {
            break;
        }
    }
    None
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
        let Location { url, deployment, gate } = at.into();
        check_redis_url(&url)?;
        let client = Client::open(&*url).map_err(|_| NotAnAddress::Form)?;
        let builder = deadpool_redis::Config::from_url(url).builder().map_err(|_| NotAnAddress::Form)?;
        let builder = builder.max_size(connections);
        let builder = match on_connect {
            Some(hook) => builder.post_create(hook),
            None => builder,
        };
        let pool = builder.build().map_err(|_| NotAnAddress::Form)?;
        let (permits, unanswered) = (Arc::new(Semaphore::new(connections)), watch::Sender::new(0));
        Ok(Self { pool, client, deployment, gate, permits, unanswered })
    }

    /// The name of a key of this deployment.
    pub fn key(&self, key: &str) -> String {
        self.deployment.key(key)
    }

    /// The client for connections outside the pool, such as connections that subscribe.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The gate of the role.
    pub fn gate(&self) -> &StoreGate {
        &self.gate
    }

    /// Runs `request` on a connection of the pool.
    ///
    /// # Errors
    /// When no response arrives in time, Redis returns an error reply, or the gate of the role is closed.
    pub async fn ask<T>(
        &self,
        request: impl AsyncFnOnce(Connection) -> Result<T, RedisError>,
    ) -> Result<T, Unanswered> {
        self.gate.check()?;
        self.ask_ungated(request).await
    }

    /// Like [`Redis::ask`], also while the gate is closed. For checks of readiness, which change no data of the deployment.
    ///
    /// # Errors
    /// When no response arrives in time, or Redis returns an error reply.
    pub async fn ask_ungated<T>(
        &self,
        request: impl AsyncFnOnce(Connection) -> Result<T, RedisError>,
    ) -> Result<T, Unanswered> {
        let _permit = self.acquire().await?;
        let response = async { Ok(request(self.pool.get().await?).await?) };
        let response = within(response, DEADLINE, MAX_DEADLINE).await.unwrap_or(Err(Unanswered::Late));
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
        match response {
            Err(error) => Err(greeting::explained(&self.client, error).await),
            Ok(response) => Ok(response),
        }
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

    #[tokio::test]
    async fn the_time_in_which_the_process_does_not_run_does_not_count() {
        let (deadline, max) = (Duration::from_millis(100), Duration::from_secs(600));
        for blocked in [deadline, 2 * deadline, 5 * deadline] {
            let response = async {
                // The thread does other work, then the response arrives by way of other tasks.
                std::thread::sleep(blocked);
                for _ in 0..3 {
                    tokio::task::yield_now().await;
                }
            };
            assert_eq!(within(response, deadline, max).await, Some(()), "{blocked:?}");
        }
        assert_eq!(within(std::future::pending::<()>(), deadline, max).await, None);
        assert_eq!(within(std::future::pending::<()>(), deadline, Duration::ZERO).await, None, "the maximum");
    }
}
