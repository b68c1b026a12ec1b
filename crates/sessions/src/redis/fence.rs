//! Which Redis is trusted. Started again from a snapshot, replaced by a replica that was behind, or put back in its place, Redis may
//! show sessions that were closed since. So its keeper (accounts) leaves a mark: a generation, a number that only grows, and which
//! process and history of Redis it speaks of. Where the mark speaks of another, or of a generation before the last one seen,
//! sessions are not asked for until the keeper has closed there what is closed. Nothing is opened before there is a mark, so a
//! Redis without any has nothing to show. Called by [`super`].

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
    Hook, HookError,
    redis::{
        self, AsyncCommands, AsyncConnectionConfig, Client, FromRedisValue, RedisError,
        aio::{ConnectionLike, MultiplexedConnection},
    },
};
use tokio::time::{sleep, timeout};

use super::{names::Names, revocation_writer::RevocationWriter, unavailable};
use crate::Error;

/// The field of `INFO replication` that names a history: another one after every promotion, a replica's is its master's.
const HISTORY: &str = "master_replid";

/// How long Redis may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is said of a Redis that is not trusted.
pub const NOT_CONFIRMED: &str = "has not yet been told by accounts which sessions are closed";

/// Between two looks of the keeper.
const TICK: Duration = Duration::from_millis(200);

/// Who asks Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asking {
    /// Who finds sessions.
    Finder,
    /// Who opens and closes them, too.
    RevocationWriter,
}

/// The interval between two publications of the last generation seen.
const CONTRADICTION: Duration = Duration::from_secs(1);

/// The last generation that this process has seen; 0 before any.
#[derive(Debug, Default)]
pub struct Incarnation {
    generation: AtomicU64,
    published: Mutex<Option<Instant>>,
}

impl Incarnation {
    /// Whether what stands beside this mark can be believed of a Redis with this history. Remembers its generation.
    pub fn accepts(&self, mark: Option<&str>, history: &str) -> bool {
        let Some(mark) = mark else { return self.last() == 0 };
        let Some(mark) = Mark::read(mark) else { return false };
        mark.history == history && self.raise(mark.generation) <= mark.generation
    }

    /// A Redis of this generation was heard of. Answers with the last one before.
    pub fn raise(&self, generation: u64) -> u64 {
        self.generation.fetch_max(generation, Ordering::AcqRel)
    }

    /// The last generation seen.
    fn last(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The last generation seen, if there is one and it was not published in the last second. Marks it as published.
    pub fn to_publish(&self) -> Option<u64> {
        let mut published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = published.is_none_or(|at| at.elapsed() >= CONTRADICTION);
        let generation = Some(self.last()).filter(|generation| *generation > 0 && is_due);
        if generation.is_some() {
            *published = Some(Instant::now());
        }
        generation
    }
}

/// A question for the mark, the history, and what is kept under `key`.
pub async fn ask<T: FromRedisValue>(
    redis: &mut impl ConnectionLike,
    mark: &str,
    key: &str,
) -> Result<(Option<String>, String, T), RedisError> {
    let mut pipe = redis::pipe();
    pipe.cmd("INFO").arg("replication").mget(&[mark, key]);
    let (info, (mark, value)): (String, (Option<String>, T)) = pipe.query_async(redis).await?;
    Ok((mark, remote::field(&info, HISTORY), value))
}

/// What a mark says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark<'a> {
    generation: u64,
    /// The `run_id` of the Redis that it speaks of.
    process: &'a str,
    /// See [`HISTORY`].
    history: &'a str,
}

impl<'a> Mark<'a> {
    /// A mark as [`fmt::Display`] writes it; none when it names no process or no history.
    fn read(text: &'a str) -> Option<Self> {
        let mut parts = text.split(' ');
        let (generation, process, history) = (parts.next()?.parse().ok()?, parts.next()?, parts.next()?);
        let is_whole = !process.is_empty() && !history.is_empty() && parts.next().is_none();
        is_whole.then_some(Self { generation, process, history })
    }
}

