//! [`RecoverySessions`] in Redis: `recovery_session:<pid>` holds one as JSON and ends by itself. Losing them costs nobody a message: a client that
//! is not recognised starts anew.

use async_trait::async_trait;
use proto::{Timestamp, Username};
use remote::redis::AsyncCommands;
use serde::{Deserialize, Serialize};

use super::{LIFETIME_MS, RecoverySession, RecoverySessions};
use crate::{Error, redis::Redis};

/// See the module.
pub struct RedisRecoverySessions {
    redis: Redis,
}

/// What is kept of a recovery_session.
#[derive(Serialize, Deserialize)]
struct StoredMessage {
    sid: String,
    user: Username,
    since: u64,
    issued: u64,
}

impl RedisRecoverySessions {
    /// RecoverySessions in this Redis.
    pub fn new(redis: Redis) -> Self {
        Self { redis }
    }

    fn key(&self, pid: &str) -> String {
        self.redis.key(&format!("recovery_session:{pid}"))
    }
}

#[async_trait]
impl RecoverySessions for RedisRecoverySessions {
    async fn issue(&self, recovery_session: RecoverySession) -> Result<(), Error> {
        let RecoverySession { pid, sid, user, since, issued: Timestamp(issued) } = recovery_session;
        let value = serde_json::to_string(&StoredMessage { sid, user, since, issued });
        let value = value.map_err(|error| Error::Store(error.to_string()))?;
        let key = self.key(&pid);
        self.redis.ask(async |mut redis| redis.pset_ex::<_, _, ()>(key, value, LIFETIME_MS).await).await
    }

    async fn find(&self, pid: &str, oldest: Timestamp) -> Result<Option<RecoverySession>, Error> {
        if !is_ours(pid) {
            return Ok(None);
        }
        let key = self.key(pid);
        let value: Option<Vec<u8>> = self.redis.ask(async |mut redis| redis.get(key).await).await?;
        let kept = value.and_then(|value| serde_json::from_slice::<StoredMessage>(&value).ok());
        let kept = kept.filter(|kept| kept.issued >= oldest.0);
        Ok(kept.map(|StoredMessage { sid, user, since, issued }| RecoverySession {
            pid: pid.to_owned(),
            sid,
            user,
            since,
            issued: Timestamp(issued),
        }))
    }
}

/// What a client shows becomes part of a key only when it looks like what it was given.
fn is_ours(pid: &str) -> bool {
    pid.len() == 32 && pid.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recovery_sessions::conformance;

    #[actix_rt::test]
    async fn keeps_what_every_store_of_tickets_promises() {
        let server = testkit::Redis::start();
        let recovery_sessions = RedisRecoverySessions::new(Redis::new(&server.url()).unwrap());
        conformance::run(&recovery_sessions).await;
    }

    #[actix_rt::test]
    async fn a_ticket_ends_by_itself_and_garbage_is_none() {
        let server = testkit::Redis::start();
        let redis = Redis::new(&server.url()).unwrap();
        let recovery_sessions = RedisRecoverySessions::new(redis.clone());
        let pid = "f".repeat(32);
        let user = "alice".parse().unwrap();
        let recovery_session =
            RecoverySession { pid: pid.clone(), sid: "s".into(), user, since: 1, issued: Timestamp(1) };
        recovery_sessions.issue(recovery_session).await.unwrap();
        let left: u64 = redis
            .ask(async |mut redis| redis.pttl(recovery_sessions.key(&"f".repeat(32))).await)
            .await
            .unwrap();
        assert!(left > LIFETIME_MS - 60_000 && left <= LIFETIME_MS, "{left}");
        for garbage in ["", "{}", "[1]", r#"{"sid":"s","user":{"$gt":""},"since":1,"issued":1}"#] {
            redis
                .ask(async |mut redis| {
                    redis.set::<_, _, ()>(recovery_sessions.key(&"f".repeat(32)), garbage).await
                })
                .await
                .unwrap();
            assert_eq!(recovery_sessions.find(&pid, Timestamp(0)).await, Ok(None), "{garbage}");
        }
    }
}
