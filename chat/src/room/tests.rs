//! Rooms on real stores: their answers, the stored messages and the broker entries.

mod faulty;
mod store_faults;
mod support;

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use proto::event::{Act, Code, SettingsPatch};

use super::{Change, Settle, membership::Check, post::Posted, retention::KEEP, settings::Describe};
use crate::{
    Error,
    ask::{AskError, ask},
    broker::{Entry, RoomEvent, RoomEventKind},
    directory::{Request, Role},
};
use support::{TestRooms, message_of, name, post, room, with_id};

fn code<T>(answer: &Result<T, Error>) -> Option<Code> {
    answer.as_ref().err().map(Error::code)
}

#[actix_rt::test]
async fn a_post_is_stored_and_published_before_it_is_answered() {
    let mut fixture = TestRooms::new().await;
    let Posted { id, seq } = fixture.ask("lobby", post("alice", "hi")).await.unwrap();
    let Ok(Entry::Event(RoomEvent { offset, kind: RoomEventKind::Message { message, .. }, .. })) =
        fixture.entries.try_recv()
    else {
        panic!("no message entry")
    };
    assert_eq!((offset, message.id.as_str(), message.seq, seq), (Some(1), id.as_str(), 1, 1));
    let stored = fixture.parts.history.page(&room("lobby"), None, None, 10).await.unwrap();
    assert_eq!(stored.messages, [message]);
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

#[actix_rt::test]
async fn a_resend_gets_the_first_answer_and_is_published_once() {
    let mut fixture = TestRooms::new().await;
    let lobby = fixture.room("lobby").await;
    // The first two may be in one batch or in two batches. The result must be the same.
    let twins = [with_id("alice", "hi", "c1"), with_id("alice", "hi", "c1")];
    let twins: Vec<_> = twins.into_iter().map(|twin| ask(&lobby, twin).ok().unwrap()).collect();
    let twins = join_all(twins.into_iter().map(|twin| twin.answer())).await;
    let later = fixture.ask("lobby", with_id("alice", "hi", "c1")).await;
    assert_eq!(twins[0], twins[1]);
    assert_eq!(twins[0], later);
    let conflict = fixture.ask("lobby", with_id("alice", "ho", "c1")).await;
    assert_eq!(code(&conflict), Some(Code::Conflict));
    assert_eq!(fixture.ask("lobby", with_id("bob", "hi", "c1")).await.unwrap().seq, 2);
    assert_eq!(fixture.messages().await.len(), 2);
}

#[actix_rt::test]
async fn non_members_get_forbidden_in_a_public_room_and_not_found_in_a_private_one() {
    let fixture = TestRooms::new().await;
    fixture.create("tea", "alice", false).await;
    fixture.create("den", "alice", true).await;
    for (room, expected) in [("tea", Code::Forbidden), ("den", Code::NotFound), ("nowhere", Code::NotFound)] {
        assert_eq!(code(&fixture.ask(room, post("eve", "x")).await), Some(expected), "{room}");
        assert_eq!(
            code(&fixture.ask(room, Check { user: name("eve"), act: Act::Read }).await),
            Some(expected),
            "{room}"
        );
        let remove = Change(Request::removal(name("eve"), name("alice")));
        assert_eq!(code(&fixture.ask(room, remove).await), Some(expected), "{room}");
    }
    let den = fixture.ask("den", Describe(name("eve"))).await;
    assert_eq!(
        den,
        fixture.ask("nowhere", Describe(name("eve"))).await,
        "a private room is answered like a missing one"
    );
    let tea = fixture.ask("tea", Describe(name("eve"))).await.unwrap();
    assert_eq!((tea.role, tea.members), (None, None));
}

#[actix_rt::test]
async fn membership_changes_are_published_in_order() {
    let mut fixture = TestRooms::new().await;
    fixture.create("den", "alice", true).await;
    let add = |by, user| Change(Request::addition(name(by), name(user)));
    let remove = |by, user| Change(Request::removal(name(by), name(user)));
    assert_eq!(code(&fixture.ask("den", add("bob", "bob")).await), Some(Code::NotFound));
    fixture.ask("den", add("alice", "bob")).await.unwrap();
    fixture.ask("den", add("alice", "BOB")).await.unwrap();
    assert_eq!(code(&fixture.ask("den", add("bob", "carol")).await), Some(Code::Forbidden));
    fixture.ask("den", post("bob", "thanks")).await.unwrap();
    assert_eq!(code(&fixture.ask("den", remove("bob", "alice")).await), Some(Code::Forbidden));
    fixture.ask("den", remove("alice", "bob")).await.unwrap();
    assert_eq!(code(&fixture.ask("den", post("bob", "?")).await), Some(Code::NotFound));
    assert_eq!(fixture.summaries().await, ["bob joined den", "bob posted thanks", "bob left den"]);
}

#[actix_rt::test]
async fn every_user_can_join_and_leave_a_public_room_but_not_leave_the_lobby() {
    let mut fixture = TestRooms::new().await;
    fixture.create("tea", "alice", false).await;
    let bob = || name("bob");
    fixture.ask("tea", Change(Request::addition(bob(), bob()))).await.unwrap();
    assert!(fixture.ask("tea", Check { user: bob(), act: Act::Read }).await.is_ok());
    assert_eq!(fixture.ask("tea", Describe(bob())).await.unwrap().role, Some(Role::Member));
    fixture.ask("tea", Change(Request::removal(bob(), bob()))).await.unwrap();
    assert_eq!(code(&fixture.ask("tea", Check { user: bob(), act: Act::Read }).await), Some(Code::Forbidden));
    fixture.ask("lobby", Change(Request::addition(bob(), bob()))).await.unwrap();
    let leave = fixture.ask("lobby", Change(Request::removal(bob(), bob()))).await;
    assert_eq!(code(&leave), Some(Code::Forbidden));
    assert_eq!(fixture.summaries().await, ["bob joined tea", "bob left tea"]);
}

#[actix_rt::test]
async fn only_the_owner_changes_and_archives_a_room() {
    let mut fixture = TestRooms::new().await;
    fixture.create("tea", "alice", false).await;
    let (alice, bob) = (|| name("alice"), || name("bob"));
    fixture.ask("tea", Change(Request::addition(bob(), bob()))).await.unwrap();
    assert_eq!(
        code(
            &fixture
                .ask(
                    "tea",
                    Change(Request::Settings { by: bob(), patch: SettingsPatch { private: Some(true) } })
                )
                .await
        ),
        Some(Code::Forbidden)
    );
    assert_eq!(
        code(&fixture.ask("tea", Change(Request::Archive { by: bob() })).await),
        Some(Code::Forbidden)
    );
    fixture
        .ask("tea", Change(Request::Settings { by: alice(), patch: SettingsPatch { private: Some(true) } }))
        .await
        .unwrap();
    assert_eq!(
        code(&fixture.ask("tea", Check { user: name("eve"), act: Act::Read }).await),
        Some(Code::NotFound)
    );
    fixture.ask("tea", Change(Request::Archive { by: alice() })).await.unwrap();
    assert_eq!(code(&fixture.ask("tea", post("alice", "anyone?")).await), Some(Code::NotFound));
    assert_eq!(code(&fixture.ask("tea", Describe(alice())).await), Some(Code::NotFound));
    assert_eq!(fixture.summaries().await, ["bob joined tea", "tea archived for alice, bob"]);
    assert_eq!(
        code(&fixture.ask("lobby", Change(Request::Archive { by: alice() })).await),
        Some(Code::Forbidden)
    );
}

#[actix_rt::test]
async fn a_private_room_is_archived_when_its_last_member_leaves() {
    let fixture = TestRooms::new().await;
    fixture.create("den", "alice", true).await;
    fixture.ask("den", Change(Request::removal(name("alice"), name("alice")))).await.unwrap();
    assert_eq!(code(&fixture.ask("den", Describe(name("alice"))).await), Some(Code::NotFound));
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
        fixture.summaries().await;
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
async fn posts_after_their_deadline_are_not_stored() {
    let mut fixture = TestRooms::new().await;
    let mut late = post("alice", "late");
    late.deadline = Instant::now();
    assert_eq!(code(&fixture.ask("lobby", late).await), Some(Code::Unavailable));
    assert_eq!(fixture.ask("lobby", post("alice", "in time")).await.unwrap().seq, 1);
    assert_eq!(fixture.messages().await, [(1, "in time".to_owned())]);
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

#[actix_rt::test]
async fn a_post_over_http_is_published_without_an_origin() {
    let mut fixture = TestRooms::new().await;
    fixture.ask("lobby", post("alice", "over http")).await.unwrap();
    let entry = fixture.entries.try_recv().unwrap();
    assert!(matches!(message_of(&entry), Some((None, "over http"))), "{entry:?}");
}
