//! Throttle of failed logins per name, shared by all processes in Redis. After [`FREE`] failures within a minute, each further attempt
//! is delayed before its password is checked. Attempts from untrusted addresses (without a successful login or registration of this name)
//! also queue: per address, and with a shorter interval over all untrusted addresses. So the rate of guesses is bounded for any number of
//! addresses. Attempts from trusted addresses are only delayed, so that others cannot lock a user out.

use std::{net::IpAddr, sync::LazyLock, time::Duration};

use proto::{Username, address::counted};
use remote::{
    Redis, Unanswered,
    redis::{self, Script},
};

/// Time that a failure counts.
const WINDOW: Duration = Duration::from_secs(60);

/// Number of failures in the window without a delay.
const FREE: u32 = 5;

/// Delay after the next failure. It doubles with each failure.
const FIRST_DELAY: Duration = Duration::from_millis(250);

/// Maximum delay.
const MAX_DELAY: Duration = Duration::from_secs(4);

/// Maximum time in the queue. Together with the password check it is shorter than the gateway's timeout.
const MAX_WAIT: Duration = Duration::from_secs(6);

/// Ratio of the interval per unknown address to the interval over all untrusted addresses.
const UNKNOWN_RATIO: u32 = 8;

/// Time that an address stays trusted after a login.
const TRUSTED_FOR: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Keys: time of the next attempt from this address; time of the next attempt from any unknown address; marker of a trusted address.
/// Arguments in milliseconds: interval per address, interval over all untrusted addresses, maximum wait. Returns the wait of this attempt
/// and reserves it. If the wait exceeds the maximum, returns a negative value: the negated time until a retry can succeed.
/// Values that are no times, or beyond the maximum wait, count as absent.
static QUEUE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local time = redis.call('TIME')
        local now = time[1] * 1000 + math.floor(time[2] / 1000)
        local own, strangers, patience = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
        if redis.call('EXISTS', KEYS[3]) == 1 then
            return own
        end
        local function number(key)
            local value = redis.pcall('GET', key)
            if type(value) == 'table' and not string.find(value.err, 'WRONGTYPE', 1, true) then return redis.call('GET', key) end
            return tonumber(type(value) == 'string' and string.match(value, '^%d+$') or '') or 0
        end
        local places = { [KEYS[1]] = own, [KEYS[2]] = strangers }
        local wait = 0
        for place, cost in pairs(places) do
            local next = number(place)
            -- No attempt waits that long: another program has written the value, or the clock was set back.
            if next > now + patience then next = now end
            places[place] = math.max(now, next) + cost - now
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

/// Key: counter of the name's failures. Argument: window in milliseconds. Each failure restarts the window. A counter that is no number,
/// or has more than 9 digits, begins again.
static FAIL: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local count = redis.pcall('GET', KEYS[1])
        if type(count) == 'table' and not string.find(count.err, 'WRONGTYPE', 1, true) then return count end
        if count and (type(count) ~= 'string' or #count > 9 or not string.match(count, '^%d+$')) then
            redis.call('DEL', KEYS[1])
        end
        redis.call('INCR', KEYS[1])
        redis.call('PEXPIRE', KEYS[1], ARGV[1])
        ",
    )
});

/// Reason for refusing an attempt before its password is checked.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Too many attempts are waiting. Contains the time after which a retry can succeed.
    #[error("too many attempts are waiting")]
    Busy(Duration),
    /// Redis does not respond. Without the throttle, passwords could be guessed at any rate, so the attempt is refused.
    #[error(transparent)]
    Store(#[from] Unanswered),
}

/// The throttle.
pub struct LoginThrottle {
    redis: Redis,
}

impl LoginThrottle {
    /// A throttle in `redis`.
    pub fn new(redis: Redis) -> Self {
        Self { redis }
    }

    /// The delay of an attempt for `name` from `address`.
    pub async fn delay(&self, name: &Username, address: Option<IpAddr>) -> Result<Duration, Refused> {
        let (key, place) = (self.key(name), place(address));
        // `MGET` returns nothing for a key of another type, which another program has written.
        let mut read = redis::cmd("MGET");
        read.arg(&key);
        let [count]: [Option<Vec<u8>>; 1] =
            self.redis.ask(async |mut redis| read.query_async(&mut redis).await).await?;
        let count = count.and_then(|count| std::str::from_utf8(&count).ok()?.parse().ok());
        let cost = cost(count.unwrap_or_default());
        if cost.is_zero() {
            return Ok(cost);
        }
        let mut script = QUEUE.prepare_invoke();
        script.key(format!("{key}@{place}")).key(format!("{key}@")).key(self.trusted(name, &place));
        for time in [cost, cost / UNKNOWN_RATIO, MAX_WAIT] {
            script.arg(time.as_millis() as u64);
        }
        let wait: i64 = self.redis.ask(async |mut redis| script.invoke_async(&mut redis).await).await?;
        let length = Duration::from_millis(wait.unsigned_abs());
        if wait < 0 { Err(Refused::Busy(length)) } else { Ok(length) }
    }

