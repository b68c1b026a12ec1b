//! What is received from the service, and the updates that a client receives while users join and leave, on a simulated clock.

use proto::presence::{Heartbeat, OnlineDiff, OnlineUsersResponse};

use super::*;

/// A client with a simulated clock.
struct Client {
    online: Online,
    now: Instant,
    start: Instant,
    /// The time of each event, and its number of names.
    diffs: Vec<(Duration, usize)>,
    lists: Vec<(Duration, usize)>,
    /// The online users, by the diffs and by the lists.
    by_diffs: BTreeSet<String>,
    by_lists: BTreeSet<String>,
    unknown: usize,
}

impl Client {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            online: Online::new(now),
            now,
            start: now,
            diffs: vec![],
            lists: vec![],
            by_diffs: BTreeSet::new(),
            by_lists: BTreeSet::new(),
            unknown: 0,
        }
    }

    /// Advances the clock and sends every update that is due, as the relay does.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(due) = self.online.next_update().filter(|due| *due <= until) {
            self.now = due.max(self.now);
            let entry = self.online.take(self.now).expect("a due update is sent");
            self.receive(entry);
        }
        self.now = until;
    }

    fn receive(&mut self, entry: Signal) {
        let at = self.now - self.start;
        match entry {
            Signal::Online { diff, list } => {
                if let Some(diff) = diff {
                    self.diffs.push((at, diff.joined.len() + diff.left.len()));
                    diff.left
                        .iter()
                        .for_each(|name| assert!(self.by_diffs.remove(name), "{name} was not online"));
                    for name in diff.joined {
                        assert!(self.by_diffs.insert(name), "a user joined twice");
                    }
                }
                if let Some(list) = list {
                    self.lists.push((at, list.len()));
                    self.by_lists = list.into_iter().collect();
                }
            }
            Signal::OnlineUnknown => self.unknown += 1,
            other => panic!("{other:?}"),
        }
    }

    fn change(&mut self, joined: &[String], left: &[String]) {
        let diff = OnlineDiff { joined: joined.to_vec(), left: left.to_vec(), count: 0 };
        self.online.update(RosterUpdate { update: Some(Update::Diff(diff)) });
    }

    fn replace(&mut self, users: Vec<String>) {
        self.online.update(list(users));
    }

    /// The maximum number of events in any second.
    fn busiest_second(&self) -> usize {
        let events = || self.diffs.iter().chain(&self.lists).map(|(at, _)| *at);
        let events_after =
            |from: Duration| events().filter(|at| (from..from + Duration::from_secs(1)).contains(at)).count();
        events().map(events_after).max().unwrap_or(0)
    }

    fn names(of: &[(Duration, usize)]) -> usize {
        of.iter().map(|(_, names)| names).sum()
    }
}

fn list(usernames: Vec<String>) -> RosterUpdate {
    RosterUpdate { update: Some(Update::Online(OnlineUsersResponse { usernames })) }
}

fn users(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| format!("u{n:05}")).collect()
}

const STEP: Duration = Duration::from_millis(50);

/// For any number of users and changes: at most four events in any second, bytes in proportion to the changes, diffs within a second,
/// and the last list within the time in which it is paid for.
#[test]
fn events_per_second_and_bytes_are_bounded_by_the_changes() {
    // Online users, changes in one step of 50 ms, and the number of steps from one such step to the next.
    for (online, changes, pause) in
        [(3, 1, 1), (20, 1, 1), (199, 1, 1), (199, 1, 20), (199, 10, 2), (150, 40, 4), (180, 1, 100)]
    {
        let case = format!("{online} online, {changes} changes per {pause} steps");
        let mut client = Client::new();
        client.replace(users(0..online));
        client.pass(Duration::from_secs(30));
        let (mut changed, mut next) = (0, online);
        let lists_before = Client::names(&client.lists);
        let steps = 600;
        for step in 0..steps {
            if step % pause == 0 {
                let (joined, left) = (users(next..next + changes), users(next - changes..next));
                // Half of the changes are users that join, half are users that leave.
                client.change(&joined, &left);
                (changed, next) = (changed + 2 * changes, next + changes);
            }
            client.pass(STEP);
        }
        let seconds = steps as f64 * STEP.as_secs_f64();
        let listed = (Client::names(&client.lists) - lists_before) as f64;
        let allowed = CREDIT + PER_CHANGE * changed as f64 + PER_SECOND * seconds;
        assert!(listed <= allowed, "{case}: {listed} names in lists for {changed} changes");
        assert!(Client::names(&client.diffs) <= changed + online, "{case}");
        assert!(client.busiest_second() <= 4, "{case}: {} events in a second", client.busiest_second());
        client.pass(SPACING);
        assert_eq!(&client.by_diffs, client.online.users().unwrap(), "{case}: the diffs are late");
        client.pass(Duration::from_secs_f64(online as f64 / PER_SECOND));
        assert_eq!(&client.by_lists, client.online.users().unwrap(), "{case}: the list is late");
        let (diffs, lists) = (client.diffs.len(), client.lists.len());
        client.pass(Duration::from_secs(60));
        assert_eq!(
            (client.diffs.len(), client.lists.len()),
            (diffs, lists),
            "{case}: nothing has changed since"
        );
    }
}

