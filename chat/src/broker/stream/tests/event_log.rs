//! The conformance suite of [`EventLog`](crate::broker::EventLog) on a real Redis.

use super::*;

/// A node of a cluster with the stores whose events it publishes.
struct NodeLog {
    cluster: Cluster,
    node: Node,
}

impl conformance::Fixture for NodeLog {
    fn broker(&self) -> &Broker {
        &self.node.broker
    }

    async fn post(&self, room: &RoomName, from: &Username, text: &str, socket: Option<&str>) {
        let mut stored = self.cluster.store_in(room, text).await;
        stored.message.from = from.clone();
        stored.origin = socket.map(str::to_owned);
        self.node.broker.publish(room, vec![stored]).await.unwrap();
    }

    async fn set_member(&self, _: &RoomName, user: &Username, is_member: bool) -> u64 {
        let kind = if is_member { ChangeKind::Joined } else { ChangeKind::Left };
        self.cluster.commit(kind(user.clone()));
        let rev = self.cluster.rooms.all()[0].1;
        self.node.broker.publish_change(changes::change(rev, kind(user.clone())));
        rev
    }

    async fn next(&mut self) -> Entry {
        timeout(TIMEOUT, self.node.delivered.recv()).await.expect("an entry in time").expect("runs")
    }
}

#[actix_rt::test]
async fn the_stream_passes_the_conformance_suite() {
    let cluster = Cluster::on(Server::start());
    let node = cluster.node("only").await;
    conformance::run(NodeLog { cluster, node }).await;
}
