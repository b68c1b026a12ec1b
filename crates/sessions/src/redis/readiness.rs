//! Whether sessions can be found, opened and closed now, and the cause when they cannot.

use std::sync::PoisonError;

use remote::{
    DEADLINE, HookError, Location, NO_ANSWER, NotAnAddress, PoolError, Redis, SCRIPTS, Unanswered,
    redis::{self, AsyncCommands},
};
use tokio::time::timeout;

use super::{
    RedisSessions,
    fence::{self, NOT_CONFIRMED},
    names::Names,
};

/// The commands that finding sessions needs.
const READ_COMMANDS: [&str; 2] = ["INFO", "MGET"];

/// The commands that finding, opening and closing sessions and counting failed logins need.
const WRITE_COMMANDS: [&str; 15] = [
    "INFO", "MGET", "GET", "EXISTS", "TIME", "SET", "DEL", "INCR", "RPUSH", "LRANGE", "LTRIM", "PEXPIRE",
    "PUBLISH", SCRIPTS[0], SCRIPTS[1],
];

/// Why a role cannot find sessions in the Redis at `at`, or open and close them when it `opens` them: the first refused command, or the
/// refused subscription to closings. A phrase that follows "Redis". `None` when Redis accepts all of them. For the doctor: it tries what
/// [`RedisSessions::not_ready_reason`] tries, and no trial key remains.
///
/// # Errors
/// When the address is not valid, as for [`RedisSessions::new`].
pub async fn refusal(at: &Location, opens: bool) -> Result<Option<String>, NotAnAddress> {
    let redis = Redis::new(at.clone(), 1)?;
    let commands: &[&str] = if opens { &WRITE_COMMANDS } else { &READ_COMMANDS };
    let refusal = redis.refusal(commands).await;
    redis.delete_trials().await;
    match refusal {
        Some(refusal) => Ok(Some(refusal)),
        None => Ok(redis.subscription_refusal(&Names::of(at).channel).await),
    }
}

impl RedisSessions {
    /// Why sessions cannot be found, or opened and closed, in Redis: it does not respond, the subscription to closings is not
    /// established, accounts has not applied the list of closed sessions, or a needed command is rejected. A phrase that follows
    /// "Redis", for `/readyz`. `None` when the sessions are ready.
    pub async fn not_ready_reason(&self) -> Option<String> {
        let record = &self.names.fence;
        let request = self.redis.ask_ungated(async |mut redis| {
            fence::get_with_record::<redis::Value>(&mut redis, record, "").await
        });
        let is_confirmed = match request.await {
            Ok((record, history, _)) => self.accepts(record.as_deref(), &history).await,
            Err(Unanswered::Connection(PoolError::PostCreateHook(HookError::Message(_)))) => {
                self.publish_latest().await;
                false
            }
            Err(error) => return Some(error.description()),
        };
        if !is_confirmed {
            return Some(self.not_confirmed_reason().await);
        } else if !self.is_subscribed() {
            let fault = self.subscription_fault.lock().unwrap_or_else(PoisonError::into_inner).clone();
            return Some(fault.unwrap_or_else(|| NO_ANSWER.to_owned()));
        }
        match self.writer {
            Some(_) => self.redis.refusal(&WRITE_COMMANDS).await,
            None => self.redis.refusal(&READ_COMMANDS).await,
        }
    }

    /// Why accounts has not confirmed this Redis. A Redis that refuses a needed command or writes is the cause, because accounts cannot
    /// write the fence record. The pool for sessions has no connections meanwhile.
    async fn not_confirmed_reason(&self) -> String {
        let commands: &[&str] = if self.writer.is_some() { &WRITE_COMMANDS } else { &["SET"] };
        if let Some(refusal) = self.trial.refusal(commands).await {
            return refusal;
        }
        match &*self.fence_fault.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(fault) => format!("{NOT_CONFIRMED}: {fault}"),
            None => NOT_CONFIRMED.to_owned(),
        }
    }

    /// Whether data read together with this fence record can be trusted. Publishes the latest generation when it cannot.
    pub(super) async fn accepts(&self, record: Option<&str>, history: &str) -> bool {
        let accepts = self.latest.accepts(record, history);
        if !accepts {
            self.publish_latest().await;
        }
        accepts
    }

    /// Publishes the latest generation that this process has seen. When accounts has written a record with an earlier one, because
    /// its counter was restored from a backup, it receives the later one and writes a record with a still later one.
    async fn publish_latest(&self) {
        if !self.redis.gate().is_open() {
            return;
        }
        let Some(generation) = self.latest.to_publish() else { return };
        let publish = async {
            let mut redis = self.redis.client().get_multiplexed_async_connection().await?;
            redis.publish::<_, _, ()>(&self.names.channel, generation).await
        };
        if let Ok(Err(error)) = timeout(DEADLINE, publish).await {
            tracing::debug!(%error, "publishing the latest generation failed");
        }
    }
}
