//! Chat nodes and gateways with a real Redis: which nodes a gateway sees, for how long, and what happens while Redis is
//! unavailable.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use remote::redis::AsyncCommands;
use testkit::Redis;
use tokio::time::{sleep, timeout};

use super::*;

/// Only a failing test waits this long.
const TIMEOUT: Duration = Duration::from_secs(20);

const PAUSE: Duration = Duration::from_millis(5);

/// The time in milliseconds since 1970.
fn now() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()
}

fn backend(port: u16) -> Backend {
    format!("http://127.0.0.1:{port}").parse().unwrap()
}

fn table(nodes: &[(&str, u16, &str)]) -> Nodes {
    let node = |port, state| Node { backend: backend(port), is_open: state == OPEN };
    Nodes::new(nodes.iter().map(|(name, port, state)| ((*name).to_owned(), node(*port, *state))))
}

fn start(redis: &Redis, name: &str, port: u16, ttl: Duration) -> NodeLease {
    NodeLease::start(&redis.url(), name, backend(port), ttl).unwrap()
}

async fn announce(redis: &Redis, name: &str, port: u16, ttl: Duration) -> NodeLease {
    let lease = start(redis, name, port, ttl);
    lease.open().await;
    lease
}

/// Waits until the watched table equals `want`.
async fn becomes(watch: &Watcher, want: &[(&str, u16, &str)]) {
    let want = table(want);
    let mut nodes = watch.nodes();
    let seen = timeout(TIMEOUT, nodes.wait_for(|nodes| *nodes == want)).await.map(|seen| seen.is_ok());
    assert_eq!(seen, Ok(true), "expected {want:?}: {:?}", watch.nodes().borrow());
}

