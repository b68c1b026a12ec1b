//! Failed logins under each name, counted by all processes together: after a few of them within a minute every further attempt
//! waits a while before its password is looked at. Nobody is locked out by strangers: whoever knows the password waits too, and
//! gets in. Asked by the login handler; kept in Redis.

use std::{sync::LazyLock, time::Duration};

use proto::Username;
use remote::{
    Redis, Unanswered,
    redis::{AsyncCommands, Script},
};

/// How long a failure counts.
const MINUTE: Duration = Duration::from_secs(60);

/// Failures within it that cost nothing.
const FREE: u32 = 5;

/// What the next one costs; each more costs twice that.
const FIRST: Duration = Duration::from_millis(250);

/// The most that an attempt waits.
const MOST: Duration = Duration::from_secs(4);

/// Key: the name's failures. Argument: how long they count, in milliseconds. A failure makes all of them count anew.
static FAIL: LazyLock<Script> =
    LazyLock::new(|| Script::new("redis.call('INCR', KEYS[1]) redis.call('PEXPIRE', KEYS[1], ARGV[1])"));

/// See the module.
pub struct Setbacks {
    redis: Redis,
}

impl Setbacks {
    /// Counted in this Redis.
    pub fn new(redis: Redis) -> Self {
        Self { redis }
    }

    /// How long the next attempt under this name has to wait.
    ///
    /// # Errors
    /// When Redis does not say: then no password may be looked at, or it could be guessed at any speed.
    pub async fn wait(&self, name: &Username) -> Result<Duration, Unanswered> {
        let count = self.redis.ask(async |mut redis| redis.get::<_, Option<u32>>(key(name)).await).await?;
        Ok(cost(count.unwrap_or_default()))
    }

    /// An attempt under this name has failed.
    pub async fn note(&self, name: &Username) {
        let mut script = FAIL.prepare_invoke();
        script.key(key(name)).arg(MINUTE.as_millis() as u64);
        let noted = self.redis.ask(async |mut redis| script.invoke_async::<()>(&mut redis).await).await;
        if let Err(error) = noted {
            tracing::warn!(%error, "a failed login was not counted");
        }
    }

    /// Somebody has logged in under this name.
    pub async fn forget(&self, name: &Username) {
        // What stays ends by itself.
        let _ = self.redis.ask(async |mut redis| redis.del::<_, ()>(key(name)).await).await;
    }
}

fn cost(failures: u32) -> Duration {
    let Some(more) = failures.checked_sub(FREE) else { return Duration::ZERO };
    FIRST.saturating_mul(1_u32.checked_shl(more).unwrap_or(u32::MAX)).min(MOST)
}

fn key(name: &Username) -> String {
    format!("setbacks:{}", name.key())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sixth_attempt_waits_and_every_further_one_longer_up_to_a_bound() {
        let waits: Vec<u128> = [0, 4, 5, 6, 8, 9, 31, 37, 38, u32::MAX].map(|n| cost(n).as_millis()).into();
        assert_eq!(waits, [0, 0, 250, 500, 2000, 4000, 4000, 4000, 4000, 4000]);
    }

    #[actix_rt::test]
    async fn failures_are_counted_by_all_together_and_forgotten_with_a_success() {
        let server = testbed::Redis::start();
        let setbacks = || Setbacks::new(Redis::new(&server.url(), 2).unwrap());
        let (here, there) = (setbacks(), setbacks());
        let (alice, bob): (Username, Username) = ("Alice".parse().unwrap(), "bob".parse().unwrap());
        // Connected before anything counts: a first question can come too late on a busy machine.
        for setbacks in [&here, &there] {
            while setbacks.redis.ask(async |mut redis| redis.get::<_, Option<u32>>("x").await).await.is_err()
            {
            }
        }
        for setbacks in [&here, &there, &here, &there, &here, &there] {
            setbacks.note(&"ALICE".parse().unwrap()).await;
        }
        assert_eq!(
            (here.wait(&alice).await.unwrap(), there.wait(&alice).await.unwrap()),
            (2 * FIRST, 2 * FIRST)
        );
        assert_eq!(here.wait(&bob).await.unwrap(), Duration::ZERO);
        let left: u64 = here.redis.ask(async |mut redis| redis.pttl(key(&alice)).await).await.unwrap();
        assert!(left <= 60_000 && left > 30_000, "{left}");
        there.forget(&alice).await;
        assert_eq!(here.wait(&alice).await.unwrap(), Duration::ZERO);
    }
}
