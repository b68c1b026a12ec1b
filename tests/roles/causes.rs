//! `/readyz` of each role reports the failure of its stores: the cause, and for Redis the refused command.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener},
    process::Command,
    time::{Duration, Instant},
};

use testkit::{Mongo, Redis, RedisFault};

use super::{Role, key_file};
use crate::support::{TIMEOUT, program};

/// The response of accounts to a probe of a gateway.
const ACCOUNTS: &[u8] = b"HTTP/1.1 404 Not Found\r\nContent-Length: 19\r\n\r\n{\"role\":\"accounts\"}";

/// The roles that use Redis.
const ROLES: [&str; 3] = ["gateway", "accounts", "chat"];

impl Role {
    /// Waits until `/readyz` has this status and contains all of these words, without regard to case.
    pub(super) async fn wait_for_readiness(&self, what: &str, status: u16, words: &[&str]) {
        let until = Instant::now() + TIMEOUT;
        loop {
            let (found, body) = self.admin("/readyz").await;
            if found == status && words.iter().all(|word| body.to_lowercase().contains(&word.to_lowercase()))
            {
                return;
            }
            assert!(
                Instant::now() < until,
                "{what}: {status} with {words:?} is expected, not {found} {body}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until `/readyz` does not name a store. The role may report services that the test does not start.
    pub(super) async fn wait_until_stores_work(&self, what: &str) {
        let until = Instant::now() + TIMEOUT;
        loop {
            let (status, body) = self.admin("/readyz").await;
            if status != 0 && !["Redis", "MongoDB"].iter().any(|store| body.contains(store)) {
                return;
            }
            assert!(Instant::now() < until, "{what}: the stores work, not {status} {body}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until a line of the log contains all of these words.
    pub(super) async fn wait_for_log(&self, words: &[&str]) {
        let until = Instant::now() + TIMEOUT;
        loop {
            let log = std::fs::read_to_string(self.log.path()).expect("a log");
            if log.lines().any(|line| words.iter().all(|word| line.contains(word))) {
                return;
            }
            assert!(Instant::now() < until, "no line with {words:?} in {log}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Starts a role on these stores without waiting until it is ready.
    pub(super) async fn start_on(name: &str, mongo: &str, redis: &str, key: &str) -> Self {
        Self::start_on_with(program(), name, mongo, redis, key).await
    }

    /// Like [`Role::start_on`], with a command that runs the program with further arguments.
    pub(super) async fn start_on_with(
        command: Command,
        name: &str,
        mongo: &str,
        redis: &str,
        key: &str,
    ) -> Self {
        let mongo = ["--mongo-uri", mongo];
        let accounts = answering(ACCOUNTS, 1);
        let accounts = format!("http://127.0.0.1:{accounts}");
        let more: &[&str] = match name {
            "gateway" => &["--accounts-url", &accounts],
            "chat" => &[mongo[0], mongo[1], "--node", "one"],
            _ => &mongo,
        };
        let shared = ["--redis-url", redis, "--secret-file", key];
        let mut role = Self::spawn(command, name, &[&shared[..], more].concat());
        role.wait_for_admin().await;
        role
    }
}

/// A Redis that responds to every read with these bytes, repeated for several pipelined commands; returns its URL.
fn responding(bytes: &'static [u8]) -> String {
    format!("redis://127.0.0.1:{}/0", answering(bytes, 8))
}

/// A server that responds to every read with these bytes, `times` over; returns its port.
fn answering(bytes: &'static [u8], times: usize) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = listener.local_addr().expect("a bound socket").port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut request = [0; 4096];
                while stream.read(&mut request).is_ok_and(|read| read > 0)
                    && stream.write_all(&bytes.repeat(times)).is_ok()
                {}
            });
        }
    });
    port
}

#[tokio::test]
async fn every_role_reports_why_an_address_of_redis_is_unusable() {
    let (mongo, redis) = (Mongo::start().await, Redis::start());
    // The default user has no rights, as in a Redis with named users only.
    redis.execute("ACL SETUSER default resetpass >other");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let silent = format!("redis://{}/0", listener.local_addr().expect("a bound socket"));
    let key = key_file();
    let key = key.path().to_string_lossy();
    // A TLS server responds to plain text with an alert.
    let cases = [
        (redis.url().replace("secret", "wrong"), "refuses the user or the password"),
        (redis.admin_url(), "refuses the user or the password"),
        (redis.url().replace("/0", "/99"), "number in its address"),
        ("redis://no-such-host.invalid:6379/0".to_owned(), "does not resolve"),
        ("redis://127.0.0.1:1/0".to_owned(), "refuses connections"),
        (responding(b"\x15\x03\x01\x00\x02\x02\x46"), "TLS"),
        (responding(b"-LOADING Redis is loading the dataset in memory\r\n"), "loading"),
        (responding(b"-DENIED Redis is running in protected mode\r\n"), "protected mode"),
        (responding(b"-MASTERDOWN Link with MASTER is down\r\n"), "replica"),
        (silent, "does not answer"),
    ];
    for (url, word) in &cases {
        for name in ROLES {
            let role = Role::start_on(name, &mongo.uri(), url, &key).await;
            role.wait_for_readiness(&format!("{name} with {url}"), 503, &["Redis", word, "since 2"]).await;
        }
    }
}

/// A part of the reply of Redis to a write.
fn reply(fault: RedisFault) -> &'static str {
    match fault {
        RedisFault::Full => "OOM",
        RedisFault::Demoted => "READONLY",
        RedisFault::Alone => "NOREPLICAS",
        RedisFault::NoDisk => "MISCONF",
        RedisFault::Forbidden => "grant the rights",
    }
}

/// The list of closed sessions and the table of nodes are empty on such a Redis, which is an effect and not the cause.
#[tokio::test]
async fn roles_that_start_on_a_redis_that_refuses_writes_report_its_reply() {
    let (mongo, key) = (Mongo::start().await, key_file());
    let key = key.path().to_string_lossy();
    for fault in RedisFault::ALL {
        let redis = Redis::start();
        fault.inject(&redis);
        for name in ROLES {
            let role = Role::start_on(name, &mongo.uri(), &redis.url(), &key).await;
            let words = ["Redis", fault.word(), reply(fault)];
            role.wait_for_readiness(&format!("{name} with {fault:?}"), 503, &words).await;
            if name == "accounts" {
                role.wait_for_log(&["WARN", fault.word()]).await;
            }
        }
        fault.clear(&redis);
        let role = Role::start_on("accounts", &mongo.uri(), &redis.url(), &key).await;
        role.wait_until_stores_work(&format!("accounts after {fault:?}")).await;
    }
}

/// The driver reports these causes later than the time limit of a readiness request.
#[tokio::test]
async fn roles_report_why_an_address_of_mongodb_is_unusable() {
    let (mongo, redis) = (Mongo::start().await, Redis::start());
    let key = key_file();
    let key = key.path().to_string_lossy();
    let other = mongo.uri().replace("rs0", "other");
    for name in ["accounts", "chat"] {
        let role = Role::start_on(name, &other, &redis.url(), &key).await;
        role.wait_for_readiness(
            name,
            503,
            &["MongoDB has no member of the replica set that its address names"],
        )
        .await;
    }
}

#[tokio::test]
async fn every_role_reports_the_command_that_redis_refuses() {
    let (mongo, redis) = (Mongo::start().await, Redis::start());
    let key = key_file();
    let key = key.path().to_string_lossy();
    let mut roles = Vec::new();
    for name in ROLES {
        roles.push((name, Role::start_on(name, &mongo.uri(), &redis.url(), &key).await));
    }
    let check = async |name: &str, what: &str, status: u16, words: &[&str]| {
        let (_, role) = roles.iter().find(|(role, _)| *role == name).expect("a started role");
        role.wait_for_readiness(&format!("{name}, {what}"), status, words).await;
    };
    for (name, role) in &roles {
        role.wait_until_stores_work(&format!("{name}, at first")).await;
    }
    // A permission, the roles that are not ready without it, and the roles that are degraded.
    let cases: [(&str, &[&str], &[&str]); 15] = [
        ("xadd", &[], &["chat"]),
        ("xread", &[], &["chat"]),
        ("xrange", &[], &["chat"]),
        ("xtrim", &[], &["chat"]),
        ("mset", &[], &["chat"]),
        ("evalsha", &ROLES, &[]),
        ("hset", &["chat"], &[]),
        ("hdel", &["chat"], &[]),
        ("hgetall", &["gateway"], &[]),
        ("psetex", &["chat"], &[]),
        ("mget", &ROLES, &[]),
        ("publish", &["accounts"], &[]),
        ("rpush", &["accounts"], &[]),
        ("ltrim", &["accounts"], &[]),
        ("hmget", &[], &["chat"]),
    ];
    for (right, unready, degraded) in cases {
        redis.execute(&format!("ACL SETUSER godzilla -{right}"));
        let command = right.to_uppercase();
        for name in unready {
            check(name, right, 503, &["Redis", "rights", &command, "no permissions"]).await;
        }
        for name in degraded {
            check(name, right, 200, &["\"degraded\"", "Redis", "rights", &command, "MongoDB within 2 s"])
                .await;
            let (_, role) = roles.iter().find(|(role, _)| role == name).expect("a started role");
            assert!(role.admin("/metrics").await.1.contains("godzilla_degraded 1"), "{name}, {right}");
        }
        for name in ROLES.iter().filter(|name| !unready.contains(name) && !degraded.contains(name)) {
            let (_, role) = roles.iter().find(|(role, _)| role == name).expect("a started role");
            role.wait_until_stores_work(&format!("{name}, {right}")).await;
        }
        redis.execute(&format!("ACL SETUSER godzilla +{right}"));
        for (name, role) in &roles {
            role.wait_until_stores_work(&format!("{name}, {right} again")).await;
        }
    }
    // Redis checks the permissions of subscribed connections only when they reconnect.
    redis.execute("ACL SETUSER godzilla -subscribe");
    redis.execute("CLIENT KILL TYPE pubsub");
    for name in ROLES {
        check(name, "subscribe", 503, &["Redis", "rights", "SUBSCRIBE"]).await;
    }
}
