//! Detection of a Redis that rejects commands that a role needs, because of a missing permission, full memory or a replica. Each
//! command is tried on keys that no role reads, so the report names the command before a request of a client fails on it.

use deadpool_redis::redis::{AsyncCommands, Cmd, RedisError, Value, cmd, pipe};

use tokio::time::timeout;

use crate::{MAX_DEADLINE, Redis, Unanswered, cause};

/// The prefix of the trial keys. The type of the value follows it.
const KEY: &str = "godzilla:tried:";

/// The lifetime of these keys, in milliseconds.
const LIFETIME_MS: &str = "60000";

/// The digest of a script that no process loads. The reply `NOSCRIPT` proves that scripts are allowed.
const NO_SCRIPT: &str = "0000000000000000000000000000000000000000";

/// The error code of the reply to a script that is not loaded.
const NOSCRIPT: &str = "NOSCRIPT";

/// The error code of the reply to a command on a key of another type.
const WRONGTYPE: &str = "WRONGTYPE";

/// A part of the reply to `INCR` on a value that is no number.
const NO_INTEGER: &str = "not an integer";

/// A command, the type of its key (empty for a command without a key), and the arguments that follow the key.
type Operation = (&'static str, &'static str, &'static [&'static str]);

/// The commands that can be tried, in the order in which they are sent. `DEL` is first, so that the list does not grow.
const OPERATIONS: [Operation; 31] = [
    ("DEL", "list", &[]),
    ("GET", "string", &[]),
    ("MGET", "string", &[]),
    ("EXISTS", "string", &[]),
    ("TYPE", "string", &[]),
    ("MSET", "string", &["1"]),
    ("SET", "string", &["1", "PX", LIFETIME_MS]),
    ("PSETEX", "string", &[LIFETIME_MS, "1"]),
    ("INCR", "number", &[]),
    ("PEXPIRE", "number", &[LIFETIME_MS]),
    ("RPUSH", "list", &["1"]),
    ("LRANGE", "list", &["0", "-1"]),
    ("LTRIM", "list", &["0", "-1"]),
    ("HSET", "hash", &["field", "1"]),
    ("HGET", "hash", &["field"]),
    ("HMGET", "hash", &["field"]),
    ("HGETALL", "hash", &[]),
    ("HDEL", "hash", &["field"]),
    ("ZADD", "zset", &["1", "member"]),
    ("ZREVRANGEBYSCORE", "zset", &["0", "0"]),
    ("ZREMRANGEBYSCORE", "zset", &["0", "0"]),
    ("XADD", "stream", &["MAXLEN", "1", "*", "field", "1"]),
    ("XRANGE", "stream", &["-", "+", "COUNT", "1"]),
    ("XREVRANGE", "stream", &["+", "-", "COUNT", "1"]),
    ("XTRIM", "stream", &["MAXLEN", "1"]),
    ("XREAD", "", &["COUNT", "1", "STREAMS", "{stream}", "0"]),
    ("PUBLISH", "channel", &["1"]),
    ("EVALSHA", "", &[NO_SCRIPT, "0"]),
    ("SCRIPT", "", &["LOAD", "return 1"]),
    ("TIME", "", &[]),
    ("INFO", "", &["server"]),
];

/// The commands that scripts need.
pub const SCRIPTS: [&str; 2] = ["EVALSHA", "SCRIPT"];

impl Redis {
    /// Tries `commands` and returns the first rejection, as a phrase that follows "Redis": the cause, the remedy, and in brackets the
    /// command and the reply. Returns `None` when Redis accepts all of them. Commands that cannot be tried are skipped.
    pub async fn refusal(&self, commands: &[&str]) -> Option<String> {
        let tried: Vec<&Operation> =
            OPERATIONS.iter().filter(|operation| commands.contains(&operation.0)).collect();
        let mut pipe = pipe();
        pipe.ignore_errors();
        for operation in &tried {
            pipe.add_command(self.command(operation));
        }
        let request = self.ask_ungated(async |mut redis| pipe.query_async(&mut redis).await);
        let replies: Vec<Result<Value, RedisError>> = match request.await {
            Ok(replies) => replies,
            Err(error) => return Some(error.description()),
        };
        let mut overwritten = Vec::new();
        let refusal = tried.iter().zip(replies).find_map(|((name, kind, _), reply)| {
            let error = reply.err().filter(|error| error.code() != Some(NOSCRIPT))?;
            let key = self.key(&format!("{KEY}{}", if *name == "XREAD" { "stream" } else { *kind }));
            if error.code() == Some(WRONGTYPE) || error.to_string().contains(NO_INTEGER) {
                overwritten.push(key);
                return None;
            }
            Some(format!("{} ({name}: {error})", cause::of(&error)))
        });
        refusal.or(self.delete_overwritten(overwritten).await)
    }

    /// Deletes all trial keys. An error is ignored: most of them expire.
    pub async fn delete_trials(&self) {
        let kinds = OPERATIONS.iter().map(|(_, kind, _)| *kind).filter(|kind| !kind.is_empty());
        let keys: Vec<String> = kinds.map(|kind| self.key(&format!("{KEY}{kind}"))).collect();
        let _ = self.ask(async |mut redis| redis.del::<_, u64>(&keys).await).await;
    }

    /// Why the key has a value that no role writes, as a phrase that follows "Redis". `None` when it is absent or of the type `kind`.
    pub async fn foreign_value(&self, key: &str, kind: &str) -> Option<String> {
        let key = self.key(key);
        let request =
            self.ask(async |mut redis| cmd("TYPE").arg(&key).query_async::<String>(&mut redis).await);
        let found = request.await.ok().filter(|found| found != kind && found != "none")?;
        Some(format!(
            "has a {found} of another program under the key {key} of the roles: use another database or --deployment"
        ))
    }

    /// Why a channel cannot be subscribed to, as a phrase that follows "Redis". `None` when it can.
    pub async fn subscription_refusal(&self, channel: &str) -> Option<String> {
        let subscribe = async { self.client().get_async_pubsub().await?.subscribe(channel).await };
        match timeout(MAX_DEADLINE, subscribe).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(format!("{} (SUBSCRIBE: {error})", cause::of(&error))),
            Err(_) => Some(cause::NO_ANSWER.to_owned()),
        }
    }

    /// Deletes trial keys that another program has overwritten. Returns the refusal of that.
    async fn delete_overwritten(&self, keys: Vec<String>) -> Option<String> {
        let key = keys.first()?.clone();
        let deleted = self.ask_ungated(async |mut redis| redis.del::<_, u64>(&keys).await).await;
        deleted.err().map(|error| format!("has a key of another program, {key}: delete it ({error})"))
    }

    fn command(&self, (name, kind, arguments): &Operation) -> Cmd {
        let key = |kind: &str| self.key(&format!("{KEY}{kind}"));
        let mut command = cmd(name);
        if !kind.is_empty() {
            command.arg(key(kind));
        }
        for argument in *arguments {
            match *argument {
                "{stream}" => command.arg(key("stream")),
                argument => command.arg(argument),
            };
        }
        command
    }
}

impl Unanswered {
    /// The cause, as a phrase that follows "Redis", with the error itself in brackets when there is one.
    pub fn description(&self) -> String {
        match self {
            Self::Late => self.not_ready_reason().to_owned(),
            Self::StoreGateClosed(closed) => closed.0.to_string(),
            error => format!("{} ({error})", error.not_ready_reason()),
        }
    }
}
