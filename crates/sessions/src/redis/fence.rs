//! Fencing: decides whether a Redis is trusted. A Redis that restarted from a snapshot, that was replaced by a replica with
//! replication lag, or that was put back into service may contain sessions that were closed in the meantime. So the process that
//! closes sessions (accounts) writes a fence record into Redis, which names one incarnation: a generation, which is a number that
//! only increases, the process of Redis, and its replication history. While the record names another process or history, or a
//! generation below the latest one seen, sessions are not read. Accounts then applies the list of revoked sessions to this Redis and
//! writes a new record. No session is opened before a record exists, so a Redis without a record contains no sessions.
//! Called by [`super`].

use std::{
    convert::Infallible,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use remote::{
    Hook, HookError, Redis, cause,
    redis::{
        self, AsyncCommands, AsyncConnectionConfig, FromRedisValue, RedisError,
        aio::{ConnectionLike, MultiplexedConnection},
    },
};
use tokio::time::{error::Elapsed, sleep, timeout};

use super::{names::Names, revocation_writer::RevocationWriter, unavailable};
use crate::Error;

/// The field of `INFO replication` that identifies a history. It changes at every promotion; a replica has the value of its master.
const HISTORY: &str = "master_replid";

/// The maximum time of one request of [`maintain`] to Redis.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Why a Redis is not trusted, as a phrase that follows "Redis".
pub const NOT_CONFIRMED: &str = "has not received the list of closed sessions from accounts yet";

/// The largest generation that is read. The counter begins at 1, so a larger number in Redis was not written by accounts. It would
/// outdate every record for good.
const MAX_GENERATION: u64 = 1 << 48;

/// The interval between two checks of the fence record by its writer.
const CHECK_INTERVAL: Duration = Duration::from_millis(200);

/// What a process does with sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// It finds sessions.
    Read,
    /// It finds, opens and closes sessions.
    Write,
}

/// The minimum interval between two publications of the latest generation.
const PUBLISH_INTERVAL: Duration = Duration::from_secs(1);

/// The latest generation that this process has seen; 0 before the first.
#[derive(Debug, Default)]
pub struct LatestGeneration {
    generation: AtomicU64,
    published: Mutex<Option<Instant>>,
}

impl LatestGeneration {
    /// Whether data read together with this fence record can be trusted, for a Redis with this history. Records the generation.
    pub fn accepts(&self, record: Option<&str>, history: &str) -> bool {
        let Some(record) = record else { return self.last() == 0 };
        let Some(incarnation) = Incarnation::parse(record) else { return false };
        incarnation.history == history && self.raise(incarnation.generation) <= incarnation.generation
    }

    /// Records that a Redis of this generation exists, unless it is larger than [`MAX_GENERATION`]. Returns the latest generation before
    /// the call.
    pub fn raise(&self, generation: u64) -> u64 {
        if generation > MAX_GENERATION {
            return self.last();
        }
        self.generation.fetch_max(generation, Ordering::AcqRel)
    }

    /// Records that a Redis with this fence record exists. Does nothing when the record is invalid.
    pub fn raise_to(&self, record: &str) {
        if let Some(incarnation) = Incarnation::parse(record) {
            self.raise(incarnation.generation);
        }
    }

    /// The latest generation seen.
    fn last(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The latest generation, which the caller then publishes. `None` when no generation was seen, or when it was published within
    /// the last second.
    pub fn to_publish(&self) -> Option<u64> {
        let mut published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = published.is_none_or(|at| at.elapsed() >= PUBLISH_INTERVAL);
        let generation = Some(self.last()).filter(|generation| *generation > 0 && is_due);
        if generation.is_some() {
            *published = Some(Instant::now());
        }
        generation
    }
}

/// Reads the fence record, the replication history, and the value of `key` in one round trip.
pub async fn get_with_record<T: FromRedisValue>(
    redis: &mut impl ConnectionLike,
    record: &str,
    key: &str,
) -> Result<(Option<String>, String, T), RedisError> {
    let mut pipe = redis::pipe();
    pipe.cmd("INFO").arg("replication").mget(&[record, key]);
    let (info, (record, value)): (String, (Option<Vec<u8>>, T)) = pipe.query_async(redis).await?;
    let record = record.map(|record| String::from_utf8_lossy(&record).into_owned());
    Ok((record, remote::field(&info, HISTORY), value))
}

/// The content of a fence record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Incarnation<'a> {
    generation: u64,
    /// The `run_id` of the Redis process.
    process: &'a str,
    /// The value of [`HISTORY`].
    history: &'a str,
}

impl<'a> Incarnation<'a> {
    /// Parses a record in the format of [`fmt::Display`]. `None` when it names no process or no history, or a generation
    /// beyond [`MAX_GENERATION`].
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(' ');
        let (generation, process, history) = (parts.next()?.parse().ok()?, parts.next()?, parts.next()?);
        let is_complete = !process.is_empty() && !history.is_empty() && parts.next().is_none();
        let is_complete = is_complete && generation <= MAX_GENERATION;
        is_complete.then_some(Self { generation, process, history })
    }
}

impl fmt::Display for Incarnation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.generation, self.process, self.history)
    }
}

