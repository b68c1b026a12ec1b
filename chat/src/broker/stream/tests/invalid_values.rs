//! Keys of the stream that another program has overwritten with values that are out of range, do not parse, or are of another type.

use super::*;
use crate::{
    broker::stream::{
        record::{MessageRecord, StreamRecord},
        scripts,
    },
    redis::{MARKS, OFFSET, STREAM},
};

/// Offsets of a new epoch are below this: they begin at the time, even after a much larger value.
const FAR: u64 = 4_500_000_000_000_000;

/// Values that another program has written while nodes run, or while all nodes are stopped.
const VALUES: [&str; 30] = [
    "SET {log}:offset 9007199254740993",
    "SET {log}:offset 9223372036854775807",
    "SET {log}:offset 99999999999999999999",
    "SET {log}:offset -5",
    "SET {log}:offset 1e3",
    "SET {log}:offset 1.5",
    "SET {log}:offset \"\\xff\"",
    "SET {log}:base 99999999999999999999",
    "SET {log}:base 9007199254740993",
    "SET {log}:base -1",
    "SET {log}:base base",
    "SET {log}:epoch \"\\xff\"",
    "SET {log}:epoch another-application",
    "SET {log}:replaced 99999999999999999999",
    "SET {log}:replaced 9007199254740993",
    "SET {log}:replaced 0.5",
    "SET {log}:since 99999999999999999999",
    "SET {log}:since -1",
    "SET {log}:since since",
    "HSET {log}:heads tea 99999999999999999999",
    "HSET {log}:heads tea 9007199254740993",
    "HSET {log}:heads tea -1",
    "HSET {log}:heads tea 1.5",
    "HSET {log}:heads tea tea",
    "HSET {log}:last tea \"99999999999999999999 id\"",
    "HSET {log}:last tea last",
    "ZADD {log}:marks 1 marks",
    "SET {log}:marks another-application",
    "XADD {log}:stream 9007199254740993-0 a b",
    "XADD {log}:stream 18446744073709551615-18446744073709551615 a b",
];

impl Cluster {
    /// Publishes on both nodes, and expects that both deliver every message once, and that clients recover afterwards.
    async fn expect_intact(&self, [first, second]: [&mut Node; 2], number: usize, damage: &str) {
        let text = |what: &str| format!("{what} {number}");
        self.publish_on(second, &[&text("b")]).await;
        self.publish_on(first, &[&text("c")]).await;
        for node in [&mut *first, &mut *second] {
            node.expect_messages(&[&text("b"), &text("c")]).await;
        }
        eventually(&format!("{damage}: the stream is intact again"), async || {
            let missed = second.broker.missed(client(&[tea()]), second.broker.reached()).await;
            self.unpublished.all().await.unwrap().is_empty() && matches!(missed, Ok(Some(_)))
        })
        .await;
        let offset: u64 = raw(first, async |mut redis| redis.get(OFFSET).await).await;
        assert!(offset < FAR, "{damage}: {offset}");
        for node in [first, second] {
            assert!(node.broker.reached() < FAR, "{damage}: {}", node.broker.reached());
            eventually(&format!("{damage}: the node is not degraded"), async || {
                node.broker.not_ready_reason().is_none()
            })
            .await;
        }
    }
}

#[actix_rt::test]
async fn an_invalid_value_counts_as_lost_while_nodes_run() {
    let cluster = Cluster::on(Server::start());
    let (mut first, mut second) = (cluster.node("first").await, cluster.node("second").await);
    for (number, damage) in VALUES.into_iter().enumerate() {
        let before = format!("a {number}");
        cluster.publish_on(&first, &[&before]).await;
        first.expect_messages(&[&before]).await;
        second.expect_messages(&[&before]).await;
        cluster.server.execute(damage);
        cluster.expect_intact([&mut first, &mut second], number, damage).await;
    }
}

#[actix_rt::test]
async fn an_invalid_value_counts_as_lost_at_a_restart() {
    let cluster = Cluster::on(Server::start());
    for (number, damage) in VALUES.into_iter().enumerate() {
        let (mut first, second) = (cluster.node("first").await, cluster.node("second").await);
        let before = format!("a {number}");
        cluster.publish_on(&first, &[&before]).await;
        first.expect_messages(&[&before]).await;
        drop((first, second));
        cluster.server.execute(damage);
        let (mut first, mut second) = (cluster.node("first").await, cluster.node("second").await);
        cluster.expect_intact([&mut first, &mut second], number, damage).await;
    }
}

