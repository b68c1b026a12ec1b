//! One Redis that many processes share: asked in turn, answered in time or not at all. Sessions, the log of a cluster and the
//! table of chat nodes ask it, each through a [`Redis`] of its own.
//!
//! Redis has [`DEADLINE`] for an answer, from the moment when it is asked. Before that a question may wait for its turn, as
//! long as others are answered: a thousand clients that come at once are no outage, and neither is one late answer. When
//! [`OUTAGE`] in a row are not answered in time, all that wait fail at once, and until the next answer nobody waits.
//!
//! MongoDB, in [`mongo`], keeps its own queues: only its answers are bounded.

pub mod cause;
mod deployment;
pub mod mongo;
mod operations;

use std::{sync::Arc, time::Duration};

use deadpool_redis::{
    Pool,
    redis::{Client, RedisError, aio::ConnectionLike},
};
use tokio::{
    sync::{Semaphore, SemaphorePermit, watch},
    time::{sleep, timeout},
};

pub use cause::{REFUSES, SILENT};
pub use deadpool_redis::{Connection, Hook, HookError, PoolError, redis};
pub use deployment::{Deployment, Location, NotADeployment};
pub use operations::SCRIPTS;

/// How long Redis may take for anything, connecting included.
pub const DEADLINE: Duration = Duration::from_millis(250);

/// So many questions without an answer are an outage.
const OUTAGE: u32 = 4;

/// How long a question may wait for its turn.
const PATIENCE: Duration = Duration::from_secs(3);

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Redis {
    pool: Pool,
    client: Client,
    deployment: Deployment,
    turns: Arc<Semaphore>,
    /// How many questions in a row were not answered.
    unanswered: watch::Sender<u32>,
}

/// The address is none of Redis. Does not repeat it: it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected an address such as redis://127.0.0.1:6379/0")]
pub struct NotAnAddress;

/// Why Redis did not answer. Never holds its address, which may hold a password.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// There is no connection.
    #[error("no connection: {0}")]
    Connection(#[from] PoolError),
    /// It refused, or the connection broke.
    #[error(transparent)]
    Redis(#[from] RedisError),
    /// It did not answer in time, this question or one before.
    #[error("no answer in time")]
    Late,
}

/// Which start of Redis answers here: its `run_id`, another one after every start.
///
/// # Errors
/// When it does not answer, or refuses.
pub async fn run(connection: &mut impl ConnectionLike) -> Result<String, RedisError> {
    let info: String = redis::cmd("INFO").arg("server").query_async(connection).await?;
    Ok(field(&info, "run_id"))
}

/// A field of what `INFO` answers; nothing when it has none.
pub fn field(info: &str, name: &str) -> String {
    let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.unwrap_or_default().trim().to_owned()
}

impl Redis {
    /// The Redis at `url`, asked over at most so many connections. It need not be there yet.
    ///
    /// # Errors
    /// When `url` is not of the form `redis://[user:password@]host[:port][/database]`.
    pub fn new(at: impl Into<Location>, connections: usize) -> Result<Self, NotAnAddress> {
        Self::greeted(at, connections, None)
    }

    /// As [`Redis::new`]; `greet` is asked first on every connection.
    ///
    /// # Errors
    /// See [`Redis::new`].
    pub fn greeted(
        at: impl Into<Location>,
        connections: usize,
        greet: Option<Hook>,
    ) -> Result<Self, NotAnAddress> {
        let Location { url, deployment } = at.into();
        let client = Client::open(&*url).map_err(|_| NotAnAddress)?;
        let builder = deadpool_redis::Config::from_url(url).builder().map_err(|_| NotAnAddress)?;
        let builder = builder.max_size(connections);
        let builder = match greet {
            Some(greet) => builder.post_create(greet),
            None => builder,
        };
        let pool = builder.build().map_err(|_| NotAnAddress)?;
        let (turns, unanswered) = (Arc::new(Semaphore::new(connections)), watch::Sender::new(0));
        Ok(Self { pool, client, deployment, turns, unanswered })
    }

    /// The name of a key of this deployment.
    pub fn key(&self, key: &str) -> String {
        self.deployment.key(key)
    }

    /// For connections that are not asked in turn: those that listen.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Asks Redis something.
    ///
    /// # Errors
    /// When it does not answer in time, or refuses.
    pub async fn ask<T>(
        &self,
        question: impl AsyncFnOnce(Connection) -> Result<T, RedisError>,
    ) -> Result<T, Unanswered> {
        let _turn = self.turn().await?;
        let answer = async { Ok(question(self.pool.get().await?).await?) };
        let answer = timeout(DEADLINE, answer).await.unwrap_or(Err(Unanswered::Late));
        let is_silent = match &answer {
            Ok(_) => false,
            Err(Unanswered::Redis(error)) => error.is_io_error(),
            Err(_) => true,
        };
        self.unanswered.send_if_modified(|count| {
            let before = *count;
            *count = if is_silent { count.saturating_add(1) } else { 0 };
            before != *count
        });
        answer
    }

    /// Waits for its turn, while others are answered.
    async fn turn(&self) -> Result<SemaphorePermit<'_>, Unanswered> {
        let mut unanswered = self.unanswered.subscribe();
        if *unanswered.borrow_and_update() >= OUTAGE {
            return self.turns.try_acquire().map_err(|_| Unanswered::Late);
        }
        tokio::select! {
            turn = self.turns.acquire() => turn.map_err(|_| Unanswered::Late),
            _ = unanswered.wait_for(|count| *count >= OUTAGE) => Err(Unanswered::Late),
            () = sleep(PATIENCE) => Err(Unanswered::Late),
        }
    }
}
