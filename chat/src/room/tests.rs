//! Rooms on real stores: what they answer, what they store, what they tell the log.

mod faulty;
mod revalidate;
mod support;

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use proto::event::Code;

use super::{
    Settle,
    membership::{Add, Check, Remove},
    post::Posted,
    retention::KEEP,
    settings::{Archive, Describe, SetPrivate},
};
use crate::{
    Error,
    ask::{Unasked, ask},
    broker::Entry,
    directory::Role,
};
use support::{Stage, name, post, room, said, with_id};

fn code<T>(answer: &Result<T, Error>) -> Option<Code> {
    answer.as_ref().err().map(Error::code)
}

#[actix_rt::test]
async fn a_post_is_stored_and_in_the_log_before_it_is_answered() {
    let mut stage = Stage::new().await;
    let Posted { id, seq } = stage.ask("lobby", post("alice", "hi")).await.unwrap();
    let Ok(Entry::Message { offset, message, .. }) = stage.entries.try_recv() else {
        panic!("nothing in the log")
    };
    assert_eq!((offset, message.id.as_str(), message.seq, seq), (Some(1), id.as_str(), 1, 1));
    let stored = stage.parts.history.page(&room("lobby"), None, None, 10).await.unwrap();
    assert_eq!(stored.messages, [message]);
}

#[actix_rt::test]
async fn posts_that_come_together_keep_their_order_without_holes() {
    let mut stage = Stage::new().await;
    let lobby = stage.room("lobby").await;
    let pending: Vec<_> = (0..500)
        .map(|n| ask(&lobby, post("alice", &n.to_string())).ok().expect("the mailbox has room"))
        .collect();
    let answers =
        join_all(pending.into_iter().map(|p| p.until(Instant::now() + Duration::from_secs(30)))).await;
    let seqs: Vec<u64> = answers.into_iter().map(|answer| answer.unwrap().seq).collect();
    assert!(seqs.iter().copied().eq(1..=500), "{seqs:?}");
    let logged = stage.said().await;
    assert!(logged.iter().enumerate().all(|(n, (seq, text))| (*seq, text) == (n as u64 + 1, &n.to_string())));
    assert_eq!(logged.len(), 500);
}

/// A room waits for its own clients before its next batch, and for no other room's.
#[actix_rt::test]
async fn a_room_whose_clients_are_behind_waits_and_others_do_not() {
    let stage = Stage::new().await;
    stage.create("loud", "alice", false).await;
    stage.create("tea", "alice", false).await;
    stage.fall_behind(Some("loud"));
    stage.ask("loud", post("alice", "1")).await.unwrap();
    let waits = ask(&stage.room("loud").await, post("alice", "2")).ok().unwrap().answer();
    let mut waits = std::pin::pin!(waits);
    for text in ["1", "2", "3"] {
        stage.ask("tea", post("alice", text)).await.unwrap();
    }
    assert!(futures_util::poll!(&mut waits).is_pending());
    stage.fall_behind(None);
    assert_eq!(waits.await.unwrap().seq, 2);
}

#[actix_rt::test]
async fn a_resend_answers_with_the_first_result_and_is_told_once() {
    let mut stage = Stage::new().await;
    let lobby = stage.room("lobby").await;
    // The first two are in one batch or in two; both must hold.
    let twins = [with_id("alice", "hi", "c1"), with_id("alice", "hi", "c1")];
    let twins: Vec<_> = twins.into_iter().map(|twin| ask(&lobby, twin).ok().unwrap()).collect();
    let twins = join_all(twins.into_iter().map(|twin| twin.answer())).await;
    let later = stage.ask("lobby", with_id("alice", "hi", "c1")).await;
    assert_eq!(twins[0], twins[1]);
    assert_eq!(twins[0], later);
    let conflict = stage.ask("lobby", with_id("alice", "ho", "c1")).await;
    assert_eq!(code(&conflict), Some(Code::Conflict));
    assert_eq!(stage.ask("lobby", with_id("bob", "hi", "c1")).await.unwrap().seq, 2);
    assert_eq!(stage.said().await.len(), 2);
}

