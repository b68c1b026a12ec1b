//! Whether sessions can be found, opened and closed now, and why not.

use std::sync::PoisonError;

use remote::{
    DEADLINE, HookError, PoolError, SILENT, Unanswered,
    redis::{self, AsyncCommands},
};
use tokio::time::timeout;

use super::{
    RedisSessions,
    run::{self, UNTOLD},
};

impl RedisSessions {
    /// Why nobody can be found in Redis, if so: it does not answer, nothing is heard from it, or it has not been told of what is
    /// closed. In words that go behind "Redis", for `/readyz`.
    pub async fn obstacle(&self) -> Option<&'static str> {
        let mark = &self.names.mark;
        let asked = self.redis.ask(async |mut redis| run::ask::<redis::Value>(&mut redis, mark, "").await);
        let is_told = match asked.await {
            Ok((mark, history, _)) => self.accepts(mark.as_deref(), &history).await,
            Err(Unanswered::Connection(PoolError::PostCreateHook(HookError::Message(_)))) => {
                self.contradict().await;
                false
            }
            Err(error) => return Some(error.obstacle()),
        };
        if !is_told {
            return Some(UNTOLD);
        } else if !self.is_listening() {
            return Some(self.deafness.lock().unwrap_or_else(PoisonError::into_inner).unwrap_or(SILENT));
        }
        match self.keeper {
            // Who opens and closes sessions needs writes, too.
            Some(_) => self.redis.check_writes().await.err().map(|error| error.obstacle()),
            None => None,
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
