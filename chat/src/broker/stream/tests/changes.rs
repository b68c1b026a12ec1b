//! Changes of rooms: every node applies them in the order of the room's versions, independent of the records in the stream.

use testkit::RedisFault;

use super::*;
use crate::changes::{AT_ONCE, Change, ChangeKind};

impl Cluster {
    /// Commits a change of the room in the store only.
    fn commit(&self, what: ChangeKind) {
        let mut rooms = self.rooms.0.lock().unwrap();
        let empty = || Changed { room: tea(), version: 0, is_open: true, changes: vec![] };
        let room = rooms.entry(tea()).or_insert_with(empty);
        room.version += 1;
        room.is_open = what != ChangeKind::Archived;
        room.changes.push(Change { version: room.version, at: Timestamp(1), what, is_own: false });
    }
}

impl Node {
    /// The next changes of memberships that the node applies.
    async fn changes(&mut self, count: usize) -> Vec<String> {
        let mut delivered = Vec::new();
        while delivered.len() < count {
            match timeout(TIMEOUT, self.delivered.recv()).await.expect("an entry in time").expect("runs") {
                Entry::Joined { user, .. } => delivered.push(format!("{user} joins")),
                Entry::Left { user, .. } => delivered.push(format!("{user} leaves")),
                Entry::Archived { .. } => delivered.push("archived".to_owned()),
                Entry::SetMembers { members, .. } => delivered.push(format!("set {} members", members.len())),
                Entry::SetMembership { user, is_member, .. } => {
                    delivered.push(format!("{user} is {}", if is_member { "in" } else { "out" }))
                }
                _ => {}
            }
        }
        delivered
    }
}

fn bob() -> Username {
    "bob".parse().unwrap()
}

/// Two nodes change a room in one order and publish in the other. The sockets end in the state of the store.
#[actix_rt::test]
async fn records_in_another_order_are_applied_in_the_order_of_versions() {
    let cluster = Cluster::on(Server::start());
    let (first, mut second) = (cluster.node("first").await, cluster.node("second").await);
    cluster.commit(ChangeKind::Joined(bob()));
    cluster.commit(ChangeKind::Left(bob()));
    first.broker.announce(&Entry::Left { room: tea(), user: bob() }).await;
    first.broker.announce(&Entry::Joined { room: tea(), user: bob() }).await;
    assert_eq!(second.changes(2).await, ["bob joins", "bob leaves"]);
    cluster.publish_on(&first, &["fence"]).await;
    second.expect_messages(&["fence"]).await;
}

/// No record announces the changes, because the node that made them could not write to the stream and has ended.
#[actix_rt::test]
async fn changes_that_the_stream_lacks_are_applied_from_the_store() {
    let cluster = Cluster::on(Server::start());
    let mut second = cluster.node("second").await;
    let refusal = RedisFault::Demoted;
    refusal.inject(&cluster.server);
    cluster.commit(ChangeKind::Joined(bob()));
    cluster.commit(ChangeKind::Left(bob()));
    assert_eq!(second.changes(2).await, ["bob joins", "bob leaves"]);
    cluster.commit(ChangeKind::Archived);
    assert_eq!(second.changes(2).await, ["archived", "set 0 members"]);
    refusal.clear(&cluster.server);
    // The same without Redis.
    let mut server = cluster.server;
    server.kill();
    let cluster = Cluster { server, ..cluster };
    cluster.commit(ChangeKind::Renewed(bob()));
    assert_eq!(second.changes(2).await, ["bob joins", "set 1 members"]);
}

/// A change that this node itself appends late, after a later one of another node.
#[actix_rt::test]
async fn a_change_that_is_appended_late_is_corrected() {
    let cluster = Cluster::on(Server::start());
    let mut first = cluster.node("first").await;
    cluster.commit(ChangeKind::Joined(bob()));
    cluster.commit(ChangeKind::Left(bob()));
    assert_eq!(first.changes(2).await, ["bob joins", "bob leaves"]);
    first.broker.append(Entry::Joined { room: tea(), user: bob() });
    assert_eq!(first.changes(2).await, ["bob joins", "bob is out"]);
}

/// More rooms have changed than one read returns, so the change of a room is not among them.
#[actix_rt::test]
async fn changes_beyond_one_read_are_found_by_their_versions() {
    let cluster = Cluster::on(Server::start());
    let mut node = cluster.node("only").await;
    *cluster.rooms.1.lock().unwrap() = (0..AT_ONCE).map(|n| format!("r{n}").parse().unwrap()).collect();
    cluster.commit(ChangeKind::Joined(bob()));
    assert_eq!(node.changes(1).await, ["bob joins"]);
    cluster.commit(ChangeKind::Left(bob()));
    assert_eq!(node.changes(1).await, ["bob leaves"]);
}