    /// Records a failed attempt for `name`.
    ///
    /// # Errors
    /// When the failure was not recorded. Then the caller must not reveal the result, because passwords could be guessed at any rate.
    pub async fn record_failure(&self, name: &Username) -> Result<(), Refused> {
        let mut script = FAIL.prepare_invoke();
        script.key(self.key(name)).arg(WINDOW.as_millis() as u64);
        Ok(self.redis.ask(async |mut redis| script.invoke_async::<()>(&mut redis).await).await?)
    }

    /// Records a registration or login of `name` from `address`: clears its failures and marks the address as trusted.
    pub async fn record_success(&self, name: &Username, address: Option<IpAddr>) {
        let (key, trusted) = (self.key(name), self.trusted(name, &place(address)));
        // Entries expire. If this fails, the address stays unknown.
        let recorded = self.redis.ask(async |mut redis| {
            redis::pipe()
                .del(key)
                .set_ex(trusted, 1, TRUSTED_FOR.as_secs())
                .ignore()
                .query_async::<()>(&mut redis)
                .await
        });
        let _ = recorded.await;
    }

    fn key(&self, name: &Username) -> String {
        self.redis.key(&format!("setbacks:{}", name.key()))
    }

    fn trusted(&self, name: &Username, place: &str) -> String {
        self.redis.key(&format!("known:{}@{place}", name.key()))
    }
}

fn cost(failures: u32) -> Duration {
    let Some(more) = failures.checked_sub(FREE) else { return Duration::ZERO };
    FIRST_DELAY.saturating_mul(1_u32.checked_shl(more).unwrap_or(u32::MAX)).min(MAX_DELAY)
}

fn place(address: Option<IpAddr>) -> String {
    address.map_or_else(|| "?".to_owned(), |address| counted(address).to_string())
}

#[cfg(test)]
mod tests {
    use remote::redis::AsyncCommands;

    use super::*;

    fn there(address: &str) -> Option<IpAddr> {
        Some(address.parse().unwrap())
    }

    #[test]
    fn the_sixth_attempt_is_delayed_and_the_delay_doubles_up_to_a_maximum() {
        let waits: Vec<u128> = [0, 4, 5, 6, 8, 9, 31, 37, 38, u32::MAX].map(|n| cost(n).as_millis()).into();
        assert_eq!(waits, [0, 0, 250, 500, 2000, 4000, 4000, 4000, 4000, 4000]);
    }

    #[actix_rt::test]
    async fn failures_are_shared_by_all_processes_and_cleared_by_a_success() {
        let server = testkit::Redis::start();
        let throttle = || LoginThrottle::new(Redis::new(&server.url(), 2).unwrap());
        let (here, elsewhere) = (throttle(), throttle());
        let (alice, bob): (Username, Username) = ("Alice".parse().unwrap(), "bob".parse().unwrap());
        connected(&here).await;
        connected(&elsewhere).await;
        for throttle in [&here, &elsewhere, &here, &elsewhere, &here, &elsewhere] {
            throttle.record_failure(&"ALICE".parse().unwrap()).await.unwrap();
        }
        assert_eq!(here.delay(&alice, there("10.0.0.1")).await.unwrap(), 2 * FIRST_DELAY);
        let other = elsewhere.delay(&alice, there("10.0.0.2")).await.unwrap();
        assert_eq!(other, 2 * FIRST_DELAY, "each address has its own queue");
        assert_eq!(here.delay(&bob, there("10.0.0.1")).await.unwrap(), Duration::ZERO);
        let left: u64 = here.redis.ask(async |mut redis| redis.pttl(here.key(&alice)).await).await.unwrap();
        assert!(left <= 60_000 && left > 30_000, "{left}");
        elsewhere.record_success(&alice, None).await;
        assert_eq!(here.delay(&alice, None).await.unwrap(), Duration::ZERO);
    }

