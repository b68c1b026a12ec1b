//! Chat nodes and gateways on a real Redis: who is seen, for how long, and what happens while Redis is away.

use std::time::{Duration, Instant};

use gateway::{Backend, Node, Nodes};
use remote::redis::AsyncCommands;
use testkit::Redis;
use tokio::time::{sleep, timeout};

use super::*;

/// Nothing is concluded from its passing but failure.
const TIMEOUT: Duration = Duration::from_secs(20);

const PAUSE: Duration = Duration::from_millis(5);

fn backend(port: u16) -> Backend {
    format!("http://127.0.0.1:{port}").parse().unwrap()
}

fn table(nodes: &[(&str, u16, &str)]) -> Nodes {
    let node = |port, state| Node { backend: backend(port), is_open: state == OPEN };
    Nodes::new(nodes.iter().map(|(name, port, state)| ((*name).to_owned(), node(*port, *state))))
}

fn table_of(redis: &Redis) -> remote::Redis {
    remote::Redis::new(&redis.url(), 1).unwrap()
}

fn start(redis: &Redis, name: &str, port: u16, ttl: Duration) -> NodeLease {
    NodeLease::start(&redis.url(), name, backend(port), ttl).unwrap()
}

async fn announce(redis: &Redis, name: &str, port: u16, ttl: Duration) -> NodeLease {
    let lease = start(redis, name, port, ttl);
    lease.open().await;
    lease
}

/// Waits until the watched table is this one.
async fn becomes(watch: &Watcher, want: &[(&str, u16, &str)]) {
    let want = table(want);
    let mut nodes = watch.nodes();
    let seen = timeout(TIMEOUT, nodes.wait_for(|nodes| *nodes == want)).await.map(|seen| seen.is_ok());
    assert_eq!(seen, Ok(true), "{want:?} is not what is seen: {:?}", watch.nodes().borrow());
}

