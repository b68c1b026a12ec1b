//! Changes of rooms: every node applies them in the order of the room's versions, independent of the records in the stream.

use testkit::RedisFault;

use super::*;
use crate::{
    changes::{AT_ONCE, Change},
    directory::RoomChange,
};

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

/// Every node applies a change once, with the offset of its record: also the node that has made it.
#[actix_rt::test]
async fn a_change_is_applied_by_every_node_with_its_offset() {
    let cluster = Cluster::on(Server::start());
    let (first, second) = (cluster.node("first").await, cluster.node("second").await);
    let before = (first.broker.reached(), second.broker.membership_changes());
    let all = [ChangeKind::Joined(bob()), ChangeKind::Left(bob()), ChangeKind::Archived];
    for (what, rev) in all.into_iter().zip(1..) {
        cluster.commit(what.clone());
        first.broker.publish_change(change(rev, what));
        first.broker.wait_for_change(&tea(), rev).await;
        second.broker.wait_for_change(&tea(), rev).await;
    }
    for mut node in [first, second] {
        let mut delivered = Vec::new();
        while delivered.len() < 3 {
            let entry =
                timeout(TIMEOUT, node.delivered.recv()).await.expect("an entry in time").expect("runs");
            if let Entry::Event(RoomEvent { offset, kind: RoomEventKind::Change(change), .. }) = entry {
                delivered.push((change.rev, offset.expect("an offset") - before.0));
            }
        }
        assert_eq!(delivered, [(1, 1), (2, 2), (3, 3)]);
        // The three changes, and the members of the room that was archived.
        assert_eq!(node.broker.membership_changes(), before.1 + 4);
    }
}

/// A client that has missed changes receives each changed part once, in its present state, and its own removal from a room.
#[actix_rt::test]
async fn recovery_returns_missed_changes_in_their_present_state() {
    let cluster = Cluster::on(Server::start());
    let (first, second) = (cluster.node("first").await, cluster.node("second").await);
    let start = first.broker.reached();
    let carol: Username = "carol".parse().unwrap();
    let all = [
        ChangeKind::Joined(bob()),
        ChangeKind::Joined(carol.clone()),
        ChangeKind::Left(bob()),
        ChangeKind::Joined(bob()),
        ChangeKind::Left(carol.clone()),
    ];
    for (what, rev) in all.into_iter().zip(1..) {
        cluster.commit(what.clone());
        first.broker.publish_change(change(rev, what));
    }
    first.broker.wait_for_change(&tea(), 5).await;
    let missed = async |client: MissedBy<'_>, after| {
        let missed = second.broker.missed(client, after).await.unwrap().expect("a recovery");
        let parts = missed.changes.into_iter().flat_map(|(_, missed)| {
            let (rev, after) = (missed.change.rev, missed.change.after);
            assert_eq!(missed.memberships.len(), missed.change.items.len());
            missed.change.items.into_iter().map(move |item| match item {
                Item::Member { member, .. } => {
                    (rev, after, member.username.to_string(), member.role.is_some())
                }
                Item::Room { .. } => (rev, after, "room".to_owned(), false),
            })
        });
        parts.collect::<Vec<_>>()
    };
    let part = |rev, after, name: &str, is_member| (rev, after, name.to_owned(), is_member);
    let rooms = [tea()];
    let both = [part(4, 0, "bob", true), part(5, 4, "carol", false)];
    assert_eq!(missed(client(&rooms), start).await, both);
    assert_eq!(missed(client(&rooms), start + 4).await, both[1..]);
    let removed = MissedBy { user: &carol, rooms: &[], socket: "x" };
    assert_eq!(missed(removed, start).await, [part(5, 4, "carol", false)]);
    let bob = MissedBy { user: &bob(), rooms: &rooms, socket: "x" };
    assert_eq!(missed(bob, start + 4).await, [part(5, 4, "carol", false)]);
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

