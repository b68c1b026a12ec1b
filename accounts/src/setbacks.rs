//! Failed logins under each name, counted by all processes together: after a few of them within a minute every further attempt
//! waits a while before its password is looked at. Those from addresses where nobody has registered or logged in under the name wait
//! behind each other, too: one by one from each address, and closer together all of them, so that guesses are few whatever the number
//! of addresses. Where somebody is known the wait is all there is: strangers lock nobody out of home. Asked by the handlers of
//! register and login; kept in Redis.

use std::{net::IpAddr, sync::LazyLock, time::Duration};

use proto::{Username, address::counted};
use remote::{
    Redis, Unanswered,
    redis::{self, AsyncCommands, Script},
};

/// How long a failure counts.
const MINUTE: Duration = Duration::from_secs(60);

/// Failures within it that cost nothing.
const FREE: u32 = 5;

/// What the next one costs; each more costs twice that.
const FIRST: Duration = Duration::from_millis(250);

/// The most that it costs.
const MOST: Duration = Duration::from_secs(4);

/// The most that an attempt waits, behind others: with the check of the password less than a gateway waits for an answer.
const PATIENCE: Duration = Duration::from_secs(6);

/// So many times closer together than attempts from one address are those from all that are not known.
const STRANGERS: u32 = 8;

/// How long an address is known from where somebody has logged in.
const KNOWN: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Keys: when the next attempt from this address may be looked at, and when the next from an unknown one; whether this one is known.
/// Arguments: what an attempt costs, what it costs all strangers, how long one may wait (in milliseconds). Answers how long this one
/// waits, and keeps its place; or, when that is too long, with less than 0: the wait for a place, negated.
static QUEUE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local time = redis.call('TIME')
        local now = time[1] * 1000 + math.floor(time[2] / 1000)
        local own, strangers, patience = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
        if redis.call('EXISTS', KEYS[3]) == 1 then
            return own
        end
        local places = { [KEYS[1]] = own, [KEYS[2]] = strangers }
        local wait = 0
        for place, cost in pairs(places) do
            places[place] = math.max(now, tonumber(redis.call('GET', place) or 0)) + cost - now
            wait = math.max(wait, places[place])
        end
        if wait > patience then
            return patience - wait
        end
        for place, till in pairs(places) do
            redis.call('SET', place, string.format('%d', now + till), 'PX', till)
        end
        return wait
        ",
    )
});

/// Key: the name's failures. Argument: how long they count, in milliseconds. A failure makes all of them count anew.
static FAIL: LazyLock<Script> =
    LazyLock::new(|| Script::new("redis.call('INCR', KEYS[1]) redis.call('PEXPIRE', KEYS[1], ARGV[1])"));

/// Why an attempt's password is not looked at.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Too many wait already; there is a place after this time.
    #[error("too many attempts wait")]
    Full(Duration),
    /// Redis does not say how long it has to wait: without it, passwords could be guessed at any speed.
    #[error(transparent)]
    Unknown(#[from] Unanswered),
}

/// See the module.
pub struct Setbacks {
    redis: Redis,
}

impl Setbacks {
    /// Counted in this Redis.
    pub fn new(redis: Redis) -> Self {
        Self { redis }
    }

    /// How long an attempt under this name, from this address, has to wait.
    pub async fn wait(&self, name: &Username, address: Option<IpAddr>) -> Result<Duration, Refused> {
        let (key, place) = (self.key(name), place(address));
        let count = self.redis.ask(async |mut redis| redis.get::<_, Option<u32>>(&key).await).await?;
        let cost = cost(count.unwrap_or_default());
        if cost.is_zero() {
            return Ok(cost);
        }
        let mut script = QUEUE.prepare_invoke();
        script.key(format!("{key}@{place}")).key(format!("{key}@")).key(self.known(name, &place));
        for time in [cost, cost / STRANGERS, PATIENCE] {
            script.arg(time.as_millis() as u64);
        }
        let wait: i64 = self.redis.ask(async |mut redis| script.invoke_async(&mut redis).await).await?;
        let length = Duration::from_millis(wait.unsigned_abs());
        if wait < 0 { Err(Refused::Full(length)) } else { Ok(length) }
    }

    /// An attempt under this name has failed.
    ///
    /// # Errors
    /// When it was not counted. Passwords could be guessed at any speed, so the attempt must not be answered.
    pub async fn note(&self, name: &Username) -> Result<(), Refused> {
        let mut script = FAIL.prepare_invoke();
        script.key(self.key(name)).arg(MINUTE.as_millis() as u64);
        Ok(self.redis.ask(async |mut redis| script.invoke_async::<()>(&mut redis).await).await?)
    }

    /// Somebody has registered or logged in under this name, from this address.
    pub async fn welcome(&self, name: &Username, address: Option<IpAddr>) {
        let (key, known) = (self.key(name), self.known(name, &place(address)));
        // What stays ends by itself, and who is not known waits longer when there is anything to wait for.
        let forgotten = self.redis.ask(async |mut redis| {
            redis::pipe()
                .del(key)
                .set_ex(known, 1, KNOWN.as_secs())
                .ignore()
                .query_async::<()>(&mut redis)
                .await
        });
        let _ = forgotten.await;
    }

    fn key(&self, name: &Username) -> String {
        self.redis.key(&format!("setbacks:{}", name.key()))
    }

