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
        let shown = here.log.show(here.log.reached());
        cluster.is_restored_to(3);
        let mut batch = Vec::new();
        for text in said {
            batch.push(cluster.stores(text).await);
        }
        if !batch.is_empty() {
            here.log.publish(&tea(), batch).await.unwrap();
        }
        here.learns_of_a_replacement().await;
        there.learns_of_a_replacement().await;
        for node in [&here, &there] {
            soon("another epoch", async || node.log.read(&shown) == Shown::Elsewhere).await;
            node.log.attend(&[tea()]).await.unwrap();
        }
        soon("the log is healed", async || cluster.untold.all().await.unwrap().is_empty()).await;
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
    let shown = here.log.show(here.stream.offset().await.unwrap());
    drop(here);
    cluster.is_restored_to(2);
    let mut again = cluster.node("again").await;
    assert_eq!(again.log.read(&shown), Shown::Elsewhere, "nobody goes on from what is not there");
    cluster.says(&again, &["another 3"]).await;
    again.told_exactly(&["another 3"]).await;
}