/// Two nodes change a room in one order and publish in the other. The sockets end in the state of the store.
#[actix_rt::test]
async fn records_in_another_order_are_applied_in_the_order_of_versions() {
    let cluster = Cluster::on(Server::start());
    let (first, mut second) = (cluster.node("first").await, cluster.node("second").await);
    cluster.commit(ChangeKind::Joined(bob()));
    cluster.commit(ChangeKind::Left(bob()));
    first.broker.publish_change(change(2, ChangeKind::Left(bob())));
    first.broker.publish_change(change(1, ChangeKind::Joined(bob())));
    assert_eq!(second.changes(2).await, ["bob joins", "bob leaves"]);
    cluster.publish_on(&first, &["fence"]).await;
    second.expect_messages(&["fence"]).await;
}

/// A change of another room is between two changes of a room. Each missed change has the offset of its own record, so a client whose
/// connection ends between them recovers the later one only.
#[actix_rt::test]
async fn missed_changes_have_the_offsets_of_their_own_records() {
    let cluster = Cluster::on(Server::start());
    let node = cluster.node("only").await;
    let start = node.broker.reached();
    let carol: Username = "carol".parse().unwrap();
    for (rev, user) in [(1, bob()), (2, carol)] {
        cluster.commit(ChangeKind::Joined(user.clone()));
        node.broker.publish_change(change(rev, ChangeKind::Joined(user)));
        node.broker.wait_for_change(&tea(), rev).await;
        cluster.publish_on(&node, &[&format!("message {rev}")]).await;
    }
    let missed = node.broker.missed(client(&[tea()]), start).await.unwrap().expect("a recovery");
    let offsets = |of: Vec<u64>| of.into_iter().map(|offset| offset - start).collect::<Vec<_>>();
    assert_eq!(offsets(missed.messages.iter().map(|(offset, _)| *offset).collect()), [2, 4]);
    assert_eq!(offsets(missed.changes.iter().map(|(offset, _)| *offset).collect()), [1, 3]);
    assert!(missed.changes.iter().all(|(_, missed)| missed.is_last));
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

/// A node applies its own changes when it reads their records, and not again if it has applied them from the store before.
#[actix_rt::test]
async fn a_node_applies_its_own_changes_once() {
    let cluster = Cluster::on(Server::start());
    let mut first = cluster.node("first").await;
    cluster.commit(ChangeKind::Joined(bob()));
    cluster.commit(ChangeKind::Left(bob()));
    assert_eq!(first.changes(2).await, ["bob joins", "bob leaves"], "from the store, without records");
    first.broker.publish_change(change(1, ChangeKind::Joined(bob())));
    cluster.commit(ChangeKind::Joined(bob()));
    first.broker.publish_change(change(3, ChangeKind::Joined(bob())));
    first.broker.wait_for_change(&tea(), 3).await;
    cluster.commit(ChangeKind::Left(bob()));
    assert_eq!(first.changes(2).await, ["bob joins", "bob leaves"]);
}

/// The node that made a change has ended before it wrote the record. A node that starts later applies the change once, and writes the record.
#[actix_rt::test]
async fn a_change_without_a_record_is_applied_by_a_node_that_starts_later() {
    let cluster = Cluster::on(Server::start());
    let first = cluster.node("first").await;
    let start = first.broker.reached();
    cluster.commit(ChangeKind::Joined(bob()));
    first.broker.publish_change(change(1, ChangeKind::Joined(bob())));
    first.broker.wait_for_change(&tea(), 1).await;
    cluster.commit(ChangeKind::Left(bob()));
    drop(first);
    let mut second = cluster.node("second").await;
    assert_eq!(second.changes(1).await, ["bob leaves"], "and not the change that has a record");
    let third = cluster.node("third").await;
    eventually("the record is written", async || {
        let missed = third.broker.missed(client(&[tea()]), start).await.unwrap();
        missed.is_some_and(|missed| missed.changes.iter().any(|(_, missed)| missed.change.rev == 2))
    })
    .await;
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