/// A hook that rejects connections to a Redis whose fence record does not name it. A Redis without a record is accepted for
/// [`Access::Read`].
pub fn hook(access: Access, latest: Arc<LatestGeneration>, names: Names) -> Hook {
    Hook::async_fn(move |connection, _| {
        let (latest, names) = (latest.clone(), names.clone());
        Box::pin(async move {
            let Observed { process, history, record } =
                observe(connection, &names).await.map_err(HookError::Backend)?;
            let is_named = match record.as_deref().map(Incarnation::parse) {
                None => access == Access::Read,
                Some(incarnation) => incarnation.is_some_and(|incarnation| incarnation.process == process),
            };
            let is_trusted = is_named && latest.accepts(record.as_deref(), &history);
            is_trusted.then_some(()).ok_or_else(|| HookError::message(format!("Redis {NOT_CONFIRMED}")))
        })
    })
}

/// Why the fence record cannot be maintained, as a text of its own. `None` while it can.
pub type FenceFault = Arc<Mutex<Option<String>>>;

/// Applies the list of revoked sessions to every new incarnation of Redis and writes its fence record, while the gate of the stores is
/// open. Logs the cause when it cannot, and keeps it in `fault`. Never returns.
pub async fn maintain(
    redis: Redis,
    writer: Arc<RevocationWriter>,
    latest: Arc<LatestGeneration>,
    fault: FenceFault,
) {
    // A record of an earlier process may have been restored from a backup, so this process always writes a first record of its own.
    let mut has_written = false;
    loop {
        redis.gate().opened().await;
        let Err(error) = maintain_connected(&redis, &writer, &latest, &mut has_written, &fault).await;
        let found = described(&error);
        let before = fault.lock().unwrap_or_else(PoisonError::into_inner).replace(found.clone());
        if before.as_ref() == Some(&found) {
            tracing::debug!(%error, "checking the fence record in Redis failed, retrying");
        } else {
            tracing::warn!(%error, "the closed sessions are not applied to Redis, retrying: {found}");
        }
        sleep(CHECK_INTERVAL).await;
    }
}

/// The cause of a failure of [`maintain`]: of Redis with the cause of the reply, or of the list.
fn described(error: &Error) -> String {
    match error {
        Error::Unavailable(source) => match source.downcast_ref::<RedisError>() {
            Some(error) => format!("Redis {} ({error})", cause::of(error)),
            // Redis, or the store of the list.
            None if source.is::<Elapsed>() => "a store does not answer in time".to_owned(),
            None => source.to_string(),
        },
        error => error.to_string(),
    }
}

/// Does the work of [`maintain`] on one connection, until an error. Clears `fault` when the record names the current Redis.
async fn maintain_connected(
    stores: &Redis,
    writer: &RevocationWriter,
    latest: &LatestGeneration,
    has_written: &mut bool,
    fault: &FenceFault,
) -> Result<Infallible, Error> {
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(TIMEOUT));
    let connect = stores.client().get_multiplexed_async_connection_with_config(&config);
    let mut redis = timeout(TIMEOUT, connect).await.map_err(unavailable)?.map_err(unavailable)?;
    let names = writer.names();
    loop {
        if let Err(closed) = stores.gate().check() {
            *has_written = false;
            return Err(unavailable(closed));
        }
        writer.flush().await?;
        let Observed { process, history, record } = observe(&mut redis, names).await.map_err(unavailable)?;
        let recorded = record.as_deref().and_then(Incarnation::parse);
        let is_named = recorded.is_some_and(|incarnation| incarnation.process == process);
        if !(*has_written && is_named && latest.accepts(record.as_deref(), &history)) {
            let revoked = writer.revoke_all(&mut redis).await?;
            // The counter may have been restored from a backup, while the record and other processes have a later generation.
            let recorded = recorded.map_or(0, |incarnation| incarnation.generation);
            let generation = writer.generation(latest.last().max(recorded)).await?;
            let incarnation = Incarnation { generation, process: &process, history: &history }.to_string();
            redis.set::<_, _, ()>(&names.fence, &incarnation).await.map_err(unavailable)?;
            redis.publish::<_, _, ()>(&names.channel, generation).await.map_err(unavailable)?;
            *has_written = true;
            tracing::info!(revoked, incarnation, "applied the closed sessions to a new incarnation of Redis");
        }
        *fault.lock().unwrap_or_else(PoisonError::into_inner) = None;
        sleep(CHECK_INTERVAL).await;
    }
}

/// The identity of a Redis, and the fence record in it.
struct Observed {
    process: String,
    history: String,
    record: Option<String>,
}

async fn observe(redis: &mut MultiplexedConnection, names: &Names) -> Result<Observed, RedisError> {
    let process = remote::run(redis).await?;
    let (record, history, _) = get_with_record::<redis::Value>(redis, &names.fence, &names.fence).await?;
    Ok(Observed { process, history, record })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_is_trusted_until_a_later_one_is_seen() {
        let latest = LatestGeneration::default();
        let accepts = |record| latest.accepts(record, "b");
        assert!(accepts(None), "no record was ever written");
        assert!(accepts(Some("3 a b")) && accepts(Some("3 c b")) && accepts(Some("4 a b")));
        assert!(!accepts(Some("3 a b")) && !accepts(None));
        for odd in [
            "",
            "4",
            "4 b",
            "x 4",
            "-1 a b",
            "a b c",
            "4 a c",
            "9 b a",
            "4  b",
            "4 a ",
            "4 a b c",
            "18446744073709551615 a b",
            "99999999999999999999 a b",
            "281474976710657 a b",
            "1e3 a b",
            "4.5 a b",
        ] {
            assert!(!accepts(Some(odd)), "{odd}");
        }
        assert!(accepts(Some("4 a b")));
        latest.raise(u64::MAX);
        assert!(accepts(Some("4 a b")), "no generation is that large");
        latest.raise(5);
        assert!(!accepts(Some("4 a b")), "a later generation exists");
    }
}
