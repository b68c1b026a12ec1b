//! The Redis that holds a cluster's log and tickets, and the epoch of what it holds. Used by [`crate::log::stream`] and
//! [`crate::tickets::redis`].
//!
//! Offsets are numbers of their own, one after the other, and an entry's id in the stream is its offset: `OFFSET-0`. They are
//! kept below 2^53, where Lua's numbers are exact.

use std::{sync::LazyLock, time::Duration};

use remote::{
    Connection, Hook, HookError,
    redis::{self, FromRedisValue, RedisError, Script, aio::ConnectionLike},
};
use tokio::time::timeout;

use crate::{Error, id::new_id};

/// The Redis that was last seen.
const RUN: &str = "{log}:run";
/// The epoch.
pub const EPOCH: &str = "{log}:epoch";
/// The last offset.
pub const OFFSET: &str = "{log}:offset";
/// The epoch's first offset.
pub const BASE: &str = "{log}:base";
/// The stream.
pub const STREAM: &str = "{log}:stream";
/// The rooms' last numbers.
pub const HEADS: &str = "{log}:heads";
/// Marks of where the log was when.
pub const MARKS: &str = "{log}:marks";

/// How long it may take to connect for good, and to say that there is nothing new: longer than the question for that waits.
const PATIENCE: Duration = Duration::from_secs(1);

/// Connections at most.
const CONNECTIONS: usize = 16;

/// Keys: the Redis that was last seen, the epoch, the last offset, the epoch's first offset. Arguments: this Redis, another epoch.
/// A Redis that was started since may have lost what it had: it begins a new epoch, beyond every offset that was ever given.
static CLAIM: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        if redis.call('GET', KEYS[1]) ~= ARGV[1] then
            local time = redis.call('TIME')
            local base = time[1] * 1000000 + time[2]
            local last = tonumber(redis.call('GET', KEYS[3]) or '0')
            if base <= last then base = last + 1 end
            local shown = string.format('%.0f', base)
            redis.call('MSET', KEYS[1], ARGV[1], KEYS[2], ARGV[2], KEYS[3], shown, KEYS[4], shown)
        end
        return redis.call('MGET', KEYS[2], KEYS[3], KEYS[4])
        ",
    )
});

/// The length of an epoch: 64 bits in lower-case hex.
pub const EPOCH_LENGTH: usize = 16;

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Redis(remote::Redis);

/// Where the log is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// Its epoch.
    pub epoch: String,
    /// Its last offset.
    pub last: u64,
    /// The epoch's first offset, before its first entry.
    pub base: u64,
}

impl Redis {
    /// The Redis at `url`, which need not be there yet.
    ///
    /// # Errors
    /// [`Error::BadRequest`] when `url` is no address of Redis; it is not repeated, because it may hold a password.
    pub fn new(url: &str) -> Result<Self, Error> {
        // A connection that was made after Redis came back with another log knows it before anybody uses it.
        let greet = Hook::async_fn(|connection, _| {
            Box::pin(async move {
                claim(connection).await.map_err(HookError::Backend)?;
                Ok(())
            })
        });
        let redis = remote::Redis::greeted(url, CONNECTIONS, Some(greet));
        redis.map(Self).map_err(|error| Error::BadRequest(error.to_string()))
    }

    /// Asks Redis something, within the deadline.
    pub async fn ask<T>(
        &self,
        question: impl AsyncFnOnce(Connection) -> Result<T, RedisError>,
    ) -> Result<T, Error> {
        self.0.ask(question).await.map_err(unavailable)
    }

    /// Where the log is; a new epoch when Redis was started again.
    pub async fn claim(&self) -> Result<Claimed, Error> {
        self.ask(async |mut redis| claim(&mut redis).await).await
    }

    /// A connection that may wait for entries, and where the log is.
    pub async fn listen(&self) -> Result<(redis::aio::MultiplexedConnection, Claimed), Error> {
        let connect = async {
            let config = redis::AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE));
            let mut connection = self
                .0
                .client()
                .get_multiplexed_async_connection_with_config(&config)
                .await
                .map_err(unavailable)?;
            let claimed = claim(&mut connection).await.map_err(unavailable)?;
            Ok((connection, claimed))
        };
        timeout(PATIENCE, connect).await.map_err(unavailable)?
    }
}

async fn claim<C: ConnectionLike>(connection: &mut C) -> Result<Claimed, RedisError> {
    let run = remote::run(connection).await?;
    let mut script = CLAIM.prepare_invoke();
    script.key(RUN).key(EPOCH).key(OFFSET).key(BASE);
    script.arg(run).arg(&new_id()[..EPOCH_LENGTH]);
    let value: redis::Value = script.invoke_async(connection).await?;
    let (epoch, last, base) = FromRedisValue::from_redis_value(value)?;
    Ok(Claimed { epoch, last, base })
}

fn unavailable(error: impl std::fmt::Display) -> Error {
    Error::Store(format!("the log: {error}"))
}
