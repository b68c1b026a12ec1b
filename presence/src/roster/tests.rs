//! Tests of the roster with the messages that the gRPC service sends.

use tokio::time::timeout;

use super::*;

/// A short interval, and a lease that does not expire during a test.
fn quick() -> Config {
    Config {
        presence_flush: Duration::from_millis(10),
        presence_lease: Duration::from_secs(60),
        ..Config::default()
    }
}

fn start(config: &Config) -> Addr<Roster> {
    Roster::new(config).start()
}

async fn open(roster: &Addr<Roster>, node: &str, users: &[&str]) -> Opened {
    let users = users.iter().map(|name| (name.parse().unwrap(), 1)).collect();
    roster.send(Open { node: node.to_owned(), users }).await.unwrap().unwrap()
}

async fn change(roster: &Addr<Roster>, lease: &Lease, name: &str, count: u32) -> Result<(), Error> {
    let report = Report::Connections(name.parse().unwrap(), count);
    roster.send(Reported { lease: lease.clone(), report }).await.unwrap()
}

async fn set_typing(roster: &Addr<Roster>, name: &str) {
    let (user, room) = (name.parse().unwrap(), "r".parse().unwrap());
    roster.send(Typing { user, room, is_typing: true }).await.unwrap().unwrap();
}

async fn online(roster: &Addr<Roster>) -> Vec<String> {
    roster.send(GetOnline).await.unwrap()
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

#[actix_rt::test]
async fn a_new_stream_receives_the_whole_roster_and_other_streams_receive_the_diff() {
    let roster = start(&quick());
    let mut first = open(&roster, "n1", &["alice"]).await;
    set_typing(&roster, "alice").await;
    let second = open(&roster, "n2", &["bob"]).await;
    let typist = RoomTyping { room: "r".into(), usernames: strings(&["alice"]) };
    let online = OnlineUsersResponse { usernames: strings(&["alice", "bob"]) };
    assert_eq!(second.first, [update(Update::Online(online)), update(Update::Typing(typist.clone()))]);
    assert_eq!(next_diff(&mut first).await, (strings(&["bob"]), vec![], 2));
    assert_eq!(next(&mut first).await, Some(Update::Typing(typist)));
}

#[actix_rt::test]
async fn changes_within_one_interval_are_published_as_one_net_diff() {
    let roster = start(&quick());
    let mut stream = open(&roster, "n1", &[]).await;
    for (name, count) in [("b", 1), ("a", 1), ("c", 1), ("c", 0), ("a", 2)] {
        change(&roster, &stream.lease, name, count).await.unwrap();
    }
    assert_eq!(next_diff(&mut stream).await, (strings(&["a", "b"]), vec![], 2));
}

#[actix_rt::test]
async fn a_node_whose_lease_expires_loses_its_stream_and_its_users_and_typing_ends() {
    let roster = start(&Config {
        presence_lease: Duration::from_millis(200),
        typing_expiry: Duration::from_millis(50),
        ..quick()
    });
    let mut silent = open(&roster, "n1", &["alice"]).await;
    set_typing(&roster, "alice").await;
    while next(&mut silent).await.is_some() {}
    assert!(matches!(change(&roster, &silent.lease, "alice", 1).await, Err(Error::Stale)));
    assert_eq!((online(&roster).await, roster.send(GetTyping).await.unwrap()), (vec![], vec![]));
}

#[actix_rt::test]
async fn a_later_stream_of_the_node_ends_the_earlier_one() {
    let roster = start(&quick());
    let mut old = open(&roster, "n1", &["alice"]).await;
    let mut new = open(&roster, "n1", &["alice"]).await;
    while next(&mut old).await.is_some() {}
    roster.send(Ended(old.lease.clone())).await.unwrap();
    change(&roster, &new.lease, "bob", 1).await.unwrap();
    assert_eq!(next_diff(&mut new).await, (strings(&["bob"]), vec![], 2));
    assert_eq!(online(&roster).await, strings(&["alice", "bob"]));
}

#[actix_rt::test]
async fn a_stream_that_does_not_read_is_ended_and_other_streams_continue() {
    let roster = start(&Config { presence_flush: Duration::from_secs(60), ..quick() });
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
    assert_eq!(online(&roster).await.len(), QUEUE + 1);
    drop(open(&roster, "last", &["zoe"]).await);
    assert_eq!(next_diff(&mut reopened).await.0, strings(&["zoe"]));
}

#[actix_rt::test]
async fn a_list_too_long_for_one_update_continues_in_diffs() {
    let roster = start(&quick());
    let mut first = open(&roster, "n1", &[]).await;
    let users: Connections = (0..45_000).map(|n| (format!("u{n}").parse().unwrap(), 1)).collect();
    let full = roster.send(Open { node: "n2".to_owned(), users }).await.unwrap().unwrap().first;
    let size = |update: &RosterUpdate| match &update.update {
        Some(Update::Online(online)) => (online.usernames.len(), 0),
        Some(Update::Diff(diff)) => (diff.joined.len() + diff.left.len(), diff.count),
        _ => (0, 0),
    };
    let sizes: Vec<_> = full.iter().map(size).collect();
    assert_eq!(sizes, [(20_000, 0), (20_000, 40_000), (5_000, 45_000)]);
    let diffs: Vec<_> = std::iter::from_fn(|| first.updates.try_recv().ok()).collect();
    let sizes: Vec<_> = diffs.iter().map(size).collect();
    assert_eq!(sizes, [(20_000, 45_000), (20_000, 45_000), (5_000, 45_000)]);
}
