//! Rooms on real stores: their answers, the stored messages and the broker entries.

mod faulty;
mod store_faults;
mod support;

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use proto::event::{Act, Code, SettingsPatch};

use super::{
    Reload, Settle,
    membership::{Add, Check, Remove},
    post::Posted,
    retention::KEEP,
    settings::{Archive, ChangeSettings, Describe},
};
use crate::{
    Error,
    ask::{AskError, ask},
    broker::{Entry, RoomEvent, RoomEventKind},
    directory::Role,
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
        let remove = Remove { by: name("eve"), user: name("alice") };
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
    let add = |by, user| Add { by: name(by), user: name(user) };
    let remove = |by, user| Remove { by: name(by), user: name(user) };
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
    fixture.ask("tea", Add { by: bob(), user: bob() }).await.unwrap();
    assert_eq!(fixture.ask("tea", Check { user: bob(), act: Act::Read }).await, Ok(()));
    assert_eq!(fixture.ask("tea", Describe(bob())).await.unwrap().role, Some(Role::Member));
    fixture.ask("tea", Remove { by: bob(), user: bob() }).await.unwrap();
    assert_eq!(code(&fixture.ask("tea", Check { user: bob(), act: Act::Read }).await), Some(Code::Forbidden));
    fixture.ask("lobby", Add { by: bob(), user: bob() }).await.unwrap();
    let leave = fixture.ask("lobby", Remove { by: bob(), user: bob() }).await;
    assert_eq!(code(&leave), Some(Code::Forbidden));
    assert_eq!(fixture.summaries().await, ["bob joined tea", "bob left tea"]);
}

#[actix_rt::test]
async fn only_the_owner_changes_and_archives_a_room() {
    let mut fixture = TestRooms::new().await;
    fixture.create("tea", "alice", false).await;
    let (alice, bob) = (|| name("alice"), || name("bob"));
    fixture.ask("tea", Add { by: bob(), user: bob() }).await.unwrap();
    assert_eq!(
        code(
            &fixture
                .ask("tea", ChangeSettings { by: bob(), patch: SettingsPatch { private: Some(true) } })
                .await
        ),
        Some(Code::Forbidden)
    );
    assert_eq!(code(&fixture.ask("tea", Archive { by: bob() }).await), Some(Code::Forbidden));
    fixture
        .ask("tea", ChangeSettings { by: alice(), patch: SettingsPatch { private: Some(true) } })
        .await
        .unwrap();
    assert_eq!(
        code(&fixture.ask("tea", Check { user: name("eve"), act: Act::Read }).await),
        Some(Code::NotFound)
    );
    fixture.ask("tea", Archive { by: alice() }).await.unwrap();
    assert_eq!(code(&fixture.ask("tea", post("alice", "anyone?")).await), Some(Code::NotFound));
    assert_eq!(code(&fixture.ask("tea", Describe(alice())).await), Some(Code::NotFound));
    assert_eq!(fixture.summaries().await, ["bob joined tea", "tea archived for alice, bob"]);
    assert_eq!(code(&fixture.ask("lobby", Archive { by: alice() }).await), Some(Code::Forbidden));
}

#[actix_rt::test]
async fn a_private_room_is_archived_when_its_last_member_leaves() {
    let fixture = TestRooms::new().await;
    fixture.create("den", "alice", true).await;
    fixture.ask("den", Remove { by: name("alice"), user: name("alice") }).await.unwrap();
    assert_eq!(code(&fixture.ask("den", Describe(name("alice"))).await), Some(Code::NotFound));
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

#[actix_rt::test]
async fn a_reload_reads_all_settings() {
    let fixture = TestRooms::new().await;
    fixture.create("tea", "alice", false).await;
    let alice = || name("alice");
    let other_node = fixture.second_actor("tea").await;
    let patch = SettingsPatch { private: Some(true) };
    fixture.ask("tea", ChangeSettings { by: alice(), patch }).await.unwrap();
    other_node.try_send(Reload).unwrap();
    let seen = ask(&other_node, Describe(alice())).ok().unwrap().answer().await.unwrap();
    let stored = fixture.parts.directory.find(&room("tea")).await.unwrap().unwrap();
    assert!(stored.room_info.settings.private);
    assert_eq!(seen.room_info, stored.room_info);
}

/// The room handles the posts and the change before the first batch is stored.
#[actix_rt::test]
async fn posts_that_wait_when_their_room_ends_or_their_author_leaves_are_not_stored() {
    let mut fixture = TestRooms::new().await;
    let late = || Instant::now() + Duration::from_secs(30);
    for (room_name, is_archived, expected) in
        [("tea", true, Code::NotFound), ("den", false, Code::NotFound), ("pub", false, Code::Forbidden)]
    {
        fixture.create(room_name, "alice", room_name == "den").await;
        fixture.ask(room_name, Add { by: name("alice"), user: name("bob") }).await.unwrap();
        fixture.drain_entries().await;
        let actor = fixture.room(room_name).await;
        let pending: Vec<_> = (0..150)
            .map(|n| ask(&actor, post("bob", &n.to_string())).ok().expect("the mailbox has room"))
            .collect();
        let of_alice = ask(&actor, post("alice", "mine")).ok().unwrap();
        let changed = match is_archived {
            true => ask(&actor, Archive { by: name("alice") }).ok().unwrap().until(late()).await,
            false => {
                let remove = Remove { by: name("bob"), user: name("bob") };
                ask(&actor, remove).ok().unwrap().until(late()).await.map(drop)
            }
        };
        changed.unwrap();
        let answers = join_all(pending.into_iter().map(|pending| pending.until(late()))).await;
        let acked = answers.iter().filter(|answer| answer.is_ok()).count();
        assert!(answers.iter().all(|answer| answer.is_ok() || code(answer) == Some(expected)), "{room_name}");
        let of_alice = of_alice.until(late()).await;
        assert_eq!(of_alice.is_ok(), !is_archived, "{room_name}: {of_alice:?}");
        let entries = fixture.summaries().await;
        let change = entries.iter().position(|entry| !entry.contains(" posted ")).expect("a change");
        let posted =
            |entries: &[String]| entries.iter().filter(|entry| entry.starts_with("bob posted")).count();
        assert_eq!((posted(&entries[..change]), posted(&entries[change..])), (acked, 0), "{room_name}");
        let stored = fixture.parts.history.page(&room(room_name), None, None, 100).await.unwrap();
        let of_bob = stored.messages.iter().filter(|message| message.from.as_str() == "bob").count();
        assert_eq!(of_bob, acked.min(100), "{room_name}");
    }
}
