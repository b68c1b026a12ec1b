//! Settings of Redis with which it can lose sessions. Used by accounts, which logs a warning.

use std::collections::HashMap;

use remote::redis;

use super::{RedisSessions, unavailable};
use crate::Error;

impl RedisSessions {
    /// Whether Redis syncs each write to its append-only file before it responds, so that a crash loses no session.
    ///
    /// # Errors
    /// When Redis does not respond, or its ACL forbids `CONFIG GET`.
    pub async fn is_durable(&self) -> Result<bool, Error> {
        let request = self.redis.ask(async |mut redis| {
            let get = |name: &str| redis::cmd("CONFIG").arg("GET").arg(name).clone();
            let aof: HashMap<String, String> = get("appendonly").query_async(&mut redis).await?;
            let fsync: HashMap<String, String> = get("appendfsync").query_async(&mut redis).await?;
            Ok((aof, fsync))
        });
        let (aof, fsync) = request.await.map_err(unavailable)?;
        let is = |settings: &HashMap<String, String>, name, value| {
            settings.get(name).is_some_and(|set| set == value)
        };
        Ok(is(&aof, "appendonly", "yes") && is(&fsync, "appendfsync", "always"))
    }

    /// Whether Redis evicts keys when its memory is used up.
    ///
    /// # Errors
    /// When Redis does not respond, or its ACL forbids `CONFIG GET`.
    pub async fn evicts(&self) -> Result<bool, Error> {
        let request = self.redis.ask(async |mut redis| {
            let mut get = redis::cmd("CONFIG");
            get.arg("GET").arg("maxmemory-policy");
            get.query_async::<HashMap<String, String>>(&mut redis).await
        });
        let policy = request.await.map_err(unavailable)?;
        Ok(policy.get("maxmemory-policy").is_some_and(|policy| policy != "noeviction"))
    }
}
