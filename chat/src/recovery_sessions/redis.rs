//! [`RecoverySessions`] in Redis: the key `ticket:<pid>` holds a session as JSON and expires. If sessions are lost, no message is lost: a
//! client that cannot recover reloads its state.

use async_trait::async_trait;
use proto::{Timestamp, Username};
use remote::redis::AsyncCommands;
use serde::{Deserialize, Serialize};

use super::{LIFETIME_MS, RecoverySession, RecoverySessions};
use crate::{Error, redis::Redis};

/// The recovery sessions of one Redis.
pub struct RedisRecoverySessions {
    redis: Redis,
}

/// The stored form of a recovery session.
#[derive(Serialize, Deserialize)]
struct StoredSession {
    sid: String,
    user: Username,
    since: u64,
    issued: u64,
}

impl RedisRecoverySessions {
    /// The recovery sessions in `redis`.
    pub fn new(redis: Redis) -> Self {
        Self { redis }
    }

    fn key(&self, pid: &str) -> String {
        self.redis.key(&format!("ticket:{pid}"))
    }
}

#[async_trait]
impl RecoverySessions for RedisRecoverySessions {
    async fn issue(&self, session: RecoverySession) -> Result<(), Error> {
        let RecoverySession { pid, sid, user, since, issued: Timestamp(issued) } = session;
        let value = serde_json::to_string(&StoredSession { sid, user, since, issued });
        let value = value.map_err(|error| Error::Store(error.to_string()))?;
        let key = self.key(&pid);
        self.redis.ask(async |mut redis| redis.pset_ex::<_, _, ()>(key, value, LIFETIME_MS).await).await
    }

    async fn find(&self, pid: &str, oldest: Timestamp) -> Result<Option<RecoverySession>, Error> {
        if !is_valid_pid(pid) {
            return Ok(None);
        }
        let key = self.key(pid);
        let value: Option<Vec<u8>> = self.redis.ask(async |mut redis| redis.get(key).await).await?;
        let stored = value.and_then(|value| serde_json::from_slice::<StoredSession>(&value).ok());
        let stored = stored.filter(|stored| stored.issued >= oldest.0);
        Ok(stored.map(|StoredSession { sid, user, since, issued }| RecoverySession {
            pid: pid.to_owned(),
            sid,
            user,
            since,
            issued: Timestamp(issued),
        }))
    }
}

/// Whether `pid` has the form of an issued id. Only then it becomes part of a key.
fn is_valid_pid(pid: &str) -> bool {
    pid.len() == 32 && pid.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recovery_sessions::conformance;

    #[actix_rt::test]
    async fn passes_the_conformance_suite() {
        let server = testkit::Redis::start();
        let sessions = RedisRecoverySessions::new(Redis::new(&server.url()).unwrap());
        conformance::run(&sessions).await;
    }

    #[actix_rt::test]
    async fn a_session_expires() {
        let server = testkit::Redis::start();
        let redis = Redis::new(&server.url()).unwrap();
        let sessions = RedisRecoverySessions::new(redis.clone());
        let pid = "f".repeat(32);
        let user = "alice".parse().unwrap();
        let session =
            RecoverySession { pid: pid.clone(), sid: "s".into(), user, since: 1, issued: Timestamp(1) };
        sessions.issue(session).await.unwrap();
        let left: u64 =
            redis.ask(async |mut redis| redis.pttl(sessions.key(&"f".repeat(32))).await).await.unwrap();
        assert!(left > LIFETIME_MS - 60_000 && left <= LIFETIME_MS, "{left}");
    }
}
