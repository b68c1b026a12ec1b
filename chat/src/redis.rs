//! The Redis that holds a cluster's log and recovery_sessions, and the epoch of what it holds. Used by [`crate::broker::stream`] and
//! [`crate::recovery_sessions::redis`].
//!
//! Offsets are numbers of their own, one after the other, and an entry's id in the stream is its offset: `OFFSET-0`. They are
//! kept below 2^53, where Lua's numbers are exact.

use std::{
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use remote::{
    Connection, Hook, HookError, Location, Unanswered,
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
/// The rooms' last messages, each as its number and its id: what the numbers stand for.
pub const LAST: &str = "{log}:last";
/// Marks of where the log was when.
pub const MARKS: &str = "{log}:marks";
/// How often the store of messages was replaced by an older one.
const REPLACED: &str = "{log}:replaced";
/// The first offset after the last replacement: entries before it are of another history.
const SINCE: &str = "{log}:since";

/// How long it may take to connect for good, and to say that there is nothing new: longer than the question for that waits.
const PATIENCE: Duration = Duration::from_secs(1);

/// The commands without which no socket can be opened and the node is not known to gateways.
const NEEDED: [&str; 9] =
    ["INFO", "TIME", "GET", "PSETEX", "HGET", "HSET", "HDEL", remote::SCRIPTS[0], remote::SCRIPTS[1]];

/// The commands of the log.
const LOGGING: [&str; 16] = [
    "XADD",
    "XREAD",
    "XRANGE",
    "XREVRANGE",
    "XTRIM",
    "TYPE",
    "DEL",
    "MGET",
    "MSET",
    "SET",
    "EXISTS",
    "HGET",
    "HSET",
    "ZADD",
    "ZREVRANGEBYSCORE",
    "ZREMRANGEBYSCORE",
];

/// Connections at most.
const CONNECTIONS: usize = 16;

/// Keys: those above, in the order run, epoch, offset, base, stream, heads, last, marks, replaced, since. Arguments: this Redis, another
/// epoch, the largest offset that the caller has seen, an epoch that the caller has found damaged, `1` if it is damaged because
/// the store of messages was replaced, how many replacements the caller knows of.
///
/// A new epoch begins beyond every offset that was ever given, and knows no room. It begins when Redis was started since, because
/// it may have lost what it had, and when a part of the log is missing or contradicts another: keys can be evicted, deleted,
/// restored, or used by another application. Nothing is written while the log is whole.
static CLAIM: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local kinds = {'string', 'string', 'string', 'string', 'stream', 'hash', 'hash', 'zset', 'string', 'string'}
        local whole = true
        for index, kind in ipairs(kinds) do
            local found = redis.call('TYPE', KEYS[index]).ok
            if found ~= 'none' and found ~= kind then
                redis.call('DEL', KEYS[index])
                whole = false
            end
        end
        local run, epoch, last, base = unpack(redis.call('MGET', KEYS[1], KEYS[2], KEYS[3], KEYS[4]))
        last, base = tonumber(last or ''), tonumber(base or '')
        local top, newest = 0, redis.call('XREVRANGE', KEYS[5], '+', '-', 'COUNT', 1)[1]
        if newest then top = tonumber(string.match(newest[1], '^(%d+)')) end
        local fits = last and base and (top == last or (last == base and top < base))
        local replaced = math.max(tonumber(redis.call('GET', KEYS[9]) or '') or 0, tonumber(ARGV[6]))
        if not (whole and fits and epoch and run == ARGV[1] and epoch ~= ARGV[4]) then
            local time = redis.call('TIME')
            local begins = time[1] * 1000000 + time[2]
            for _, given in ipairs({last or 0, top, tonumber(ARGV[3])}) do
                if begins <= given then begins = given + 1 end
            end
            local shown = string.format('%.0f', begins)
            if epoch == ARGV[4] and ARGV[5] == '1' then
                replaced = replaced + 1
                redis.call('SET', KEYS[10], shown)
            end
            -- First: a refusal leaves the epoch, so the next call does it again.
            redis.call('DEL', KEYS[6], KEYS[7])
            redis.call('MSET', KEYS[1], ARGV[1], KEYS[2], ARGV[2], KEYS[3], shown, KEYS[4], shown)
            redis.call('MSET', KEYS[9], string.format('%.0f', replaced))
        end
        return redis.call('MGET', KEYS[2], KEYS[3], KEYS[4], KEYS[9], KEYS[10])
        ",
    )
});

/// The length of an epoch: 64 bits in lower-case hex.
pub const EPOCH_LENGTH: usize = 16;

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Redis {
    redis: remote::Redis,
    at: Location,
    /// The largest offset and the number of replacements that any answer has named: a new epoch begins after them.
    seen: Arc<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    offset: AtomicU64,
    replaced: AtomicU64,
}

/// Where the log is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// Its epoch.
    pub epoch: String,
    /// Its last offset.
    pub last: u64,
    /// The epoch's first offset, before its first entry.
    pub base: u64,
    /// How often the store of messages was replaced by an older one.
    pub replaced: u64,
    /// The first offset after the last replacement, before its first entry; 0 without one.
    pub since: u64,
}