#[actix_rt::test]
async fn strangers_hear_forbidden_of_a_public_room_and_not_found_of_a_private_one() {
    let stage = Stage::new().await;
    stage.create("tea", "alice", false).await;
    stage.create("den", "alice", true).await;
    for (room, expected) in [("tea", Code::Forbidden), ("den", Code::NotFound), ("nowhere", Code::NotFound)] {
        assert_eq!(code(&stage.ask(room, post("eve", "x")).await), Some(expected), "{room}");
        assert_eq!(code(&stage.ask(room, Check(name("eve"))).await), Some(expected), "{room}");
        let remove = Remove { by: name("eve"), user: name("alice") };
        assert_eq!(code(&stage.ask(room, remove).await), Some(expected), "{room}");
    }
    let den = stage.ask("den", Describe(name("eve"))).await;
    assert_eq!(den, stage.ask("nowhere", Describe(name("eve"))).await, "no difference to be seen");
    let tea = stage.ask("tea", Describe(name("eve"))).await.unwrap();
    assert_eq!((tea.role, tea.members), (None, None));
}

#[actix_rt::test]
async fn members_come_and_go_and_the_log_tells_it_in_order() {
    let mut stage = Stage::new().await;
    stage.create("den", "alice", true).await;
    let add = |by, user| Add { by: name(by), user: name(user) };
    let remove = |by, user| Remove { by: name(by), user: name(user) };
    assert_eq!(code(&stage.ask("den", add("bob", "bob")).await), Some(Code::NotFound));
    stage.ask("den", add("alice", "bob")).await.unwrap();
    stage.ask("den", add("alice", "BOB")).await.unwrap();
    assert_eq!(code(&stage.ask("den", add("bob", "carol")).await), Some(Code::Forbidden));
    stage.ask("den", post("bob", "thanks")).await.unwrap();
    assert_eq!(code(&stage.ask("den", remove("bob", "alice")).await), Some(Code::Forbidden));
    stage.ask("den", remove("alice", "bob")).await.unwrap();
    assert_eq!(code(&stage.ask("den", post("bob", "?")).await), Some(Code::NotFound));
    assert_eq!(stage.sketch().await, ["bob joined den", "bob said thanks", "bob left den"]);
}

#[actix_rt::test]
async fn anybody_enters_and_leaves_a_public_room_but_not_the_lobby() {
    let mut stage = Stage::new().await;
    stage.create("tea", "alice", false).await;
    let bob = || name("bob");
    stage.ask("tea", Add { by: bob(), user: bob() }).await.unwrap();
    assert_eq!(stage.ask("tea", Check(bob())).await, Ok(Role::Member));
    stage.ask("tea", Remove { by: bob(), user: bob() }).await.unwrap();
    assert_eq!(code(&stage.ask("tea", Check(bob())).await), Some(Code::Forbidden));
    stage.ask("lobby", Add { by: bob(), user: bob() }).await.unwrap();
    let leave = stage.ask("lobby", Remove { by: bob(), user: bob() }).await;
    assert_eq!(code(&leave), Some(Code::Forbidden));
    assert_eq!(stage.sketch().await, ["bob joined tea", "bob left tea"]);
}

#[actix_rt::test]
async fn an_owner_changes_and_archives_and_a_member_does_not() {
    let mut stage = Stage::new().await;
    stage.create("tea", "alice", false).await;
    let (alice, bob) = (|| name("alice"), || name("bob"));
    stage.ask("tea", Add { by: bob(), user: bob() }).await.unwrap();
    assert_eq!(code(&stage.ask("tea", SetPrivate { by: bob(), private: true }).await), Some(Code::Forbidden));
    assert_eq!(code(&stage.ask("tea", Archive { by: bob() }).await), Some(Code::Forbidden));
    stage.ask("tea", SetPrivate { by: alice(), private: true }).await.unwrap();
    assert_eq!(code(&stage.ask("tea", Check(name("eve"))).await), Some(Code::NotFound));
    stage.ask("tea", Archive { by: alice() }).await.unwrap();
    assert_eq!(code(&stage.ask("tea", post("alice", "anyone?")).await), Some(Code::NotFound));
    assert_eq!(code(&stage.ask("tea", Describe(alice())).await), Some(Code::NotFound));
    assert_eq!(stage.sketch().await, ["bob joined tea", "tea archived for alice, bob"]);
    assert_eq!(code(&stage.ask("lobby", Archive { by: alice() }).await), Some(Code::Forbidden));
}

