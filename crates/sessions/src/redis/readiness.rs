//! Whether sessions can be found, opened and closed now, and why not.

use std::sync::PoisonError;

use remote::{
    DEADLINE, HookError, PoolError, SCRIPTS, SILENT, Unanswered,
    redis::{self, AsyncCommands},
};
use tokio::time::timeout;

use super::{
    RedisSessions,
    fence::{self, NOT_CONFIRMED},
};

/// The commands by which sessions are found.
const FINDING: [&str; 2] = ["INFO", "MGET"];

/// The commands by which sessions are found, opened and closed, and failed logins are counted.
const KEEPING: [&str; 14] = [
    "INFO", "MGET", "GET", "EXISTS", "TIME", "SET", "DEL", "INCR", "RPUSH", "LRANGE", "PEXPIRE", "PUBLISH",
    SCRIPTS[0], SCRIPTS[1],
];

impl RedisSessions {
    /// Why nobody can be found in Redis, if so: it does not answer, nothing is heard from it, or it has not been told of what is
    /// closed. In words that go behind "Redis", for `/readyz`.
    pub async fn not_ready_reason(&self) -> Option<String> {
        let mark = &self.names.mark;
        let asked = self.redis.ask(async |mut redis| fence::ask::<redis::Value>(&mut redis, mark, "").await);
        let is_told = match asked.await {
            Ok((mark, history, _)) => self.accepts(mark.as_deref(), &history).await,
            Err(Unanswered::Connection(PoolError::PostCreateHook(HookError::Message(_)))) => {
                self.contradict().await;
                false
            }
            Err(error) => return Some(error.description()),
        };
        if !is_told {
            return Some(NOT_CONFIRMED.to_owned());
        } else if !self.is_listening() {
            let deafness = self.deafness.lock().unwrap_or_else(PoisonError::into_inner).clone();
            return Some(deafness.unwrap_or_else(|| SILENT.to_owned()));
        }
        match self.writer {
            // Who opens and closes sessions needs writes, too.
            Some(_) => self.redis.refusal(&KEEPING).await,
            None => self.redis.refusal(&FINDING).await,
        }
    }

    /// See [`Seen::accepts`].
    pub(super) async fn accepts(&self, mark: Option<&str>, history: &str) -> bool {
        let accepts = self.seen.accepts(mark, history);
        if !accepts {
            self.contradict().await;
        }
        accepts
    }

    /// Publishes the last generation that was seen here. When accounts has left a mark with an earlier one, because its counter
    /// was restored from a backup, it learns so and leaves a mark with a later one.
    async fn contradict(&self) {
        let Some(generation) = self.seen.to_publish() else { return };
        let publish = async {
            let mut redis = self.redis.client().get_multiplexed_async_connection().await?;
            redis.publish::<_, _, ()>(&self.names.channel, generation).await
        };
        if let Ok(Err(error)) = timeout(DEADLINE, publish).await {
            tracing::debug!(%error, "the last generation is not published");
        }
    }
}