/// An epoch that must end.
#[derive(Debug, Clone, Copy)]
pub struct Damaged<'a> {
    /// The epoch. Nothing happens when there is another one already.
    pub epoch: &'a str,
    /// Whether the store of messages was replaced by an older one.
    pub is_replaced: bool,
}

impl Redis {
    /// The Redis at `at`, which need not be there yet.
    ///
    /// # Errors
    /// [`Error::BadRequest`] when it is no address of Redis; it is not repeated, because it may hold a password.
    pub fn new(at: impl Into<Location>) -> Result<Self, Error> {
        let (at, seen) = (at.into(), Arc::<Seen>::default());
        // A connection that was made after Redis came back with another log knows it before anybody uses it.
        let (place, last_seen) = (at.clone(), seen.clone());
        let greet = Hook::async_fn(move |connection, _| {
            let (place, seen) = (place.clone(), last_seen.clone());
            Box::pin(async move {
                claim(connection, &place, &seen, None).await.map_err(HookError::Backend)?;
                Ok(())
            })
        });
        let redis = remote::Redis::greeted(at.clone(), CONNECTIONS, Some(greet));
        let redis = redis.map_err(|error| Error::BadRequest(error.to_string()))?;
        Ok(Self { redis, at, seen })
    }

    /// The name of a key of this deployment.
    pub fn key(&self, key: &str) -> String {
        self.at.key(key)
    }

    /// Asks Redis something, within the deadline.
    pub async fn ask<T>(
        &self,
        question: impl AsyncFnOnce(Connection) -> Result<T, RedisError>,
    ) -> Result<T, Error> {
        self.redis.ask(question).await.map_err(unavailable)
    }

    /// Why a chat node cannot work on this Redis, if so, in words that follow "Redis". For `/readyz`.
    pub async fn not_ready_reason(&self) -> Option<String> {
        self.redis.refusal(&NEEDED).await
    }

    /// Why the log cannot be written or read, if so, in words that follow "Redis". For `/readyz`: messages and changes are then
    /// delivered from the store.
    pub async fn broker_not_ready_reason(&self) -> Option<String> {
        self.redis.refusal(&LOGGING).await
    }

    /// Where the log is; a new epoch when Redis was started again or the log is not whole.
    pub async fn claim(&self) -> Result<Claimed, Error> {
        self.ask(async |mut redis| claim(&mut redis, &self.at, &self.seen, None).await).await
    }

    /// Ends an epoch, and answers where the log is then.
    pub async fn renew(&self, damaged: Damaged<'_>) -> Result<Claimed, Error> {
        self.ask(async |mut redis| claim(&mut redis, &self.at, &self.seen, Some(damaged)).await).await
    }

    /// A connection that may wait for entries, and where the log is.
    pub async fn listen(&self) -> Result<(redis::aio::MultiplexedConnection, Claimed), Error> {
        let connect = async {
            let config = redis::AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE));
            let mut connection = self
                .redis
                .client()
                .get_multiplexed_async_connection_with_config(&config)
                .await
                .map_err(unavailable)?;
            let claimed = claim(&mut connection, &self.at, &self.seen, None).await.map_err(unavailable)?;
            Ok((connection, claimed))
        };
        timeout(PATIENCE, connect).await.map_err(unavailable)?
    }
}

async fn claim<C: ConnectionLike>(
    connection: &mut C,
    at: &Location,
    seen: &Seen,
    damaged: Option<Damaged<'_>>,
) -> Result<Claimed, RedisError> {
    let run = remote::run(connection).await?;
    let epoch = new_id().map_err(|error| RedisError::from(std::io::Error::other(error)))?;
    let mut script = CLAIM.prepare_invoke();
    for key in [RUN, EPOCH, OFFSET, BASE, STREAM, HEADS, LAST, MARKS, REPLACED, SINCE] {
        script.key(at.key(key));
    }
    script.arg(run).arg(&epoch[..EPOCH_LENGTH]).arg(seen.offset.load(Ordering::Acquire));
    let (epoch, is_replaced) = damaged.map_or(("", false), |damaged| (damaged.epoch, damaged.is_replaced));
    script.arg(epoch).arg(u8::from(is_replaced)).arg(seen.replaced.load(Ordering::Acquire));
    let value: redis::Value = script.invoke_async(connection).await?;
    let (epoch, last, base, replaced, since): (String, u64, u64, Option<u64>, Option<u64>) =
        FromRedisValue::from_redis_value(value)?;
    let (replaced, since) = (replaced.unwrap_or_default(), since.unwrap_or_default());
    seen.offset.fetch_max(last, Ordering::AcqRel);
    seen.replaced.fetch_max(replaced, Ordering::AcqRel);
    Ok(Claimed { epoch, last, base, replaced, since })
}

/// Whether Redis did not answer in time: then what was asked may be done.
pub fn is_late(error: &Error) -> bool {
    matches!(error, Error::Store(why) if why.ends_with(&Unanswered::Late.to_string()))
}

fn unavailable(error: impl std::fmt::Display) -> Error {
    Error::Store(format!("the log: {error}"))
}