async fn becomes_ready(lease: &NodeLease) {
    let until = Instant::now() + TIMEOUT;
    while lease.not_ready_reason()().is_some() {
        assert!(Instant::now() < until, "not known after {PATIENCE:?}");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn nodes_are_seen_while_they_live_and_not_after_they_have_withdrawn() {
    let redis = Redis::start();
    let watch = Watcher::start(&redis.url()).unwrap();
    // Nothing but a word ends such a lease here.
    let long = Duration::from_secs(3_600);
    let one = announce(&redis, "chat-1", 1, long).await;
    becomes(&watch, &[("chat-1", 1, OPEN)]).await;
    let two = announce(&redis, "chat-2", 2, long).await;
    becomes(&watch, &[("chat-1", 1, OPEN), ("chat-2", 2, OPEN)]).await;
    assert_eq!(
        (one.not_ready_reason()(), two.not_ready_reason()(), watch.not_ready_reason().await),
        (None, None, None)
    );
    one.close().await;
    becomes(&watch, &[("chat-1", 1, CLOSED), ("chat-2", 2, OPEN)]).await;
    one.release().await;
    becomes(&watch, &[("chat-2", 2, OPEN)]).await;
}

#[tokio::test]
async fn a_node_has_its_name_before_anybody_is_sent_to_it_and_waits_for_who_has_it() {
    let redis = Redis::start();
    let watch = Watcher::start(&redis.url()).unwrap();
    let long = Duration::from_secs(3_600);
    let first = start(&redis, "chat", 1, long);
    timeout(TIMEOUT, first.acquired()).await.expect("nobody else has the name");
    becomes(&watch, &[("chat", 1, CLOSED)]).await;
    let second = start(&redis, "chat", 2, Duration::from_secs(1));
    let before = timeout(Duration::from_secs(2), second.acquired()).await;
    assert!(before.is_err(), "two nodes of one name");
    assert!(
        second.not_ready_reason()()
            .is_some_and(|not_ready_reason| not_ready_reason.contains("another node of this name"))
    );
    first.release().await;
    timeout(TIMEOUT, second.acquired()).await.expect("the name is free");
    becomes(&watch, &[("chat", 2, CLOSED)]).await;
}

#[tokio::test]
async fn who_has_a_name_and_lives_comes_before_who_waits_for_it() {
    let redis = Redis::start();
    // Renewed every 3 s; who waits asks each second.
    let ttl = Duration::from_secs(9);
    let first = announce(&redis, "chat", 1, ttl).await;
    timeout(TIMEOUT, first.acquired()).await.expect("nobody else has the name");
    let second = start(&redis, "chat", 2, ttl);
    let waits = async {
        while second.not_ready_reason()().is_some_and(|why| why.starts_with("cannot be written")) {
            sleep(PAUSE).await
        }
    };
    timeout(TIMEOUT, waits).await.expect("it asks");
    let table = super::table(&redis.url()).unwrap();
    let forgotten = table.ask(async |mut redis| redis.hdel::<_, _, u32>(TABLE_KEY, "chat").await).await;
    assert_eq!(forgotten.unwrap(), 1);
    let stays = timeout(Duration::from_secs(5), second.acquired()).await;
    assert!(stays.is_err() && first.not_ready_reason()().is_none(), "the name changed hands");
    let lost = first.lost();
    // As if it had been silent, and another one had the name when it speaks again.
    let other = "9999999999999 http://127.0.0.1:3 open";
    table.ask(async |mut redis| redis.hset::<_, _, _, u32>(TABLE_KEY, "chat", other).await).await.unwrap();
    timeout(TIMEOUT, lost).await.expect("it is told that the name is gone");
}

#[tokio::test]
async fn a_node_that_redis_has_forgotten_is_believed_in_until_it_announces_itself_again() {
    let redis = Redis::start();
    let watch = Watcher::start(&redis.url()).unwrap();
    // Renewed every 3 s: gateways look more often, and have more patience.
    let node = announce(&redis, "chat-1", 1, Duration::from_secs(9)).await;
    becomes(&watch, &[("chat-1", 1, OPEN)]).await;
    let (mut nodes, table) = (watch.nodes(), super::table(&redis.url()).unwrap());
    nodes.mark_unchanged();
    let forget =
        async || table.ask(async |mut redis| redis.hdel::<_, _, u32>(TABLE_KEY, "chat-1").await).await;
    assert_eq!(forget().await.unwrap(), 1);
    let until = Instant::now() + TIMEOUT;
    while forget().await.unwrap() == 0 {
        assert!(Instant::now() < until, "it never announces itself again");
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(node.not_ready_reason()(), None);
    assert!(!nodes.has_changed().unwrap(), "it was never doubted");
}

#[tokio::test]
async fn a_node_that_falls_silent_leaves_with_its_lease_and_one_that_renews_stays() {
    let redis = Redis::start();
    let short = Duration::from_secs(1);
    let silent = announce(&redis, "silent", 1, short).await;
    let lively = announce(&redis, "lively", 2, short).await;
    becomes_ready(&silent).await;
    becomes_ready(&lively).await;
    let started = Instant::now();
    // Dropped without a word, as by a crash.
    drop(silent);
    let watch = Watcher::start(&redis.url()).unwrap();
    becomes(&watch, &[("silent", 1, OPEN), ("lively", 2, OPEN)]).await;
    becomes(&watch, &[("lively", 2, OPEN)]).await;
    assert!(started.elapsed() > short, "{:?}", started.elapsed());
    assert_eq!(lively.not_ready_reason()(), None);
}

#[tokio::test]
async fn a_name_is_one_nodes_at_a_time() {
    let redis = Redis::start();
    let short = Duration::from_secs(1);
    let first = announce(&redis, "chat", 1, short).await;
    becomes_ready(&first).await;
    let table = super::table(&redis.url()).unwrap();
    let second = || async {
        let mut script = scripts::RENEW.prepare_invoke();
        script.key(TABLE_KEY).arg("chat").arg(backend(2).to_string()).arg(1_000).arg(OPEN).arg(1);
        table.ask(async |mut redis| script.invoke_async::<u8>(&mut redis).await).await.unwrap() == 1
    };
    assert!(!second().await, "its name is taken");
    let other = announce(&redis, "chat", 2, short).await;
    other.release().await;
    assert!(!second().await, "who has the name keeps it when another one withdraws");
    drop(first);
    let until = Instant::now() + TIMEOUT;
    while !second().await {
        assert!(Instant::now() < until, "the name is never free");
    }
}

#[tokio::test]
async fn without_redis_the_last_nodes_are_believed_in_and_they_come_back_with_it() {
    let mut redis = Redis::start_volatile();
    let watch = Watcher::start(&redis.url()).unwrap();
    let node = announce(&redis, "chat-1", 1, Duration::from_secs(1)).await;
    becomes(&watch, &[("chat-1", 1, OPEN)]).await;
    redis.kill();
    let mut nodes = watch.nodes();
    nodes.mark_unchanged();
    let until = Instant::now() + TIMEOUT;
    while watch.not_ready_reason().await.is_none() || node.not_ready_reason()().is_none() {
        assert!(Instant::now() < until, "nobody notices that Redis is away");
        sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(*watch.nodes().borrow(), table(&[("chat-1", 1, OPEN)]));
    redis.restart();
    becomes_ready(&node).await;
    while watch.not_ready_reason().await.is_some() {
        assert!(Instant::now() < until, "nobody notices that Redis is back");
        sleep(Duration::from_millis(5)).await;
    }
    assert!(!nodes.has_changed().unwrap(), "it was never doubted");
}

#[tokio::test]
async fn a_redis_that_comes_back_empty_is_believed_after_nodes_had_time_to_announce_themselves_again() {
    let mut redis = Redis::start_volatile();
    let watch = Watcher::start(&redis.url()).unwrap();
    let node = announce(&redis, "chat-1", 1, NodeLease::TTL).await;
    becomes(&watch, &[("chat-1", 1, OPEN)]).await;
    redis.kill();
    drop(node);
    let until = Instant::now() + TIMEOUT;
    while watch.not_ready_reason().await.is_none() {
        assert!(Instant::now() < until, "nobody notices that Redis is away");
        sleep(Duration::from_millis(5)).await;
    }
    redis.restart();
    let returned = Instant::now();
    becomes(&watch, &[]).await;
    assert!(returned.elapsed() > Duration::from_secs(4), "{:?}", returned.elapsed());
}

#[tokio::test]
async fn a_redis_that_hangs_costs_a_quarter_of_a_second() {
    let redis = Redis::start();
    redis.pause();
    let table = super::table(&redis.url()).unwrap();
    let started = Instant::now();
    let asked = table
        .ask(async |mut redis| scripts::LIVE.key(TABLE_KEY).invoke_async::<Vec<String>>(&mut redis).await);
    assert!(matches!(asked.await, Err(remote::Unanswered::Late)));
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    redis.resume();
}

#[tokio::test]
async fn names_and_addresses_that_cannot_be_are_refused_without_being_shown() {
    let start = |url, name| NodeLease::start(url, name, backend(1), NodeLease::TTL).err();
    let node = start("redis://127.0.0.1:1", "no_underscores.or dots").unwrap();
    assert!(node.contains("--node") && !node.contains("underscores"), "{node}");
    let url = start("hunter2", "chat").unwrap();
    assert!(url.contains("--redis-url") && !url.contains("hunter2"), "{url}");
}

/// No node can renew its lease in a Redis that refuses writes, and all of them live.
#[tokio::test]
async fn nodes_stay_known_while_redis_refuses_writes() {
    for refusal in testkit::RedisFault::ALL {
        let redis = Redis::start();
        let ttl = Duration::from_millis(600);
        let watch = Watcher::start(&redis.url()).unwrap();
        let _one = announce(&redis, "chat-1", 1, ttl).await;
        becomes(&watch, &[("chat-1", 1, OPEN)]).await;
        refusal.inject(&redis);
        let table = table_of(&redis);
        let is_over = async || {
            let entry: String =
                table.ask(async |mut redis| redis.hget(TABLE_KEY, "chat-1").await).await.unwrap();
            let (seconds, _): (u64, u64) = table
                .ask(async |mut redis| remote::redis::cmd("TIME").query_async(&mut redis).await)
                .await
                .unwrap();
            let expires: u64 = entry.split(' ').next().unwrap().parse().unwrap();
            seconds * 1000 > expires + 1000
        };
        timeout(TIMEOUT, async { while !is_over().await {} }).await.expect("the lease ends");
        // Also for a gateway that starts only now.
        let late = Watcher::start(&redis.url()).unwrap();
        becomes(&late, &[("chat-1", 1, OPEN)]).await;
        becomes(&watch, &[("chat-1", 1, OPEN)]).await;
        refusal.clear(&redis);
        becomes_ready(&_one).await;
    }
}

#[tokio::test]
async fn nodes_of_other_deployments_are_not_seen_and_may_have_the_same_names() {
    let redis = Redis::start();
    let at = |name: &str| remote::Location::new(&redis.url(), &name.parse().unwrap());
    let long = Duration::from_secs(3_600);
    let announce = async |name: &str, port| {
        let lease = NodeLease::start(at(name), "chat-1", backend(port), long).unwrap();
        becomes_ready(&lease).await;
        lease.open().await;
        lease
    };
    let _nodes = [announce("", 1).await, announce("blue", 2).await, announce("green", 3).await];
    for (name, port) in [("", 1), ("blue", 2), ("green", 3)] {
        becomes(&Watcher::start(at(name)).unwrap(), &[("chat-1", port, OPEN)]).await;
    }
}

#[test]
fn the_name_of_every_host_gives_a_name_of_a_node() {
    let long = "a-pod-with-a-very-long-name-".repeat(3);
    let hosts = [
        "chat-1",
        "chat-1.eu.example.com",
        "my_host",
        &format!("{long}1"),
        &format!("{long}2.example.com"),
        "",
        ".",
        "h\u{f6}st",
    ];
    for host in hosts {
        let name = chat::config::node_of(host);
        assert!(NodeLease::check_name(&name).is_ok(), "{host}: {name}");
    }
    assert_eq!(chat::config::node_of("chat-1"), "chat-1");
    assert_eq!(chat::config::node_of("chat-1.eu.example.com"), "chat-1");
    assert_ne!(chat::config::node_of(&format!("{long}1")), chat::config::node_of(&format!("{long}2")));
}
