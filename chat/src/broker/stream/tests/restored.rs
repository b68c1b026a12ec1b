//! A store of messages that is put back to an older state while the log and the nodes know newer messages.

use super::*;

impl Cluster {
    /// Restores the store as it was after message `seq`.
    fn is_restored_to(&self, seq: u64) {
        let file = rusqlite::Connection::open(self._dir.path().join("chat.sqlite3")).unwrap();
        file.busy_timeout(PATIENCE).unwrap();
        file.execute("DELETE FROM messages WHERE seq > ?", [i64::try_from(seq).unwrap()]).unwrap();
    }
}

impl Node {
    async fn learns_of_a_replacement(&mut self) {
        let replaced = async { while !matches!(self.news.recv().await, Some(News::Replaced)) {} };
        timeout(PATIENCE, replaced).await.unwrap_or_else(|_| panic!("the store was replaced"));
    }
}

/// Said on top of the restored store, at once: nothing, what fits below the old end, and what goes beyond it.
const SAID: [&[&str]; 3] = [&[], &["new 4"], &["new 4", "new 5", "new 6", "new 7"]];

#[actix_rt::test]
async fn a_store_that_was_restored_begins_another_history_on_every_node() {
    for said in SAID {
        let cluster = Cluster::on(Server::start());
        let (mut here, mut there) = (cluster.node("here").await, cluster.node("there").await);
        cluster.says(&here, &["1", "2", "3", "4", "5"]).await;
        here.told_exactly(&["1", "2", "3", "4", "5"]).await;
        there.told_exactly(&["1", "2", "3", "4", "5"]).await;
        let shown = here.broker.show(here.broker.reached());
        cluster.is_restored_to(3);
        let mut batch = Vec::new();
        for text in said {
            batch.push(cluster.stores(text).await);
        }
        if !batch.is_empty() {
            here.broker.publish(&tea(), batch).await.unwrap();
        }
        here.learns_of_a_replacement().await;
        there.learns_of_a_replacement().await;
        for node in [&here, &there] {
            soon("another history", async || node.broker.read(&shown) == ParsedOffset::Replaced).await;
            node.broker.subscribe(&[tea()]).await.unwrap();
        }
        soon("the log is healed", async || cluster.unpublished.all().await.unwrap().is_empty()).await;
        // Numbers that were given in the history before are given again, and are not taken for old ones.
        cluster.says(&there, &["next"]).await;
        for node in [&mut here, &mut there] {
            let told = node.tells("next").await;
            let old = ["1", "2", "3", "4", "5"];
            assert!(told.iter().all(|(text, _)| !old.contains(&text.as_str())), "{said:?}: {told:?}");
        }
    }
}

/// Everything was stopped while the store was restored.
#[actix_rt::test]
async fn a_node_that_starts_on_a_restored_store_begins_another_epoch() {
    let cluster = Cluster::on(Server::start());
    let here = cluster.node("here").await;
    cluster.says(&here, &["1", "2", "3"]).await;
    let shown = here.broker.show(here.stream.offset().await.unwrap());
    drop(here);
    cluster.is_restored_to(2);
    let mut again = cluster.node("again").await;
    assert_eq!(again.broker.read(&shown), ParsedOffset::Replaced, "nobody goes on from what is not there");
    cluster.says(&again, &["another 3"]).await;
    again.told_exactly(&["another 3"]).await;
}

/// What happens to Redis while nodes run or all are stopped, and whether the messages are restored at the same time.
const RESTORES: [(&str, Loss, bool, bool); 10] = [
    ("messages alone, nodes run", Loss::None, true, true),
    ("messages alone, nodes are stopped", Loss::None, true, false),
    ("messages, and Redis starts again, nodes run", Loss::Start, true, true),
    ("messages, and Redis starts again, nodes are stopped", Loss::Start, true, false),
    ("messages, and Redis is flushed, nodes run", Loss::Flush, true, true),
    ("messages, and Redis is put back, nodes run", Loss::Older, true, true),
    ("Redis starts again", Loss::Start, false, true),
    ("Redis is flushed", Loss::Flush, false, true),
    ("Redis is flushed, nodes are stopped", Loss::Flush, false, false),
    ("Redis is put back", Loss::Older, false, true),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    None,
    Start,
    Flush,
    Older,
}

/// A position is of a replaced history exactly when the messages were restored.
#[actix_rt::test]
async fn positions_end_with_the_messages_and_not_with_redis() {
    for (what, loss, is_restored, runs) in RESTORES {
        let mut cluster = Cluster::on(Server::start());
        let (mut here, mut there) = (cluster.node("here").await, cluster.node("there").await);
        cluster.says(&here, &["1", "2", "3"]).await;
        for node in [&mut here, &mut there] {
            node.told_exactly(&["1", "2", "3"]).await;
        }
        let old = cluster.server.copy_data();
        cluster.says(&here, &["4", "5"]).await;
        for node in [&mut here, &mut there] {
            node.told_exactly(&["4", "5"]).await;
        }
        let shown = here.broker.show(here.broker.reached());
        let nodes = runs.then_some((here, there));
        if is_restored {
            cluster.is_restored_to(3);
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
            Some((here, there)) => [here, there],
            None => [cluster.node("here").await, cluster.node("there").await],
        };
        let ended = if is_restored { ParsedOffset::Replaced } else { ParsedOffset::Elsewhere };
        for node in &nodes {
            soon(what, async || node.broker.read(&shown) != ParsedOffset::Here(node.broker.reached())).await;
            soon(what, async || node.broker.read(&shown) == ended).await;
        }
        // The next comparisons change nothing any more.
        let [mut here, mut there] = nodes;
        for node in [&here, &there] {
            let _ = node.broker.subscribe(&[tea()]).await.unwrap();
        }
        let shown = [here.broker.show(here.broker.reached()), there.broker.show(there.broker.reached())];
        cluster.says(&here, &["next"]).await;
        here.tells("next").await;
        there.tells("next").await;
        for (node, shown) in [&here, &there].into_iter().zip(&shown) {
            assert!(!node.stream.is_replaced(node.stream.redis.claim().await.unwrap().since).await.unwrap());
            assert_ne!(node.broker.read(shown), ParsedOffset::Replaced, "{what}: nobody else reloads");
        }
    }
}