    #[actix_rt::test]
    async fn attempts_from_one_address_queue_up_to_a_maximum() {
        let server = testkit::Redis::start();
        let throttle = LoginThrottle::new(Redis::new(&server.url(), 2).unwrap());
        connected(&throttle).await;
        let alice: Username = "alice".parse().unwrap();
        for _ in 0..FREE + 3 {
            throttle.record_failure(&alice).await.unwrap();
        }
        let one = "2001:db8:1:2::1";
        let mut waits = Vec::new();
        let full = loop {
            match throttle.delay(&alice, there(one)).await {
                Ok(wait) => waits.push(wait),
                Err(Refused::Busy(after)) => break after,
                Err(error) => panic!("{error}"),
            }
        };
        // 2 s each. The server's clock determines the time between two attempts.
        assert!(waits.len() >= 3 && waits.is_sorted(), "{waits:?}");
        assert!(waits.iter().all(|wait| *wait <= MAX_WAIT) && waits[1] > 3 * FIRST_DELAY * 4, "{waits:?}");
        assert!(full > Duration::ZERO && full <= 8 * FIRST_DELAY, "{full:?}");
        let neighbour = throttle.delay(&alice, there("2001:db8:1:2:ffff::9")).await;
        assert!(matches!(neighbour, Err(Refused::Busy(_))), "the same /64: {neighbour:?}");
        let unknown = throttle.delay(&alice, there("2001:db8:1:3::1")).await;
        assert!(unknown.is_ok_and(|wait| wait == 8 * FIRST_DELAY));
    }

    #[actix_rt::test]
    async fn attempts_from_unknown_addresses_share_a_queue_and_trusted_addresses_do_not() {
        let server = testkit::Redis::start();
        let throttle = LoginThrottle::new(Redis::new(&server.url(), 2).unwrap());
        connected(&throttle).await;
        let alice: Username = "alice".parse().unwrap();
        let home = there("192.0.2.1");
        throttle.record_success(&alice, home).await;
        for _ in 0..FREE + 3 {
            throttle.record_failure(&alice).await.unwrap();
        }
        // 250 ms each over all addresses.
        let mut places = 0;
        let full = loop {
            match throttle.delay(&alice, there(&format!("10.0.{}.{}", places / 250, places % 250))).await {
                Ok(_) => places += 1,
                Err(Refused::Busy(after)) => break after,
                Err(error) => panic!("{error}"),
            }
        };
        assert!((24..200).contains(&places) && full <= FIRST_DELAY, "{places} {full:?}");
        for _ in 0..5 {
            assert!(
                throttle.delay(&alice, home).await.is_ok_and(|wait| wait == 8 * FIRST_DELAY),
                "trusted address"
            );
        }
    }

    /// Overwritten counters and times begin again. They neither refuse a user for good nor end the throttle.
    #[actix_rt::test]
    async fn values_of_another_program_count_as_absent() {
        let server = testkit::Redis::start();
        let throttle = LoginThrottle::new(Redis::new(&server.url(), 2).unwrap());
        connected(&throttle).await;
        let alice: Username = "alice".parse().unwrap();
        let key = throttle.key(&alice);
        let home = there("192.0.2.1");
        let place = format!("{key}@{}", place(home));
        let values = ["99999999999999999999", "9223372036854775807", "-5", "1.5", "1e3", "text", "\"\\xff\""];
        let commands = |key: &str| {
            let set = values.map(|value| format!("SET {key} {value}"));
            set.into_iter().chain([format!("RPUSH {key} 1"), format!("HSET {key} a b")]).collect::<Vec<_>>()
        };
        for command in commands(&key) {
            server.execute(&format!("DEL {key}"));
            server.execute(&command);
            assert!(throttle.delay(&alice, home).await.is_ok(), "{command}");
            for _ in 0..=FREE {
                throttle.record_failure(&alice).await.unwrap();
            }
            let wait = throttle.delay(&alice, home).await.unwrap();
            assert!(!wait.is_zero() && wait <= MAX_WAIT, "{command}: the failures count: {wait:?}");
            server.execute(&format!("DEL {place} {key}@"));
        }
        for shared in [place, format!("{key}@")] {
            for command in commands(&shared) {
                server.execute(&format!("DEL {shared}"));
                server.execute(&command);
                let wait = throttle.delay(&alice, home).await;
                assert!(wait.as_ref().is_ok_and(|wait| *wait <= MAX_WAIT), "{command}: {wait:?}");
                server.execute(&format!("DEL {key}@{} {key}@", super::place(home)));
            }
        }
    }

    /// Waits for the connection, because a first command can time out on a busy machine.
    async fn connected(throttle: &LoginThrottle) {
        let ask = async || throttle.redis.ask(async |mut redis| redis.get::<_, Option<u32>>("x").await).await;
        while ask().await.is_err() {}
    }
}