/// An id that was used and deleted makes the stream refuse all smaller ids.
#[actix_rt::test]
async fn a_stream_that_refuses_all_ids_is_replaced() {
    let cluster = Cluster::on(Server::start());
    let (mut first, mut second) = (cluster.node("first").await, cluster.node("second").await);
    for (number, id) in
        ["9007199254740993-0", "18446744073709551615-18446744073709551615"].into_iter().enumerate()
    {
        let use_id = format!(
            "EVAL \"redis.call('XADD', KEYS[1], ARGV[1], 'a', 'b') redis.call('XDEL', KEYS[1], ARGV[1])\" 1 {STREAM} {id}"
        );
        cluster.server.execute(&use_id);
        cluster.expect_intact([&mut first, &mut second], number, &use_id).await;
    }
}

/// A trim by such a mark would delete all records.
#[actix_rt::test]
async fn marks_that_are_no_offsets_are_ignored() {
    let cluster = Cluster::on(Server::start());
    let mut first = cluster.node("first").await;
    cluster.publish_on(&first, &["one", "two"]).await;
    first.expect_messages(&["one", "two"]).await;
    for mark in ["99999999999999999999", "9007199254740993", "4400000000000000", "-1", "1.5", "mark"] {
        cluster.server.execute(&format!("ZADD {MARKS} 1 {mark}"));
        let mut script = scripts::TRIM.prepare_invoke();
        script.key(OFFSET).key(STREAM).key(MARKS).arg(60);
        let trimmed: Option<u64> = raw(&first, async |mut redis| script.invoke_async(&mut redis).await).await;
        let left: u64 = raw(&first, async |mut redis| redis.xlen(STREAM).await).await;
        assert_eq!((trimmed, left), (None, 2), "{mark}");
        assert_eq!(cluster.server.query(&format!("ZSCORE {MARKS} {mark}")), "$-1", "it is removed");
    }
}

/// Otherwise all later messages of the room would count as duplicates.
#[actix_rt::test]
async fn a_record_with_a_number_that_the_store_lacks_is_ignored() {
    let cluster = Cluster::on(Server::start());
    let mut first = cluster.node("first").await;
    cluster.publish_on(&first, &["before"]).await;
    first.expect_messages(&["before"]).await;
    let stored = cluster.history.since(&tea(), 0, 1).await.unwrap().messages.remove(0);
    let record = StreamRecord::Message(MessageRecord::new(stored, false)).encode();
    let add = redis::Script::new(
        "redis.call('XADD', KEYS[2], string.format('%.0f-0', redis.call('INCR', KEYS[1])), 'node', 'x', 'entry', ARGV[1])",
    );
    for seq in
        ["18446744073709551615", "9007199254740993", "8000000000000000", "1000000", "-1", "1.5", "\"1\""]
    {
        let record = record.replace(r#""seq":1,"#, &format!(r#""seq":{seq},"#));
        assert!(record.contains(&format!(":{seq},")), "{record}");
        // As one step, like an append.
        let (mut script, offset) = (add.prepare_invoke(), first.broker.reached() + 1);
        script.key(OFFSET).key(STREAM).arg(record);
        raw(&first, async |mut redis| script.invoke_async::<()>(&mut redis).await).await;
        eventually("the record is read", async || first.broker.reached() >= offset).await;
        let text = format!("after {seq}");
        cluster.publish_on(&first, &[&text]).await;
        first.expect_messages(&[&text]).await;
    }
}

#[actix_rt::test]
async fn a_node_whose_writes_all_fail_names_the_reply_of_redis() {
    let cluster = Cluster::on(Server::start());
    let mut first = cluster.node("first").await;
    cluster.server.execute("ACL SETUSER godzilla -xadd");
    cluster.publish_on(&first, &["away"]).await;
    first.expect_messages(&["away"]).await;
    eventually("the node is degraded", async || {
        first.broker.not_ready_reason().is_some_and(|why| {
            why.starts_with("accepts no records")
                && why.to_lowercase().contains("permissions")
                && why.contains("xadd")
        })
    })
    .await;
    cluster.server.execute("ACL SETUSER godzilla +xadd");
    eventually("the node is not degraded", async || first.broker.not_ready_reason().is_none()).await;
    cluster.publish_on(&first, &["after"]).await;
    first.expect_messages(&["after"]).await;
}