    fn known(&self, name: &Username, place: &str) -> String {
        self.redis.key(&format!("known:{}@{place}", name.key()))
    }
}

fn cost(failures: u32) -> Duration {
    let Some(more) = failures.checked_sub(FREE) else { return Duration::ZERO };
    FIRST.saturating_mul(1_u32.checked_shl(more).unwrap_or(u32::MAX)).min(MOST)
}

fn place(address: Option<IpAddr>) -> String {
    address.map_or_else(|| "?".to_owned(), |address| counted(address).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there(address: &str) -> Option<IpAddr> {
        Some(address.parse().unwrap())
    }

    #[test]
    fn the_sixth_attempt_waits_and_every_further_one_longer_up_to_a_bound() {
        let waits: Vec<u128> = [0, 4, 5, 6, 8, 9, 31, 37, 38, u32::MAX].map(|n| cost(n).as_millis()).into();
        assert_eq!(waits, [0, 0, 250, 500, 2000, 4000, 4000, 4000, 4000, 4000]);
    }

    #[actix_rt::test]
    async fn failures_are_counted_by_all_together_and_forgotten_with_a_success() {
        let server = testkit::Redis::start();
        let setbacks = || Setbacks::new(Redis::new(&server.url(), 2).unwrap());
        let (here, elsewhere) = (setbacks(), setbacks());
        let (alice, bob): (Username, Username) = ("Alice".parse().unwrap(), "bob".parse().unwrap());
        connected(&here).await;
        connected(&elsewhere).await;
        for setbacks in [&here, &elsewhere, &here, &elsewhere, &here, &elsewhere] {
            setbacks.note(&"ALICE".parse().unwrap()).await.unwrap();
        }
        assert_eq!(here.wait(&alice, there("10.0.0.1")).await.unwrap(), 2 * FIRST);
        let other = elsewhere.wait(&alice, there("10.0.0.2")).await.unwrap();
        assert_eq!(other, 2 * FIRST, "each address for itself");
        assert_eq!(here.wait(&bob, there("10.0.0.1")).await.unwrap(), Duration::ZERO);
        let left: u64 = here.redis.ask(async |mut redis| redis.pttl(here.key(&alice)).await).await.unwrap();
        assert!(left <= 60_000 && left > 30_000, "{left}");
        elsewhere.welcome(&alice, None).await;
        assert_eq!(here.wait(&alice, None).await.unwrap(), Duration::ZERO);
    }

    #[actix_rt::test]
    async fn attempts_from_one_address_wait_behind_each_other_and_not_for_ever() {
        let server = testkit::Redis::start();
        let setbacks = Setbacks::new(Redis::new(&server.url(), 2).unwrap());
        connected(&setbacks).await;
        let alice: Username = "alice".parse().unwrap();
        for _ in 0..FREE + 3 {
            setbacks.note(&alice).await.unwrap();
        }
        let one = "2001:db8:1:2::1";
        let mut waits = Vec::new();
        let full = loop {
            match setbacks.wait(&alice, there(one)).await {
                Ok(wait) => waits.push(wait),
                Err(Refused::Full(after)) => break after,
                Err(error) => panic!("{error}"),
            }
        };
        // 2 s each; the time between two questions is the server's.
        assert!(waits.len() >= 3 && waits.is_sorted(), "{waits:?}");
        assert!(waits.iter().all(|wait| *wait <= PATIENCE) && waits[1] > 3 * FIRST * 4, "{waits:?}");
        assert!(full > Duration::ZERO && full <= 8 * FIRST, "{full:?}");
        let neighbour = setbacks.wait(&alice, there("2001:db8:1:2:ffff::9")).await;
        assert!(matches!(neighbour, Err(Refused::Full(_))), "the same /64: {neighbour:?}");
        let stranger = setbacks.wait(&alice, there("2001:db8:1:3::1")).await;
        assert!(stranger.is_ok_and(|wait| wait == 8 * FIRST));
    }

    #[actix_rt::test]
    async fn strangers_from_everywhere_wait_together_and_lock_nobody_out() {
        let server = testkit::Redis::start();
        let setbacks = Setbacks::new(Redis::new(&server.url(), 2).unwrap());
        connected(&setbacks).await;
        let alice: Username = "alice".parse().unwrap();
        let home = there("192.0.2.1");
        setbacks.welcome(&alice, home).await;
        for _ in 0..FREE + 3 {
            setbacks.note(&alice).await.unwrap();
        }
        // 250 ms each, all together.
        let mut places = 0;
        let full = loop {
            match setbacks.wait(&alice, there(&format!("10.0.{}.{}", places / 250, places % 250))).await {
                Ok(_) => places += 1,
                Err(Refused::Full(after)) => break after,
                Err(error) => panic!("{error}"),
            }
        };
        assert!((24..200).contains(&places) && full <= FIRST, "{places} {full:?}");
        for _ in 0..5 {
            assert!(setbacks.wait(&alice, home).await.is_ok_and(|wait| wait == 8 * FIRST), "known there");
        }
    }

    /// Connected before anything counts: a first question can come too late on a busy machine.
    async fn connected(setbacks: &Setbacks) {
        let ask = async || setbacks.redis.ask(async |mut redis| redis.get::<_, Option<u32>>("x").await).await;
        while ask().await.is_err() {}
    }
}
