//! The Redis that stores the stream of a cluster, and the epoch of the stream. Used by [`crate::broker::stream`].
//!
//! Offsets are consecutive numbers, and the id of a record in the stream is `OFFSET-0`. They stay below 2^53, up to which numbers in Lua
//! are exact.

use std::{sync::LazyLock, time::Duration};

use remote::{
    Connection, Hook, HookError, Location, Unanswered,
    redis::{self, RedisError, Script, aio::ConnectionLike},
};
use tokio::time::timeout;

use crate::{Error, id::new_id};

/// The incarnation of Redis that was last seen: it changes when Redis starts.
const INCARNATION: &str = "{log}:run";
/// The current epoch.
pub const EPOCH: &str = "{log}:epoch";
/// The last offset.
pub const OFFSET: &str = "{log}:offset";
/// The epoch's first offset.
pub const BASE: &str = "{log}:base";
/// The stream.
pub const STREAM: &str = "{log}:stream";
/// A hash of the last `seq` of each room.
pub const HEADS: &str = "{log}:heads";
/// A hash: for each room, the number of its last change that has a record in the stream.
pub const REVS: &str = "{log}:revs";
/// A sorted set: offsets, each scored with a time at which it was the last offset of the stream.
pub const MARKS: &str = "{log}:marks";
/// The timeout of a connection that reads the stream, and of each read. Longer than a read waits for new records.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// The maximum number of connections.
const CONNECTIONS: usize = 16;

/// The length of an epoch: 64 bits in lower-case hex.
pub const EPOCH_LENGTH: usize = 16;

/// The Redis of a cluster's chat nodes. Cheap to clone.
#[derive(Clone)]
pub struct Redis {
    redis: remote::Redis,
    at: Location,
}

/// The state of the current epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpochState {
    /// The epoch: [`EPOCH_LENGTH`] hex digits.
    pub epoch: String,
    /// The last offset.
    pub last: u64,
    /// The first offset of the epoch, before its first record.
    pub base: u64,
}

impl Redis {
    /// A client of the Redis at `at`, which may be unavailable.
    ///
    /// # Errors
    /// [`Error::BadRequest`] when `at` is not an address of Redis. The error does not quote it, because it may contain a password.
    pub fn new(at: impl Into<Location>) -> Result<Self, Error> {
        let at = at.into();
        // Each new connection validates the stream before its first use, because Redis may have restarted with other data.
        let location = at.clone();
        let validate = Hook::async_fn(move |connection, _| {
            let location = location.clone();
            Box::pin(async move {
                open_epoch(connection, &location).await.map_err(HookError::Backend)?;
                Ok(())
            })
        });
        let redis = remote::Redis::with_hook(at.clone(), CONNECTIONS, Some(validate));
        let redis = redis.map_err(|error| Error::BadRequest(error.to_string()))?;
        Ok(Self { redis, at })
    }

    /// The name of a key in this deployment.
    pub fn key(&self, key: &str) -> String {
        self.at.key(key)
    }

    /// Sends a request to Redis, with a deadline.
    ///
    /// # Errors
    /// [`Error::Store`] when Redis refuses it or does not answer in time.
    pub async fn ask<T>(
        &self,
        request: impl AsyncFnOnce(Connection) -> Result<T, RedisError>,
    ) -> Result<T, Error> {
        self.redis.ask(request).await.map_err(unavailable)
    }

    /// Why Redis does not answer, or refuses a write. For `/readyz`.
    pub async fn problem(&self) -> Option<String> {
        self.redis.check().await.err().map(|error| error.to_string())
    }

    /// The state of the current epoch. Begins a new epoch when Redis has restarted or the stream is not intact.
    pub async fn open_epoch(&self) -> Result<EpochState, Error> {
        self.ask(async |mut redis| open_epoch(&mut redis, &self.at).await).await
    }

    /// A connection for reads that wait for new records, and the state of the current epoch.
    pub async fn connect_reader(&self) -> Result<(redis::aio::MultiplexedConnection, EpochState), Error> {
        let connect = async {
            let config = redis::AsyncConnectionConfig::new().set_response_timeout(Some(CONNECT_TIMEOUT));
            let mut connection = self
                .redis
                .client()
                .get_multiplexed_async_connection_with_config(&config)
                .await
                .map_err(unavailable)?;
            let state = open_epoch(&mut connection, &self.at).await.map_err(unavailable)?;
            Ok((connection, state))
        };
        timeout(CONNECT_TIMEOUT, connect).await.map_err(unavailable)?
    }
}

/// Begins a new epoch if the stream is not intact. Returns the epoch, the last offset and the base.
///
/// Keys: incarnation, epoch, offset, base, stream, heads, revs. Arguments: the incarnation of this Redis, the id of a new epoch.
///
/// A new epoch begins after every offset that was assigned, and without rooms. It begins when Redis has started since, because it may have
/// lost data, and when a part of the stream is missing, because Redis has evicted it. Offsets begin at the time in microseconds.
static OPEN_EPOCH: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local incarnation, epoch, last, base = unpack(redis.call('MGET', KEYS[1], KEYS[2], KEYS[3], KEYS[4]))
        last, base = tonumber(last or nil), tonumber(base or nil)
        local newest = redis.call('XREVRANGE', KEYS[5], '+', '-', 'COUNT', 1)[1]
        local top = newest and tonumber(string.match(newest[1], '^%d+')) or 0
        local fits = last and base and (top == last or (last == base and top < base))
        if not (fits and epoch and incarnation == ARGV[1]) then
            local time = redis.call('TIME')
            local begins = math.max(time[1] * 1000000 + time[2], (last or 0) + 1, top + 1)
            local first = string.format('%.0f', begins)
            redis.call('DEL', KEYS[6], KEYS[7])
            redis.call('MSET', KEYS[1], ARGV[1], KEYS[2], ARGV[2], KEYS[3], first, KEYS[4], first)
        end
        return redis.call('MGET', KEYS[2], KEYS[3], KEYS[4])
        ",
    )
});

async fn open_epoch<C: ConnectionLike>(connection: &mut C, at: &Location) -> Result<EpochState, RedisError> {
    let incarnation = remote::run(connection).await?;
    let epoch = new_id().map_err(|error| RedisError::from(std::io::Error::other(error)))?;
    let mut script = OPEN_EPOCH.prepare_invoke();
    for key in [INCARNATION, EPOCH, OFFSET, BASE, STREAM, HEADS, REVS] {
        script.key(at.key(key));
    }
    script.arg(incarnation).arg(&epoch[..EPOCH_LENGTH]);
    let (epoch, last, base) = script.invoke_async(connection).await?;
    Ok(EpochState { epoch, last, base })
}

/// Whether Redis did not answer in time. The request may have been executed.
pub fn is_late(error: &Error) -> bool {
    matches!(error, Error::Store(why) if why.ends_with(&Unanswered::Late.to_string()))
}

fn unavailable(error: impl std::fmt::Display) -> Error {
    Error::Store(format!("the log: {error}"))
}
