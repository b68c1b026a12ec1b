//! Changes of rooms: applied by every node in the order of the room's versions, whatever the stream carries.

use testkit::RedisFault;

use super::*;
use crate::changes::{Change, What};

impl Cluster {
    /// Commits a change of the room, in the store alone.
    fn commits(&self, what: What) {
        let mut rooms = self.rooms.0.lock().unwrap();
        let empty = || Changed { room: tea(), version: 0, is_open: true, changes: vec![] };
        let room = rooms.entry(tea()).or_insert_with(empty);
        room.version += 1;
        room.is_open = what != What::Archived;
        room.changes.push(Change { version: room.version, at: Timestamp(1), what, is_own: false });
    }
}

impl Node {
    /// The next changes of memberships that its sockets are told.
    async fn changes(&mut self, count: usize) -> Vec<String> {
        let mut told = Vec::new();
        while told.len() < count {
            match timeout(PATIENCE, self.told.recv()).await.expect("told").expect("runs") {
                Entry::Joined { user, .. } => told.push(format!("{user} joins")),
                Entry::Left { user, .. } => told.push(format!("{user} leaves")),
                Entry::Archived { .. } => told.push("archived".to_owned()),
                Entry::Only { members, .. } => told.push(format!("{} stay", members.len())),
                Entry::Seated { user, is_in, .. } => {
                    told.push(format!("{user} is {}", if is_in { "in" } else { "out" }))
                }
                _ => {}
            }
        }
        told
    }
}

fn bob() -> Username {
    "bob".parse().unwrap()
}

/// Two nodes change a room in one order and write the stream in the other: the sockets end as the store has it.
#[actix_rt::test]
async fn entries_that_come_in_another_order_are_applied_in_the_order_of_versions() {
    let cluster = Cluster::on(Server::start());
    let (here, mut there) = (cluster.node("here").await, cluster.node("there").await);
    cluster.commits(What::Joined(bob()));
    cluster.commits(What::Left(bob()));
    here.broker.announce(&Entry::Left { room: tea(), user: bob() }).await;
    here.broker.announce(&Entry::Joined { room: tea(), user: bob() }).await;
    assert_eq!(there.changes(2).await, ["bob joins", "bob leaves"]);
    cluster.says(&here, &["fence"]).await;
    there.told_exactly(&["fence"]).await;
}

/// Nothing names the changes in the stream: the node that made them could not write it, and has ended.
#[actix_rt::test]
async fn changes_that_the_stream_lacks_are_applied_from_the_store() {
    let cluster = Cluster::on(Server::start());
    let mut there = cluster.node("there").await;
    let refusal = RedisFault::Demoted;
    refusal.inject(&cluster.server);
    cluster.commits(What::Joined(bob()));
    cluster.commits(What::Left(bob()));
    assert_eq!(there.changes(2).await, ["bob joins", "bob leaves"]);
    cluster.commits(What::Archived);
    assert_eq!(there.changes(2).await, ["archived", "0 stay"]);
    refusal.clear(&cluster.server);
    // Without Redis altogether, too.
    let mut server = cluster.server;
    server.kill();
    let cluster = Cluster { server, ..cluster };
    cluster.commits(What::Renewed(bob()));
    assert_eq!(there.changes(2).await, ["bob joins", "1 stay"]);
}

/// A change that this node itself has told too late, behind a later one of another node.
#[actix_rt::test]
async fn a_change_that_is_told_late_does_not_stay() {
    let cluster = Cluster::on(Server::start());
    let mut here = cluster.node("here").await;
    cluster.commits(What::Joined(bob()));
    cluster.commits(What::Left(bob()));
    assert_eq!(here.changes(2).await, ["bob joins", "bob leaves"]);
    here.broker.append(Entry::Joined { room: tea(), user: bob() });
    assert_eq!(here.changes(2).await, ["bob joins", "bob is out"]);
}