impl fmt::Display for Mark<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.generation, self.process, self.history)
    }
}

/// Refuses a connection to a Redis whose mark does not speak of it.
pub fn trusted(asking: Asking, seen: Arc<Incarnation>, names: Names) -> Hook {
    Hook::async_fn(move |connection, _| {
        let (seen, names) = (seen.clone(), names.clone());
        Box::pin(async move {
            let Look { process, history, mark } =
                look(connection, &names).await.map_err(HookError::Backend)?;
            let speaks_of_it = match mark.as_deref().map(Mark::read) {
                None => asking == Asking::Finder,
                Some(mark) => mark.is_some_and(|mark| mark.process == process),
            };
            let trusted = speaks_of_it && seen.accepts(mark.as_deref(), &history);
            trusted.then_some(()).ok_or_else(|| HookError::message(format!("Redis {NOT_CONFIRMED}")))
        })
    })
}

/// Tells every Redis that takes the place of the last one which sessions are closed, for ever.
pub async fn tell(client: Client, writer: Arc<RevocationWriter>, seen: Arc<Incarnation>) {
    // What another keeper has left may have been put back: the first mark is our own.
    let mut has_told = false;
    loop {
        let Err(error) = follow(&client, &writer, &seen, &mut has_told).await;
        tracing::debug!(%error, "whether Redis knows the closed sessions is not known, trying again");
        sleep(TICK).await;
    }
}

/// Until the connection breaks.
async fn follow(
    client: &Client,
    writer: &RevocationWriter,
    seen: &Incarnation,
    has_told: &mut bool,
) -> Result<Infallible, Error> {
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE));
    let connect = client.get_multiplexed_async_connection_with_config(&config);
    let mut redis = timeout(PATIENCE, connect).await.map_err(unavailable)?.map_err(unavailable)?;
    let names = writer.names();
    loop {
        writer.settle().await?;
        let Look { process, history, mark } = look(&mut redis, names).await.map_err(unavailable)?;
        let speaks_of_it = mark.as_deref().and_then(Mark::read).is_some_and(|mark| mark.process == process);
        if !(*has_told && speaks_of_it && seen.accepts(mark.as_deref(), &history)) {
            let ended = writer.revoke_all(&mut redis).await?;
            // The counter may have been restored from a backup, while the mark and other processes know a later generation.
            let marked = mark.as_deref().and_then(Mark::read).map_or(0, |mark| mark.generation);
            let generation = writer.generation(seen.last().max(marked)).await?;
            let mark = Mark { generation, process: &process, history: &history }.to_string();
            redis.set::<_, _, ()>(&names.mark, &mark).await.map_err(unavailable)?;
            redis.publish::<_, _, ()>(&names.channel, generation).await.map_err(unavailable)?;
            *has_told = true;
            tracing::info!(ended, mark, "closed sessions are closed in this Redis");
        }
        sleep(TICK).await;
    }
}

/// What the mark has to fit to.
struct Look {
    process: String,
    history: String,
    mark: Option<String>,
}

async fn look(redis: &mut MultiplexedConnection, names: &Names) -> Result<Look, RedisError> {
    let process = remote::run(redis).await?;
    let (mark, history, _) = ask::<redis::Value>(redis, &names.mark, &names.mark).await?;
    Ok(Look { process, history, mark })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_is_believed_until_a_later_one_is_seen() {
        let seen = Incarnation::default();
        let accepts = |mark| seen.accepts(mark, "b");
        assert!(accepts(None), "nobody ever kept anything");
        assert!(accepts(Some("3 a b")) && accepts(Some("3 c b")) && accepts(Some("4 a b")));
        assert!(!accepts(Some("3 a b")) && !accepts(None));
        for odd in ["", "4", "4 b", "x 4", "-1 a b", "a b c", "4 a c", "9 b a", "4  b", "4 a ", "4 a b c"] {
            assert!(!accepts(Some(odd)), "{odd}");
        }
        assert!(accepts(Some("4 a b")));
        seen.raise(5);
        assert!(!accepts(Some("4 a b")), "another was heard of");
    }
}
