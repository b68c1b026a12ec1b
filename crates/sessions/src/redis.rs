//! Sessions in Redis, for services in several processes. Used through [`Sessions`].
//!
//! `session:<id>` is a hash with the fields of a session and expires by itself. `sessions-of:<user>` lists the ids of a user's sessions,
//! newest first. Every change is one script, which publishes each closing as `<cause>:<id>`. A Redis with `appendfsync always` loses no
//! closing in a crash.

mod watch;

use std::sync::{
    Arc, LazyLock,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use proto::{Timestamp, Username};
use remote::{
    Location, NotAnAddress, Redis, Unanswered,
    redis::{self, Script, ScriptInvocation},
};
use tokio::task::JoinHandle;

use crate::{ClosingSender, Closings, Error, LIFETIME_SECONDS, PER_USER, SessionId, Sessions, Token};

/// The maximum number of connections to Redis.
const CONNECTIONS: usize = 16;

/// The number of closings that are buffered for a watcher. A watcher that lags further loses the oldest.
const CLOSINGS: usize = 1_024;

/// The begin of every script. Arguments: the prefix of the keys of sessions, the channel of closings, the id of the session.
const FUNCTIONS: &str = "
    local sessions, channel, id = ARGV[1], ARGV[2], ARGV[3]
    local function close(id, cause)
        if redis.call('DEL', sessions .. id) == 1 then redis.call('PUBLISH', channel, cause .. ':' .. id) end
    end
    local function close_replaced(id)
        local replaced = redis.call('HGET', sessions .. id, 'replaces')
        if not replaced then return end
        redis.call('HDEL', sessions .. id, 'replaces')
        for other in string.gmatch(replaced, '%x+') do close(other, 'replaced') end
    end
";

/// Closes the sessions that the session replaces.
static USE: LazyLock<Script> = LazyLock::new(|| script("close_replaced(id)"));

/// Closes the session and those that it replaces.
static CLOSE: LazyLock<Script> = LazyLock::new(|| script("close_replaced(id) close(id, 'ended')"));

/// Opens the session. Key: the list of the user. Further arguments: the username, the time, the lifetime in milliseconds, the maximum
/// number of sessions, and the ids of the replaced sessions.
static OPEN: LazyLock<Script> = LazyLock::new(|| {
    script(
        "
        local username, now, lifetime, most = ARGV[4], ARGV[5], ARGV[6], tonumber(ARGV[7])
        local is_replaced = {}
        for i = 8, #ARGV do
            is_replaced[ARGV[i]] = true
            close_replaced(ARGV[i])
        end
        local kept, count = { id }, 1
        for _, other in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do
            if redis.call('EXISTS', sessions .. other) == 0 then
                -- It has ended.
            elseif is_replaced[other] then
                table.insert(kept, other)
            elseif count < most then
                count = count + 1
                table.insert(kept, other)
            else
                close(other, 'evicted')
            end
        end
        redis.call('DEL', KEYS[1])
        redis.call('RPUSH', KEYS[1], unpack(kept))
        redis.call('PEXPIRE', KEYS[1], lifetime)
        redis.call('HSET', sessions .. id, 'username', username, 'issued_at', now)
        if #ARGV > 7 then redis.call('HSET', sessions .. id, 'replaces', table.concat(ARGV, ' ', 8)) end
        redis.call('PEXPIRE', sessions .. id, lifetime)
        ",
    )
});

fn script(code: &str) -> Script {
    Script::new(&format!("{FUNCTIONS}{code}"))
}

/// Sessions in one Redis.
pub struct RedisSessions {
    redis: Redis,
    /// The prefix of the keys of sessions, and that of the keys of the lists of a user's sessions.
    sessions: String,
    users: String,
    /// The channel of closings.
    channel: String,
    closings: ClosingSender,
    /// Whether the subscription to closings is established.
    subscribed: Arc<AtomicBool>,
    /// The task that receives closings. It ends when this value is dropped.
    watch: JoinHandle<()>,
}

impl RedisSessions {
    /// Sessions in the Redis at `at`, which need not be reachable yet. Needs a running runtime.
    ///
    /// # Errors
    /// When the address is not of the form `redis://[user:password@]host[:port][/database]`.
    pub fn new(at: impl Into<Location>) -> Result<Self, NotAnAddress> {
        let at = at.into();
        let (sessions, users) = (at.key("session:"), at.key("sessions-of:"));
        let channel = at.channel("session:closed");
        let redis = Redis::new(at, CONNECTIONS)?;
        let (closings, subscribed) = (ClosingSender::new(CLOSINGS), Arc::new(AtomicBool::new(false)));
        let parts = (redis.client().clone(), channel.clone(), closings.clone(), subscribed.clone());
        let watch = tokio::spawn(supervision::restart("session watch", move || {
            let (client, channel, closings, subscribed) = parts.clone();
            watch::watch(client, channel, closings, subscribed)
        }));
        Ok(Self { redis, sessions, users, channel, closings, subscribed, watch })
    }

    /// Whether the subscription to closings is established, so that closings are received.
    pub fn is_subscribed(&self) -> bool {
        self.subscribed.load(Ordering::Acquire)
    }

    /// Why Redis does not answer, or refuses the subscription to closings. A phrase that follows "Redis", for `/readyz`. `None` when it
    /// works.
    pub async fn not_ready_reason(&self) -> Option<String> {
        let ping = self.redis.ask(async |mut redis| redis::cmd("PING").query_async::<()>(&mut redis).await);
        match ping.await {
            Err(error) => Some(error.to_string()),
            Ok(()) => (!self.is_subscribed())
                .then(|| "does not accept the subscription to closed sessions".to_owned()),
        }
    }

    /// A call of `script` for the session `id`.
    fn call<'a>(&self, script: &'a Script, id: &SessionId) -> ScriptInvocation<'a> {
        let mut call = script.prepare_invoke();
        call.arg(&self.sessions).arg(&self.channel).arg(id.as_str());
        call
    }

    async fn run(&self, call: ScriptInvocation<'_>) -> Result<(), Error> {
        Ok(self.redis.ask(async |mut redis| call.invoke_async(&mut redis).await).await?)
    }
}