#[test]
fn above_200_users_diffs_are_bounded_and_the_list_returns_below() {
    let mut client = Client::new();
    client.replace(users(0..5000));
    client.pass(SPACING * 4);
    assert_eq!(client.diffs.iter().map(|(_, names)| *names).collect::<Vec<_>>(), [2000, 2000, 1000]);
    assert_eq!(client.lists, []);
    client.change(&[], &users(200..5000));
    client.pass(SPACING * 4);
    assert_eq!(client.by_diffs.len(), 200);
    assert_eq!(client.by_lists.len(), 200);
}

#[test]
fn the_unknown_state_is_sent_once_and_the_list_follows_with_the_next_stream() {
    let mut client = Client::new();
    client.replace(users(0..3));
    client.pass(Duration::from_secs(1));
    client.online.expire();
    client.pass(Duration::from_secs(10));
    assert_eq!((client.unknown, client.online.users()), (1, None));
    client.replace(users(0..3));
    client.pass(Duration::ZERO);
    assert_eq!(client.lists.len(), 2, "although no user joined or left");
    client.online.expire();
    client.replace(users(0..3));
    client.pass(Duration::from_secs(10));
    assert_eq!((client.unknown, client.lists.len()), (1, 3), "a loss that has ended is not sent");
}

/// A stream that begins again sends the whole list. Clients receive the difference to the list that they have.
#[test]
fn a_new_list_is_sent_as_the_difference_to_the_old_one() {
    let mut client = Client::new();
    client.replace(users(0..3));
    client.pass(Duration::from_secs(10));
    client.replace(users(1..4));
    client.pass(Duration::from_secs(10));
    assert_eq!(client.diffs.iter().map(|(_, names)| *names).collect::<Vec<_>>(), [3, 2]);
    assert_eq!(client.by_diffs, users(1..4).into_iter().collect());
}

fn strings(of: &[&str]) -> Vec<String> {
    of.iter().map(ToString::to_string).collect()
}

fn typing(room: &str, of: &[&str]) -> RosterUpdate {
    RosterUpdate { update: Some(Update::Typing(RoomTyping { room: room.into(), usernames: strings(of) })) }
}

#[test]
fn typing_is_sent_at_once_and_ends_with_its_stream() {
    let mut online = Online::new(Instant::now());
    assert!(online.update(typing("r", &["a"])).is_empty(), "an update before the list is dropped");
    online.update(list(strings(&["a", "b"])));
    assert!(
        matches!(&online.update(typing("r", &["a"]))[..], [Signal::Typing { users, .. }] if users[..] == ["a"])
    );
    assert!(online.update(typing("no room", &["a"])).is_empty());
    let rooms: [RoomName; 2] = ["r".parse().unwrap(), "s".parse().unwrap()];
    assert_eq!(online.typing_by_room(rooms.iter()), Some(vec![(rooms[0].clone(), strings(&["a"]))]));
    online.end_stream();
    assert!(online.users().is_some(), "the users stay valid during a short gap");
    let ended = online.update(list(strings(&["a"])));
    assert!(matches!(&ended[..], [Signal::Typing { users, .. }] if users.is_empty()));
}

#[test]
fn a_silence_makes_the_users_unknown_once_until_the_next_update() {
    let mut online = Online::new(Instant::now());
    assert!(!online.is_unknown());
    assert_eq!((online.expire(), online.expire()), (true, false));
    online.update(list(strings(&["a"])));
    assert_eq!((online.expire(), online.users()), (true, None));
    let beat = RosterUpdate { update: Some(Update::Heartbeat(Heartbeat {})) };
    online.update(beat.clone());
    assert_eq!(online.users(), Some(&BTreeSet::from(["a".to_owned()])));
    online.expire();
    online.end_stream();
    online.update(beat);
    assert_eq!(online.users(), None, "a heartbeat before the list is dropped");
}

#[test]
fn a_connecting_user_is_always_in_the_list() {
    let event = |names: &[&str]| encode_list(strings(names).into_iter().collect());
    let bob: Username = "bob".parse().unwrap();
    let list_for_bob = |users: Vec<String>| {
        let mut online = Online::new(Instant::now());
        online.update(list(users));
        online.list_for(&bob)
    };
    assert_eq!(list_for_bob(vec![]), event(&["bob"]));
    assert_eq!(list_for_bob(strings(&["alice", "carol"])), event(&["alice", "bob", "carol"]));
    assert_eq!(list_for_bob(strings(&["bob"])), event(&["bob"]));
    assert!(Online::new(Instant::now()).list_for(&bob).is_some(), "the event has the state `unknown`");
    assert_eq!(list_for_bob(users(0..NAMES + 1)), None, "too many");
    assert_eq!(list_for_bob(users(0..NAMES)), None, "one too many");
}
