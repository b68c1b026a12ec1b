//! Tests of the actor with the messages that the gRPC service sends.

use proto::presence::roster_update::Update;
use tokio::time::timeout;

use super::*;
use crate::roster::Connections;

/// Short intervals, and a lease that does not expire during a test.
const QUICK: Timings = Timings {
    lease: Duration::from_secs(60),
    typing: Duration::from_secs(60),
    flush: Duration::from_millis(10),
    sweep: Duration::from_millis(20),
};

async fn open(roster: &Addr<Roster>, node: &str, users: &[&str]) -> Opened {
    let users: Connections = users.iter().map(|name| (name.parse().unwrap(), 1)).collect();
    roster.send(Open { node: node.parse().unwrap(), users, database: None }).await.unwrap().unwrap()
}

async fn report(roster: &Addr<Roster>, lease: &Lease, report: Report) -> Result<(), Error> {
    roster.send(Reported { lease: lease.clone(), report }).await.unwrap()
}

/// The next update that is not a heartbeat; `None` when the stream has ended.
async fn next(opened: &mut Opened) -> Option<Update> {
    loop {
        let update =
            timeout(Duration::from_secs(10), opened.updates.recv()).await.expect("an update in time");
        match update.map(|update| update.update.unwrap()) {
            Some(Update::Heartbeat(_)) => {}
            other => return other,
        }
    }
}

async fn next_diff(opened: &mut Opened) -> (Vec<String>, Vec<String>, u32) {
    match next(opened).await {
        Some(Update::Diff(diff)) => (diff.joined, diff.left, diff.count),
        other => panic!("no diff but {other:?}"),
    }
}

fn strings(of: &[&str]) -> Vec<String> {
    of.iter().map(ToString::to_string).collect()
}

#[actix::test]
async fn a_new_stream_receives_the_whole_roster_and_other_streams_receive_the_diff() {
    let roster = Roster::new(QUICK).start();
    let mut first = open(&roster, "n1", &["alice"]).await;
    let typing =
        Report::Typing { user: "alice".parse().unwrap(), room: "r".parse().unwrap(), is_typing: true };
    report(&roster, &first.lease, typing).await.unwrap();
    let second = open(&roster, "n2", &["bob"]).await;
    let [online, typing] = &second.first[..] else { panic!("{:?}", second.first) };
    let online_users = proto::presence::OnlineUsersResponse { usernames: strings(&["alice", "bob"]) };
    assert_eq!(online.update, Some(Update::Online(online_users)));
    let typist = proto::presence::RoomTyping { room: "r".into(), usernames: strings(&["alice"]) };
    assert_eq!(typing.update, Some(Update::Typing(typist.clone())));
    let mut received = vec![next(&mut first).await.unwrap(), next(&mut first).await.unwrap()];
    received.sort_by_key(|update| matches!(update, Update::Typing(_)));
    assert!(matches!(&received[0], Update::Diff(diff) if diff.joined == ["bob"]), "{received:?}");
    assert_eq!(received[1], Update::Typing(typist));
}

#[actix::test]
async fn changes_within_one_interval_are_published_as_one_net_diff() {
    let roster = Roster::new(Timings { flush: Duration::from_secs(1), ..QUICK }).start();
    let mut stream = open(&roster, "n1", &[]).await;
    for (name, count) in [("b", 1), ("a", 1), ("c", 1), ("c", 0), ("a", 2)] {
        let change = Report::Connections(name.parse().unwrap(), count);
        report(&roster, &stream.lease, change).await.unwrap();
    }
    assert_eq!(next_diff(&mut stream).await, (strings(&["a", "b"]), vec![], 2));
}

#[actix::test]
async fn a_node_whose_lease_expires_loses_its_stream_and_its_users() {
    let roster = Roster::new(Timings { lease: Duration::from_millis(200), ..QUICK }).start();
    let mut silent = open(&roster, "n1", &["alice"]).await;
    let mut alive = open(&roster, "n2", &["bob"]).await;
    let beating = {
        let (roster, lease) = (roster.clone(), alive.lease.clone());
        actix_rt::spawn(async move {
            let mut tick = tokio::time::interval(Duration::from_millis(10));
            while report(&roster, &lease, Report::Heartbeat).await.is_ok() {
                tick.tick().await;
            }
        })
    };
    assert_eq!(next_diff(&mut alive).await, (vec![], strings(&["alice"]), 1));
    while let Some(update) = next(&mut silent).await {
        assert!(matches!(update, Update::Diff(_)), "{update:?}");
    }
    assert!(matches!(report(&roster, &silent.lease, Report::Heartbeat).await, Err(Error::Stale)));
    beating.abort();
}

#[actix::test]
async fn typing_that_is_not_renewed_expires_and_is_published() {
    let roster = Roster::new(Timings { typing: Duration::from_millis(50), ..QUICK }).start();
    let mut stream = open(&roster, "n1", &[]).await;
    let call = Call::Typing { user: "eve".parse().unwrap(), room: "r".parse().unwrap(), is_typing: true };
    roster.send(call).await.unwrap().unwrap();
    for expected in [strings(&["eve"]), vec![]] {
        let Some(Update::Typing(typing)) = next(&mut stream).await else { panic!("no typing") };
        assert_eq!((typing.room.as_str(), typing.usernames), ("r", expected));
    }
    assert_eq!(roster.send(GetTyping).await.unwrap(), strings(&[]));
}

#[actix::test]
async fn a_later_stream_of_the_node_ends_the_earlier_one() {
    let roster = Roster::new(QUICK).start();
    let mut old = open(&roster, "n1", &["alice"]).await;
    let mut new = open(&roster, "n1", &["alice"]).await;
    while let Some(update) = next(&mut old).await {
        assert!(matches!(update, Update::Diff(_)), "{update:?}");
    }
    roster.send(Ended(old.lease)).await.unwrap();
    report(&roster, &new.lease, Report::Connections("bob".parse().unwrap(), 1)).await.unwrap();
    assert_eq!(next_diff(&mut new).await, (strings(&["bob"]), vec![], 2));
    assert_eq!(roster.send(GetOnline).await.unwrap(), strings(&["alice", "bob"]));
}

#[actix::test]
async fn a_stream_that_does_not_read_is_ended_and_other_streams_continue() {
    let roster =
        Roster::new(Timings { flush: Duration::from_secs(3600), sweep: Duration::from_secs(3600), ..QUICK })
            .start();
    let mut slow = open(&roster, "n1", &[]).await;
    for n in 0..=QUEUE {
        // Opening a stream publishes to the other streams at once.
        drop(open(&roster, &format!("other-{n}"), &[&format!("u{n}")]).await);
    }
    for _ in 0..QUEUE {
        assert!(next(&mut slow).await.is_some());
    }
    assert_eq!(next(&mut slow).await, None);
    let mut reopened = open(&roster, "n1", &[]).await;
    assert_eq!(roster.send(GetOnline).await.unwrap().len(), QUEUE + 1);
    drop(open(&roster, "last", &["zoe"]).await);
    assert_eq!(next_diff(&mut reopened).await.0, strings(&["zoe"]));
}

#[actix::test]
async fn a_stopping_roster_ends_its_streams_and_refuses_new_streams() {
    let roster = Roster::new(QUICK).start();
    let mut stream = open(&roster, "n1", &[]).await;
    roster.send(Stop).await.unwrap();
    assert_eq!(next(&mut stream).await, None);
    let refused = roster
        .send(Open { node: "n2".parse().unwrap(), users: Connections::new(), database: None })
        .await
        .unwrap();
    assert!(matches!(refused, Err(Error::Unavailable)));
}
