//! Changes of rooms: every node applies them in the order of the room's versions, independent of the records in the stream.

use super::*;
use crate::{changes::Change, directory::RoomChange};

impl Cluster {
    /// Commits a change of the room in the store only.
    pub(super) fn commit(&self, what: ChangeKind) {
        let mut rooms = self.rooms.0.lock().unwrap();
        let empty = || Changed { room: tea(), version: 0, is_open: true, changes: vec![] };
        let room = rooms.entry(tea()).or_insert_with(empty);
        room.version += 1;
        room.is_open = what != ChangeKind::Archived;
        let (version, at) = (room.version, Timestamp(1));
        room.changes.push(Change { version, at, what, by: None, items: vec![], is_own: false });
    }
}

impl Node {
    /// The next changes of memberships that the node applies.
    async fn changes(&mut self, count: usize) -> Vec<String> {
        let mut delivered = Vec::new();
        while delivered.len() < count {
            match timeout(TIMEOUT, self.delivered.recv()).await.expect("an entry in time").expect("runs") {
                Entry::Event(RoomEvent { kind: RoomEventKind::Change(change), .. }) => {
                    delivered.push(match &change.what {
                        ChangeKind::Joined(user) => format!("{user} joins"),
                        ChangeKind::Left(user) => format!("{user} leaves"),
                        ChangeKind::Archived => "archived".to_owned(),
                        ChangeKind::Other => "changed".to_owned(),
                    })
                }
                Entry::Control(Control::SetMembers { members, .. }) => {
                    delivered.push(format!("set {} members", members.len()))
                }
                Entry::Control(Control::SetMembership { user, is_member, .. }) => {
                    delivered.push(format!("{user} is {}", if is_member { "in" } else { "out" }))
                }
                _ => {}
            }
        }
        delivered
    }
}

/// The change of the room with this number.
pub(super) fn change(rev: u64, what: ChangeKind) -> RoomChange {
    RoomChange { room: tea(), rev, what, by: None, items: vec![], members: vec![], offset: None }
}

fn bob() -> Username {
    "bob".parse().unwrap()
}

/// The rooms of a client that recovers were read before a membership of it began or ended, and the records of the stream after it. The
/// live event is then dropped as a duplicate, so the client must not recover.
#[actix_rt::test]
async fn a_client_whose_membership_changes_while_it_recovers_does_not_recover() {
    let carol: Username = "carol".parse().unwrap();
    let (joined, left) = (ChangeKind::Joined, ChangeKind::Left);
    // The changes, whether the client was in the room when its rooms were read, and whether it recovers.
    type Case = (&'static str, Vec<ChangeKind>, bool, bool);
    let cases: [Case; 8] = [
        ("the room ends", vec![joined(bob()), ChangeKind::Archived], true, false),
        ("the room ended before", vec![joined(bob()), ChangeKind::Archived], false, true),
        ("the client leaves", vec![joined(bob()), left(bob())], true, false),
        ("the client left before", vec![joined(bob()), left(bob())], false, true),
        ("the client is added", vec![joined(bob())], false, false),
        ("the client was added before", vec![joined(bob())], true, true),
        ("the client is added again", vec![joined(bob()), left(bob()), joined(bob())], false, false),
        ("another user joins", vec![joined(bob()), joined(carol.clone())], true, true),
    ];
    let cluster = Cluster::on(Server::start());
    let node = cluster.node("first").await;
    let mut rev = 0;
    for (name, changes, is_in, recovers) in cases {
        let start = node.broker.reached();
        for what in changes {
            cluster.commit(what.clone());
            rev += 1;
            let members = if what == ChangeKind::Archived { vec![bob()] } else { vec![] };
            node.broker.publish_change(RoomChange { members, ..change(rev, what) });
            node.broker.wait_for_change(&tea(), rev).await;
        }
        let rooms = if is_in { vec![tea()] } else { vec![] };
        let missed = node.broker.missed(MissedBy { user: &bob(), rooms: &rooms, socket: "x" }, start).await;
        assert_eq!(missed.unwrap().is_some(), recovers, "{name}");
        cluster.rooms.0.lock().unwrap().get_mut(&tea()).unwrap().is_open = true;
        cluster.commit(left(bob()));
        rev += 1;
        node.broker.publish_change(change(rev, left(bob())));
        node.broker.wait_for_change(&tea(), rev).await;
    }
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
    cluster.commit(ChangeKind::Joined(bob()));
    assert_eq!(second.changes(1).await, ["bob joins"]);
}
