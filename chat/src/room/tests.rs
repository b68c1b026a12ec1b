//! Rooms on real stores: their answers, the stored messages and the broker entries.

mod faulty;
mod store_faults;
mod support;

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use proto::event::{Act, Code};

use super::{Change, Settle, membership::Check, retention::KEEP};
use crate::{
    Error,
    ask::{AskError, ask},
    broker::{Entry, RoomEvent, RoomEventKind},
    directory::Request,
};
use support::{TestRooms, message_of, name, post, room};

fn code<T>(answer: &Result<T, Error>) -> Option<Code> {
    answer.as_ref().err().map(Error::code)
}

#[actix_rt::test]
async fn concurrent_posts_keep_their_order_without_gaps() {
    let mut fixture = TestRooms::new().await;
    let lobby = fixture.room("lobby").await;
    let pending: Vec<_> = (0..500)
        .map(|n| ask(&lobby, post("alice", &n.to_string())).ok().expect("the mailbox has room"))
        .collect();
    let answers =
        join_all(pending.into_iter().map(|p| p.until(Instant::now() + Duration::from_secs(30)))).await;
    let seqs: Vec<u64> = answers.into_iter().map(|answer| answer.unwrap().seq).collect();
    assert!(seqs.iter().copied().eq(1..=500), "{seqs:?}");
    let published = fixture.messages().await;
    assert!(
        published.iter().enumerate().all(|(n, (seq, text))| (*seq, text) == (n as u64 + 1, &n.to_string()))
    );
    assert_eq!(published.len(), 500);
}

/// Backpressure is per room: a room waits for its own clients before its next batch, and for no other room's clients.
#[actix_rt::test]
async fn a_room_with_lagging_clients_waits_and_other_rooms_do_not() {
    let fixture = TestRooms::new().await;
    fixture.create("loud", "alice", false).await;
    fixture.create("tea", "alice", false).await;
    fixture.set_lagging(Some("loud"));
    fixture.ask("loud", post("alice", "1")).await.unwrap();
    let waiting = ask(&fixture.room("loud").await, post("alice", "2")).ok().unwrap().answer();
    let mut waiting = std::pin::pin!(waiting);
    for text in ["1", "2", "3"] {
        fixture.ask("tea", post("alice", text)).await.unwrap();
    }
    assert!(futures_util::poll!(&mut waiting).is_pending());
    fixture.set_lagging(None);
    assert_eq!(waiting.await.unwrap().seq, 2);
}

/// Posts arrive before the change and wait for their batch. Each is in the log before the change, or is refused and not stored.
#[actix_rt::test]
async fn no_message_is_stored_after_the_end_of_its_room_or_membership() {
    let (alice, bob) = (|| name("alice"), || name("bob"));
    let changes = [
        ("archived", false, Request::Archive { by: alice() }, Code::NotFound),
        ("removed", false, Request::removal(alice(), bob()), Code::Forbidden),
        ("left", false, Request::removal(bob(), bob()), Code::Forbidden),
        ("hidden", true, Request::removal(alice(), bob()), Code::NotFound),
    ];
    for (what, is_private, request, expected) in changes {
        let mut fixture = TestRooms::new().await;
        fixture.create("tea", "alice", is_private).await;
        fixture.ask("tea", Change(Request::addition(alice(), bob()))).await.unwrap();
        fixture.messages().await;
        let actor = fixture.room("tea").await;
        let send = |n: u64| ask(&actor, post("bob", &n.to_string())).ok().expect("the mailbox has room");
        let before: Vec<_> = (0..150).map(send).collect();
        let changed = ask(&actor, Change(request)).ok().unwrap();
        let after: Vec<_> = (150..200).map(send).collect();
        changed.answer().await.unwrap();
        let answers = join_all(before.into_iter().chain(after).map(|pending| pending.answer())).await;
        let acked: Vec<u64> = answers.iter().flatten().map(|posted| posted.seq).collect();
        let refused: Vec<_> = answers.iter().filter(|answer| answer.is_err()).map(code).collect();
        assert!(refused.iter().all(|code| *code == Some(expected)), "{what}: {refused:?}");
        assert!(acked.len() <= 150 && acked.iter().copied().eq(1..=acked.len() as u64), "{what}: {acked:?}");
        fixture.parts.broker.flush().await;
        let (mut published, mut has_changed) = (0, false);
        while let Ok(entry) = fixture.entries.try_recv() {
            let is_message = message_of(&entry).is_some();
            assert!(!(is_message && has_changed), "{what}: a message after the change");
            published += usize::from(is_message);
            has_changed |= matches!(entry, Entry::Event(RoomEvent { kind: RoomEventKind::Change(_), .. }));
        }
        assert!(has_changed, "{what}");
        let head = fixture.parts.history.head(&room("tea")).await.unwrap().seq;
        assert_eq!((published, head), (acked.len(), acked.len() as u64), "{what}");
    }
}

#[actix_rt::test]
async fn two_actors_of_a_room_assign_distinct_numbers() {
    let mut fixture = TestRooms::new().await;
    let actors = [fixture.second_actor("lobby").await, fixture.second_actor("lobby").await];
    for n in 0..20 {
        let pending = ask(&actors[n % 2], post("alice", &n.to_string())).ok().unwrap();
        assert_eq!(pending.answer().await.unwrap().seq, n as u64 + 1);
    }
    assert!(fixture.messages().await.into_iter().map(|(seq, _)| seq).eq(1..=20));
}

#[actix_rt::test]
async fn an_ephemeral_room_keeps_only_its_last_messages() {
    let mut fixture = TestRooms::new().await;
    fixture.create_ephemeral("now", "alice").await;
    let now = fixture.room("now").await;
    let pending: Vec<_> =
        (0..KEEP + 20).map(|n| ask(&now, post("alice", &n.to_string())).ok().unwrap()).collect();
    join_all(pending.into_iter().map(|answer| answer.answer())).await;
    let history = fixture.parts.history.clone();
    let trimmed = async {
        loop {
            let slice = history.since(&room("now"), 0, 1000).await.unwrap();
            if slice.messages.len() as u64 == KEEP {
                return slice;
            }
            tokio::task::yield_now().await;
        }
    };
    let slice = tokio::time::timeout(Duration::from_secs(20), trimmed).await.expect("the room is trimmed");
    assert_eq!((slice.messages[0].message.seq, slice.head), (21, KEEP + 20));
    assert_eq!(fixture.messages().await.len() as u64, KEEP + 20);
}

#[actix_rt::test]
async fn a_room_is_started_once_and_stopped_when_idle() {
    let fixture = TestRooms::new().await;
    let [first, again] = [fixture.room("lobby").await, fixture.room("lobby").await];
    assert!(first == again);
    fixture.ask("lobby", post("alice", "a")).await.unwrap();
    fixture.rooms.send(super::Idle { name: room("lobby"), room: first.clone() }).await.unwrap();
    let next = fixture.room("lobby").await;
    assert!(first != next);
    while let Ok(pending) = ask(&first, Check { user: name("alice"), act: Act::Read }) {
        // A stopping actor refuses every question.
        assert_eq!(code(&pending.answer().await), Some(Code::Unavailable));
    }
    assert!(matches!(ask(&first, Settle), Err(AskError::Gone(_))));
    assert_eq!(fixture.ask("lobby", post("alice", "b")).await.unwrap().seq, 2);
    // An `Idle` of the replaced actor does not remove its successor.
    fixture.rooms.send(super::Idle { name: room("lobby"), room: first }).await.unwrap();
    assert!(fixture.room("lobby").await == next);
}
