//! Settings of Redis by which it can lose sessions. Asked by accounts, which warns of them.

use std::collections::HashMap;

use remote::redis;

use super::{RedisSessions, unavailable};
use crate::Error;

impl RedisSessions {
    /// Whether Redis logs what it is told before it answers, so that a crash loses no session. An error also when Redis
    /// will not say, because its ACL forbids `CONFIG GET`.
    pub async fn is_durable(&self) -> Result<bool, Error> {
        let asked = self.redis.ask(async |mut redis| {
            let question = |name: &str| redis::cmd("CONFIG").arg("GET").arg(name).clone();
            let logs: HashMap<String, String> = question("appendonly").query_async(&mut redis).await?;
            let when: HashMap<String, String> = question("appendfsync").query_async(&mut redis).await?;
            Ok((logs, when))
        });
        let (logs, when) = asked.await.map_err(unavailable)?;
        let is = |settings: &HashMap<String, String>, name, value| {
            settings.get(name).is_some_and(|set| set == value)
        };
        Ok(is(&logs, "appendonly", "yes") && is(&when, "appendfsync", "always"))
    }

    /// Whether Redis removes keys when its memory is used up. An error also when Redis will not say.
    pub async fn evicts(&self) -> Result<bool, Error> {
        let asked = self.redis.ask(async |mut redis| {
            let mut question = redis::cmd("CONFIG");
            question.arg("GET").arg("maxmemory-policy");
            question.query_async::<HashMap<String, String>>(&mut redis).await
        });
        let policy = asked.await.map_err(unavailable)?;
        Ok(policy.get("maxmemory-policy").is_some_and(|policy| policy != "noeviction"))
    }
}