#[actix_rt::test]
async fn the_last_one_to_leave_a_private_room_closes_it() {
    let stage = Stage::new().await;
    stage.create("den", "alice", true).await;
    stage.ask("den", Remove { by: name("alice"), user: name("alice") }).await.unwrap();
    assert_eq!(code(&stage.ask("den", Describe(name("alice"))).await), Some(Code::NotFound));
}

#[actix_rt::test]
async fn two_owners_of_a_room_share_its_numbers() {
    let mut stage = Stage::new().await;
    let rivals = [stage.another("lobby").await, stage.another("lobby").await];
    for n in 0..20 {
        let pending = ask(&rivals[n % 2], post("alice", &n.to_string())).ok().unwrap();
        assert_eq!(pending.answer().await.unwrap().seq, n as u64 + 1);
    }
    assert!(stage.said().await.into_iter().map(|(seq, _)| seq).eq(1..=20));
}

#[actix_rt::test]
async fn what_is_too_late_is_not_said() {
    let mut stage = Stage::new().await;
    let mut late = post("alice", "late");
    late.deadline = Instant::now();
    assert_eq!(code(&stage.ask("lobby", late).await), Some(Code::Unavailable));
    assert_eq!(stage.ask("lobby", post("alice", "in time")).await.unwrap().seq, 1);
    assert_eq!(stage.said().await, [(1, "in time".to_owned())]);
}

#[actix_rt::test]
async fn an_ephemeral_room_forgets_all_but_its_last_messages() {
    let mut stage = Stage::new().await;
    stage.create_ephemeral("now", "alice").await;
    let now = stage.room("now").await;
    let pending: Vec<_> =
        (0..KEEP + 20).map(|n| ask(&now, post("alice", &n.to_string())).ok().unwrap()).collect();
    join_all(pending.into_iter().map(|answer| answer.answer())).await;
    let history = stage.parts.history.clone();
    let kept = async {
        loop {
            let slice = history.since(&room("now"), 0, 1000).await.unwrap();
            if slice.messages.len() as u64 == KEEP {
                return slice;
            }
            tokio::task::yield_now().await;
        }
    };
    let slice = tokio::time::timeout(Duration::from_secs(20), kept).await.expect("it is trimmed");
    assert_eq!((slice.messages[0].message.seq, slice.head), (21, KEEP + 20));
    assert_eq!(stage.said().await.len() as u64, KEEP + 20);
}

#[actix_rt::test]
async fn a_room_is_started_once_and_put_away_when_idle() {
    let stage = Stage::new().await;
    let [first, again] = [stage.room("lobby").await, stage.room("lobby").await];
    assert!(first == again);
    stage.ask("lobby", post("alice", "a")).await.unwrap();
    stage.rooms.send(super::Idle { name: room("lobby"), room: first.clone() }).await.unwrap();
    let next = stage.room("lobby").await;
    assert!(first != next);
    while let Ok(pending) = ask(&first, Check(name("alice"))) {
        // Until it has gone it may only say that it is going.
        assert_eq!(code(&pending.answer().await), Some(Code::Unavailable));
    }
    assert!(matches!(ask(&first, Settle), Err(Unasked::Gone(_))));
    assert_eq!(stage.ask("lobby", post("alice", "b")).await.unwrap().seq, 2);
    // A room that was replaced says that it is idle: the one that took its place stays.
    stage.rooms.send(super::Idle { name: room("lobby"), room: first }).await.unwrap();
    assert!(stage.room("lobby").await == next);
}

#[actix_rt::test]
async fn a_post_is_told_with_the_socket_it_came_from() {
    let mut stage = Stage::new().await;
    stage.ask("lobby", post("alice", "over http")).await.unwrap();
    let entry = stage.entries.try_recv().unwrap();
    assert!(matches!(said(&entry), Some((None, "over http"))), "{entry:?}");
}