#[async_trait]
impl Sessions for RedisSessions {
    async fn open(&self, user: &Username, old: &[Token]) -> Result<Token, Error> {
        let token = Token::generate()?;
        let mut call = self.call(&OPEN, &token.id());
        call.key(format!("{}{}", self.users, user.key())).arg(user.as_str()).arg(Timestamp::now().0);
        call.arg(LIFETIME_SECONDS * 1_000).arg(PER_USER);
        for old in old {
            call.arg(old.id().as_str());
        }
        self.run(call).await?;
        Ok(token)
    }

    async fn find(&self, id: &SessionId) -> Result<Option<Username>, Error> {
        let mut read = redis::cmd("HMGET");
        read.arg(format!("{}{id}", self.sessions)).arg("username").arg("replaces");
        let (username, replaces): (Option<String>, Option<String>) =
            self.redis.ask(async |mut redis| read.query_async(&mut redis).await).await?;
        if replaces.is_some() {
            self.run(self.call(&USE, id)).await?;
        }
        username
            .map(|username| username.parse().map_err(|error| Error::Unavailable(Box::new(error))))
            .transpose()
    }

    async fn close(&self, id: &SessionId) -> Result<(), Error> {
        self.run(self.call(&CLOSE, id)).await
    }

    fn closings(&self) -> Closings {
        self.closings.subscribe()
    }
}

impl Drop for RedisSessions {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

impl From<Unanswered> for Error {
    fn from(error: Unanswered) -> Self {
        Self::Unavailable(Box::new(error))
    }
}
