//! The conformance suite of [`EventLog`](super::EventLog). It runs on both logs with their real stores: `local` with SQLite, and the
//! stream with Redis.

use proto::{RoomName, Username};
use tokio::sync::mpsc;

use super::{Broker, Control, Entry, RoomEvent, RoomEventKind};
use crate::{
    history::MissedBy,
    room_change::{ChangeKind, RoomChange},
};

/// A log under test with the stores whose events it publishes.
pub trait Fixture {
    /// The broker of a node.
    fn broker(&self) -> &Broker;

    /// Stores a message of `from` in `room` and publishes it.
    async fn post(&self, room: &RoomName, from: &Username, text: &str, socket: Option<&str>);

    /// Makes `user` a member of `room`, or ends the membership, and publishes the change. Returns its number.
    async fn set_member(&self, room: &RoomName, user: &Username, is_member: bool) -> u64;

    /// The next entry of the queue.
    async fn next(&mut self) -> Entry;
}

/// Forwards the entries of a broker's queue, and advances its position as [`super::fanout_actor`] does.
pub fn forward(broker: &Broker, mut queue: mpsc::Receiver<Entry>) -> mpsc::UnboundedReceiver<Entry> {
    let (forward, delivered) = mpsc::unbounded_channel();
    let position = broker.position.clone();
    actix_rt::spawn(async move {
        while let Some(entry) = queue.recv().await {
            match &entry {
                Entry::Control(Control::Reached(offset))
                | Entry::Event(RoomEvent { offset: Some(offset), is_resumable: true, .. }) => {
                    position.reach(*offset);
                }
                _ => {}
            }
            if !matches!(entry, Entry::Control(Control::Flushed(_))) {
                let _ = forward.send(entry);
            }
        }
    });
    delivered
}

/// Runs the suite. The room `tea` exists, has no message, and alice, its owner, is its only member.
///
/// # Panics
/// When the log does not conform.
pub async fn run(mut log: impl Fixture) {
    let (tea, alice, bob) = (room("tea"), user("alice"), user("bob"));
    log.broker().subscribe(&[tea.clone(), RoomName::lobby()]).await.expect("subscribes");
    let start = log.broker().reached();
    events_have_one_order(&mut log, &tea, &alice).await;
    let joined = a_change_is_delivered_with_its_place(&mut log, &tea, &bob, true).await;
    log.post(&tea, &bob, "hello", None).await;
    let left = a_change_is_delivered_with_its_place(&mut log, &tea, &bob, false).await;
    assert!(joined < left);
    missed_events_are_those_of_the_clients_rooms(&log, &tea, start).await;
    positions_are_of_one_log(&log).await;
}

/// Messages of two rooms are delivered with ascending offsets, without doubles, and not to the socket that sent them.
async fn events_have_one_order(log: &mut impl Fixture, tea: &RoomName, alice: &Username) {
    let lobby = RoomName::lobby();
    for number in 0..10 {
        let room = if number % 2 == 0 { tea } else { &lobby };
        log.post(room, alice, &format!("message {number}"), Some("origin")).await;
    }
    let mut delivered = Vec::new();
    while delivered.len() < 10 {
        if let Entry::Event(RoomEvent {
            offset,
            is_resumable,
            kind: RoomEventKind::Message { message, origin },
        }) = log.next().await
        {
            assert!(is_resumable, "clients recover from it");
            assert_eq!(origin.map(|socket| socket.as_str().to_owned()).as_deref(), Some("origin"));
            delivered.push((offset.expect("an offset"), message.data.text));
        }
    }
    let texts: Vec<String> = delivered.iter().map(|(_, text)| text.clone()).collect();
    assert_eq!(texts, (0..10).map(|number| format!("message {number}")).collect::<Vec<_>>());
    assert!(delivered.is_sorted_by(|(one, _), (other, _)| one < other), "{delivered:?}");
}

/// Returns the offset of the change.
async fn a_change_is_delivered_with_its_place(
    log: &mut impl Fixture,
    room: &RoomName,
    user: &Username,
    is_member: bool,
) -> u64 {
    let before = log.broker().membership_changes();
    let rev = log.set_member(room, user, is_member).await;
    log.broker().wait_for_change(room, rev).await;
    assert!(log.broker().membership_changes() > before, "a socket that connects reads its rooms again");
    let (event, change) = next_change(log).await;
    let expected = if is_member { ChangeKind::Joined(user.clone()) } else { ChangeKind::Left(user.clone()) };
    assert_eq!((change.rev, &change.room, &change.what), (rev, room, &expected));
    assert!(event.is_resumable);
    event.offset.expect("an offset")
}

async fn next_change(log: &mut impl Fixture) -> (RoomEvent, RoomChange) {
    loop {
        if let Entry::Event(event) = log.next().await
            && let RoomEventKind::Change(change) = &event.kind
        {
            let change = (**change).clone();
            return (event, change);
        }
    }
}

/// A client that reconnects receives all events of its rooms except the messages of its own socket, and its own removal from another.
async fn missed_events_are_those_of_the_clients_rooms(log: &impl Fixture, tea: &RoomName, start: u64) {
    let texts = async |rooms: &[RoomName], user: &str, socket: &str, after: u64| {
        let user = self::user(user);
        let client = MissedBy { user: &user, rooms, socket };
        let missed = log.broker().missed(client, after).await.expect("answers")?;
        let texts = missed.messages.iter().map(|(_, message)| message.data.text.clone());
        let revs = missed
            .changes
            .iter()
            .map(|(_, missed)| format!("{} {}", missed.change.room, missed.memberships.len()));
        Some((texts.collect::<Vec<_>>(), revs.collect::<Vec<_>>()))
    };
    let both = [tea.clone(), RoomName::lobby()];
    let (messages, changes) = texts(&both, "alice", "other", start).await.expect("all");
    assert_eq!(
        (messages.len(), changes.len()),
        (11, 1),
        "bob's membership is one part of the room: {changes:?}"
    );
    let (messages, _) = texts(&both, "alice", "origin", start).await.expect("all");
    assert_eq!(messages, ["hello"], "without the messages of its own socket");
    let (messages, changes) = texts(&[RoomName::lobby()], "bob", "other", start).await.expect("all");
    assert_eq!((messages.len(), changes), (5, vec!["tea 1".to_owned()]), "with its own removal");
    let end = log.broker().reached();
    assert_eq!(texts(&both, "alice", "other", end).await, Some((vec![], vec![])));
    assert_eq!(texts(&both, "alice", "other", end + 1).await, None, "an offset after the end");
}

async fn positions_are_of_one_log(log: &impl Fixture) {
    let broker = log.broker();
    broker.send(Control::Reached(broker.reached())).await;
    broker.flush().await;
    let text = broker.format_position();
    assert_eq!(broker.parse_offset(&text), super::ParsedOffset::Current(broker.reached()));
    assert!(!broker.is_of_replaced_history(&text));
    assert_eq!(broker.not_ready_reason(), None);
}

fn room(name: &str) -> RoomName {
    name.parse().expect("a name")
}

fn user(name: &str) -> Username {
    name.parse().expect("a name")
}
