//! A store of messages that is restored to an older state while the stream and the nodes have newer messages.

use super::*;
use crate::directory::RoomChange;

impl Cluster {
    /// Restores the store to its state after message `seq`.
    fn restore_to(&self, seq: u64) {
        let file = rusqlite::Connection::open(self._dir.path().join("chat.sqlite3")).unwrap();
        file.busy_timeout(TIMEOUT).unwrap();
        file.execute("DELETE FROM messages WHERE seq > ?", [i64::try_from(seq).unwrap()]).unwrap();
        // A restored file has the counter of its time.
        let counter = "UPDATE sqlite_sequence SET seq = (SELECT max(\"offset\") FROM
            (SELECT \"offset\" FROM messages UNION ALL SELECT \"offset\" FROM changes))";
        file.execute(counter, []).unwrap();
    }
}

impl Node {
    async fn expect_replacement(&mut self) {
        let replaced =
            async { while !matches!(self.news.recv().await, Some(RemoteChange::HistoryReplaced)) {} };
        timeout(TIMEOUT, replaced).await.unwrap_or_else(|_| panic!("the store was replaced"));
    }
}

/// Messages that are published right after the restore: no message, messages up to the old head, and messages beyond it.
const PUBLISHED: [&[&str]; 3] = [&[], &["new 4"], &["new 4", "new 5", "new 6", "new 7"]];

#[actix_rt::test]
async fn a_restored_store_begins_a_new_history_on_every_node() {
    for texts in PUBLISHED {
        let cluster = Cluster::on(Server::start());
        let (mut first, mut second) = (cluster.node("first").await, cluster.node("second").await);
        cluster.publish_on(&first, &["1", "2", "3", "4", "5"]).await;
        first.expect_messages(&["1", "2", "3", "4", "5"]).await;
        second.expect_messages(&["1", "2", "3", "4", "5"]).await;
        let offset = first.broker.format_offset(first.broker.reached());
        cluster.restore_to(3);
        let mut batch = Vec::new();
        for text in texts {
            batch.push(cluster.store_message(text).await);
        }
        if !batch.is_empty() {
            first.broker.publish(&tea(), batch).await.unwrap();
        }
        first.expect_replacement().await;
        second.expect_replacement().await;
        for node in [&first, &second] {
            eventually("the offset is of a replaced history", async || {
                node.broker.parse_offset(&offset) == ParsedOffset::ReplacedHistory
            })
            .await;
            node.broker.subscribe(&[tea()]).await.unwrap();
        }
        eventually("the stream is repaired", async || cluster.unpublished.all().await.unwrap().is_empty())
            .await;
        // Numbers of the previous history are assigned again, and their messages are not taken for duplicates.
        cluster.publish_on(&second, &["next"]).await;
        for node in [&mut first, &mut second] {
            let delivered = node.messages_until("next").await;
            let old = ["1", "2", "3", "4", "5"];
            assert!(
                delivered.iter().all(|(text, _)| !old.contains(&text.as_str())),
                "{texts:?}: {delivered:?}"
            );
        }
    }
}

/// All nodes are stopped while the store is restored.
#[actix_rt::test]
async fn a_node_that_starts_on_a_restored_store_begins_a_new_history() {
    let cluster = Cluster::on(Server::start());
    let first = cluster.node("first").await;
    cluster.publish_on(&first, &["1", "2", "3"]).await;
    let offset = first.broker.format_offset(first.stream.offset().await.unwrap());
    drop(first);
    cluster.restore_to(2);
    let mut again = cluster.node("again").await;
    assert_eq!(
        again.broker.parse_offset(&offset),
        ParsedOffset::ReplacedHistory,
        "no client recovers from a message that does not exist"
    );
    cluster.publish_on(&again, &["another 3"]).await;
    again.expect_messages(&["another 3"]).await;
}

impl Cluster {
    /// Commits `count` changes of the room at the time `at`.
    fn commit_at(&self, at: u64, count: u64) {
        for _ in 0..count {
            self.commit(ChangeKind::Other);
            let mut rooms = self.rooms.0.lock().unwrap();
            rooms.get_mut(&tea()).unwrap().changes.last_mut().unwrap().at = Timestamp(at);
        }
    }