async fn becomes_ready(lease: &NodeLease) {
    let until = Instant::now() + TIMEOUT;
    while lease.not_ready_reason()().is_some() {
        assert!(Instant::now() < until, "not ready after {TIMEOUT:?}");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn nodes_are_listed_until_they_release_their_lease() {
    let redis = Redis::start();
    let watch = Watcher::start(&redis.url()).unwrap();
    // The lease does not expire during the test.
    let long = Duration::from_secs(3_600);
    let one = announce(&redis, "chat-1", 1, long).await;
    becomes(&watch, &[("chat-1", 1, OPEN)]).await;
    let two = announce(&redis, "chat-2", 2, long).await;
    becomes(&watch, &[("chat-1", 1, OPEN), ("chat-2", 2, OPEN)]).await;
    assert_eq!(
        (one.not_ready_reason()(), two.not_ready_reason()(), watch.not_ready_reason()),
        (None, None, None)
    );
    one.close().await;
    becomes(&watch, &[("chat-1", 1, CLOSED), ("chat-2", 2, OPEN)]).await;
    one.release().await;
    becomes(&watch, &[("chat-2", 2, OPEN)]).await;
}

#[tokio::test]
async fn a_node_acquires_its_name_before_it_opens_and_waits_for_the_holder() {
    let redis = Redis::start();
    let watch = Watcher::start(&redis.url()).unwrap();
    let long = Duration::from_secs(3_600);
    let first = start(&redis, "chat", 1, long);
    timeout(TIMEOUT, first.acquired()).await.expect("the name is free");
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
async fn the_holder_of_a_name_takes_precedence_over_a_waiting_node() {
    let redis = Redis::start();
    // The holder renews every 3 s; the waiting node tries every second.
    let ttl = Duration::from_secs(9);
    let first = announce(&redis, "chat", 1, ttl).await;
    timeout(TIMEOUT, first.acquired()).await.expect("the name is free");
    let second = start(&redis, "chat", 2, ttl);
    let waits = async {
        while second.not_ready_reason()().is_some_and(|why| why.starts_with("cannot be written")) {
            sleep(PAUSE).await
        }
    };
    timeout(TIMEOUT, waits).await.expect("the second node reaches Redis");
    let table = super::table(&redis.url()).unwrap();
    let deleted = table.ask(async |mut redis| redis.hdel::<_, _, u32>(TABLE_KEY, "chat").await).await;
    assert_eq!(deleted.unwrap(), 1);
    let stays = timeout(Duration::from_secs(5), second.acquired()).await;
    assert!(stays.is_err() && first.not_ready_reason()().is_none(), "the name changed hands");
    let lost = first.lost();
    // As if the first node had not renewed, and another one had acquired the name.
    let expires = now() + 3_600_000;
    let other = format!("{expires} http://127.0.0.1:3 open");
    table.ask(async |mut redis| redis.hset::<_, _, _, u32>(TABLE_KEY, "chat", other).await).await.unwrap();
    timeout(TIMEOUT, lost).await.expect("the first node detects the loss");
}

#[tokio::test]
async fn a_node_whose_entry_is_lost_counts_as_live_until_it_renews() {
    let redis = Redis::start();
    let watch = Watcher::start(&redis.url()).unwrap();
    // Renewed every 3 s. Gateways look more often, and keep a missing node for longer.
    let node = announce(&redis, "chat-1", 1, Duration::from_secs(9)).await;
    becomes(&watch, &[("chat-1", 1, OPEN)]).await;
    let (mut nodes, table) = (watch.nodes(), super::table(&redis.url()).unwrap());
    nodes.mark_unchanged();
    let delete_entry =
        async || table.ask(async |mut redis| redis.hdel::<_, _, u32>(TABLE_KEY, "chat-1").await).await;
    assert_eq!(delete_entry().await.unwrap(), 1);
    let until = Instant::now() + TIMEOUT;
    while delete_entry().await.unwrap() == 0 {
        assert!(Instant::now() < until, "the entry is never renewed");
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(node.not_ready_reason()(), None);
    assert!(!nodes.has_changed().unwrap(), "the node counts as live all the time");
}

#[tokio::test]
async fn an_expired_lease_removes_its_node_and_a_renewed_one_stays() {
    let redis = Redis::start();
    let short = Duration::from_secs(1);
    let silent = announce(&redis, "silent", 1, short).await;
    let lively = announce(&redis, "lively", 2, short).await;
    becomes_ready(&silent).await;
    becomes_ready(&lively).await;
    let started = Instant::now();
    // Dropped without a release, as by a crash.
    drop(silent);
    let watch = Watcher::start(&redis.url()).unwrap();
    becomes(&watch, &[("silent", 1, OPEN), ("lively", 2, OPEN)]).await;
    becomes(&watch, &[("lively", 2, OPEN)]).await;
    assert!(started.elapsed() > short, "{:?}", started.elapsed());
    assert_eq!(lively.not_ready_reason()(), None);
}

#[tokio::test]
async fn one_node_holds_a_name_at_a_time() {
    let redis = Redis::start();
    let short = Duration::from_secs(1);
    let first = announce(&redis, "chat", 1, short).await;
    becomes_ready(&first).await;
    let table = super::table(&redis.url()).unwrap();
    let second = || async {
        let mut script = lease::RENEW.prepare_invoke();
        script.key(TABLE_KEY).arg("chat").arg(backend(2).to_string()).arg(1_000).arg(OPEN).arg(1);
        table.ask(async |mut redis| script.invoke_async::<u8>(&mut redis).await).await.unwrap() == 1
    };
    assert!(!second().await, "its name is taken");
    let other = announce(&redis, "chat", 2, short).await;
    other.release().await;
    assert!(!second().await, "a release by another node does not free the name");
    drop(first);
    let until = Instant::now() + TIMEOUT;
    while !second().await {
        assert!(Instant::now() < until, "the name is never free");
    }
}

#[tokio::test]
async fn without_redis_the_last_nodes_count_as_live_and_redis_lists_them_again() {
    let mut redis = Redis::start_volatile();
    let watch = Watcher::start(&redis.url()).unwrap();
    let node = announce(&redis, "chat-1", 1, Duration::from_secs(1)).await;
    becomes(&watch, &[("chat-1", 1, OPEN)]).await;
    redis.kill();
    let mut nodes = watch.nodes();
    nodes.mark_unchanged();
    let until = Instant::now() + TIMEOUT;
    while watch.not_ready_reason().is_none() || node.not_ready_reason()().is_none() {
        assert!(Instant::now() < until, "the outage of Redis is not detected");
        sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(*watch.nodes().borrow(), table(&[("chat-1", 1, OPEN)]));
    redis.restart();
    becomes_ready(&node).await;
    while watch.not_ready_reason().is_some() {
        assert!(Instant::now() < until, "the recovery of Redis is not detected");
        sleep(Duration::from_millis(5)).await;
    }
    assert!(!nodes.has_changed().unwrap(), "the node counts as live all the time");
}

#[tokio::test]
async fn an_emptied_redis_removes_nodes_after_they_had_time_to_renew() {
    let mut redis = Redis::start_volatile();
    let watch = Watcher::start(&redis.url()).unwrap();
    let node = announce(&redis, "chat-1", 1, NodeLease::TTL).await;
    becomes(&watch, &[("chat-1", 1, OPEN)]).await;
    redis.kill();
    drop(node);
    let until = Instant::now() + TIMEOUT;
    while watch.not_ready_reason().is_none() {
        assert!(Instant::now() < until, "the outage of Redis is not detected");
        sleep(Duration::from_millis(5)).await;
    }
    redis.restart();
    let returned = Instant::now();
    becomes(&watch, &[]).await;
    assert!(returned.elapsed() > Duration::from_secs(4), "{:?}", returned.elapsed());
}

#[tokio::test]
async fn invalid_names_and_addresses_are_refused_without_being_shown() {
    let start = |url, name| NodeLease::start(url, name, backend(1), NodeLease::TTL).err();
    let node = start("redis://127.0.0.1:1", "no_underscores.or dots").unwrap();
    assert!(node.contains("--node") && !node.contains("underscores"), "{node}");
    let url = start("hunter2", "chat").unwrap();
    assert!(url.contains("address of Redis") && !url.contains("hunter2"), "{url}");
}

#[tokio::test]
async fn deployments_have_separate_tables_of_nodes() {
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