    /// Restores the store of rooms to its state after the change `version` of the room; 0 for the state before the room.
    fn restore_room_to(&self, version: u64) {
        let mut rooms = self.rooms.0.lock().unwrap();
        if version == 0 {
            rooms.clear();
            return;
        }
        let room = rooms.get_mut(&tea()).unwrap();
        room.version = version;
        room.changes.retain(|change| change.version <= version);
    }
}

fn changed(rev: u64) -> RoomChange {
    RoomChange {
        room: tea(),
        rev,
        what: ChangeKind::Other,
        by: None,
        items: vec![],
        members: vec![],
        offset: None,
    }
}

impl Node {
    /// The number of the last change of the room that has a record.
    async fn recorded(&self) -> Option<u64> {
        let key = self.stream.redis.key(crate::redis::REVS);
        raw(self, async |mut redis| redis.hget(key, "tea").await).await
    }

    /// The numbers of the changes that the node applies until `last`.
    async fn revs_until(&mut self, last: u64) -> Vec<u64> {
        let mut revs = Vec::new();
        while revs.last() != Some(&last) {
            let entry = timeout(TIMEOUT, self.delivered.recv()).await.expect("an entry in time");
            if let Entry::Event(RoomEvent { kind: RoomEventKind::Change(change), .. }) = entry.expect("runs")
            {
                revs.push(change.rev);
            }
        }
        revs
    }
}

/// Only changes of a room are lost, no messages. Whether nodes run meanwhile, the number of changes that the store keeps, and the number of
/// changes that are made before the nodes compare: 0, fewer than are lost, as many, and more.
#[actix_rt::test]
async fn a_store_of_rooms_that_is_restored_begins_a_new_history_on_every_node() {
    let cases = [
        (true, 2, 0),
        (true, 2, 2),
        (true, 2, 3),
        (true, 2, 4),
        (true, 0, 0),
        (true, 0, 6),
        (false, 2, 0),
        (false, 0, 0),
        (false, 2, 2),
    ];
    for (runs, kept, made) in cases {
        let what = format!("nodes run: {runs}, {kept} are kept, {made} are made");
        let cluster = Cluster::on(Server::start());
        let (mut first, mut second) = (cluster.node("first").await, cluster.node("second").await);
        for rev in 1..=5 {
            cluster.commit_at(1, 1);
            first.broker.publish_change(changed(rev));
            first.broker.wait_for_change(&tea(), rev).await;
            second.broker.wait_for_change(&tea(), rev).await;
        }
        let offset = first.broker.format_offset(first.broker.reached());
        let nodes = runs.then_some((first, second));
        cluster.restore_room_to(kept);
        cluster.commit_at(2, made);
        if let Some((first, _)) = &nodes {
            (kept + 1..=kept + made).for_each(|rev| first.broker.publish_change(changed(rev)));
        }
        (first, second) = match nodes {
            Some((mut first, mut second)) => {
                first.expect_replacement().await;
                second.expect_replacement().await;
                (first, second)
            }
            None => (cluster.node("first").await, cluster.node("second").await),
        };
        for node in [&first, &second] {
            eventually(&what, async || node.broker.parse_offset(&offset) == ParsedOffset::ReplacedHistory)
                .await;
            node.broker.subscribe(&[tea()]).await.unwrap();
        }
        // The next change has a number that was assigned before, or follows it. Each node applies it, and its record.
        let next = kept + made + 1;
        for node in [&mut first, &mut second] {
            while node.delivered.try_recv().is_ok() {}
        }
        cluster.commit_at(3, 1);
        first.broker.publish_change(changed(next));
        for node in [&mut first, &mut second] {
            assert!(node.revs_until(next).await.is_sorted(), "{what}");
        }
        eventually(&what, async || first.recorded().await == Some(next)).await;
        assert!(
            !first.stream.lacks_changes(first.stream.redis.open_epoch().await.unwrap().since).await.unwrap()
        );
    }
}

/// Records of changes that were queued before the restore are not written afterwards: their numbers would hide those of other changes.
#[actix_rt::test]
async fn queued_records_of_a_replaced_history_are_discarded() {
    let cluster = Cluster::on(Server::start());
    let mut node = cluster.node("first").await;
    cluster.commit_at(1, 5);
    node.broker.publish_change(changed(5));
    node.broker.wait_for_change(&tea(), 5).await;
    cluster.restore_room_to(2);
    // Committed before the restore.
    node.broker.publish_change(changed(7));
    node.expect_replacement().await;
    node.broker.subscribe(&[tea()]).await.unwrap();
    node.broker.flush_changes().await;
    while node.delivered.try_recv().is_ok() {}
    cluster.commit_at(2, 1);
    node.broker.publish_change(changed(3));
    node.revs_until(3).await;
    eventually("the change has a record", async || node.recorded().await == Some(3)).await;
}

/// A loss of data in Redis, whether the messages are restored at the same time, and whether nodes run meanwhile.
const RESTORES: [(&str, Loss, bool, bool); 10] = [
    ("messages alone, nodes run", Loss::None, true, true),
    ("messages alone, nodes are stopped", Loss::None, true, false),
    ("messages, and Redis restarts, nodes run", Loss::Start, true, true),
    ("messages, and Redis restarts, nodes are stopped", Loss::Start, true, false),
    ("messages, and Redis is flushed, nodes run", Loss::Flush, true, true),
    ("messages, and Redis is restored, nodes run", Loss::Older, true, true),
    ("Redis restarts", Loss::Start, false, true),
    ("Redis is flushed", Loss::Flush, false, true),
    ("Redis is flushed, nodes are stopped", Loss::Flush, false, false),
    ("Redis is restored", Loss::Older, false, true),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    None,
    Start,
    Flush,
    Older,
}

/// An offset is of a replaced history exactly when the messages were restored.
#[actix_rt::test]
async fn offsets_are_replaced_with_the_messages_and_not_with_redis() {
    for (what, loss, is_restored, runs) in RESTORES {
        let mut cluster = Cluster::on(Server::start());
        let (mut first, mut second) = (cluster.node("first").await, cluster.node("second").await);
        cluster.publish_on(&first, &["1", "2", "3"]).await;
        for node in [&mut first, &mut second] {
            node.expect_messages(&["1", "2", "3"]).await;
        }
        let old = cluster.server.copy_data();
        cluster.publish_on(&first, &["4", "5"]).await;
        for node in [&mut first, &mut second] {
            node.expect_messages(&["4", "5"]).await;
        }
        let offset = first.broker.format_offset(first.broker.reached());
        let nodes = runs.then_some((first, second));
        if is_restored {
            cluster.restore_to(3);
        }
        match loss {
            Loss::None => {}
            Loss::Start => {
                cluster.server.kill();
                cluster.server.restart();
            }
            Loss::Flush => cluster.server.execute("FLUSHALL"),
            Loss::Older => cluster.server.restore_data(&old),
        }
        let nodes = match nodes {
            Some((first, second)) => [first, second],
            None => [cluster.node("first").await, cluster.node("second").await],
        };
        let ended = if is_restored { ParsedOffset::ReplacedHistory } else { ParsedOffset::OtherEpoch };
        for node in &nodes {
            eventually(what, async || {
                node.broker.parse_offset(&offset) != ParsedOffset::Current(node.broker.reached())
            })
            .await;
            eventually(what, async || node.broker.parse_offset(&offset) == ended).await;
        }
        // Later comparisons change nothing.
        let [mut first, mut second] = nodes;
        for node in [&first, &second] {
            let _ = node.broker.subscribe(&[tea()]).await.unwrap();
        }
        let offset = [
            first.broker.format_offset(first.broker.reached()),
            second.broker.format_offset(second.broker.reached()),
        ];
        cluster.publish_on(&first, &["next"]).await;
        first.messages_until("next").await;
        second.messages_until("next").await;
        for (node, offset) in [&first, &second].into_iter().zip(&offset) {
            assert!(
                !node
                    .stream
                    .is_history_replaced(node.stream.redis.open_epoch().await.unwrap().since)
                    .await
                    .unwrap()
            );
            assert_ne!(
                node.broker.parse_offset(offset),
                ParsedOffset::ReplacedHistory,
                "{what}: no other client reloads"
            );
        }
    }
}
