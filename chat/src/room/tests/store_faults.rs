//! Rooms on stores that fail, are slow, or commit without an answer.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use proto::event::{Act, Code, SettingsPatch};

use super::{
    code,
    faulty::Fault,
    support::{TestRooms, name, post, room, with_id},
};
use crate::{
    ask::ask,
    broker::{Entry, RoomEvent, RoomEventKind},
    directory::{Request, shorthand::Shorthand},
    room::{Change, Reload, Settle, membership::Check, queue::MAX_WAITING},
};

#[actix_rt::test]
async fn a_post_with_an_unknown_outcome_is_refused_and_the_next_post_gets_the_next_number() {
    let mut fixture = TestRooms::with(Fault::StoresAndFails).await;
    let unknown = fixture.ask("lobby", with_id("alice", "hi", "c1")).await;
    assert_eq!(code(&unknown), Some(Code::Unavailable));
    fixture.clear_fault();
    assert_eq!(fixture.ask("lobby", post("bob", "and?")).await.unwrap().seq, 2);
    assert_eq!(fixture.ask("lobby", with_id("alice", "hi", "c1")).await.unwrap().seq, 1);
    assert_eq!(fixture.messages().await, [(1, "hi".to_owned()), (2, "and?".to_owned())]);
}

#[actix_rt::test]
async fn a_full_queue_refuses_posts_and_accepted_posts_are_stored() {
    let mut fixture = TestRooms::with(Fault::Waits).await;
    let lobby = fixture.room("lobby").await;
    let mut pending = Vec::new();
    // One post is in flight and `MAX_WAITING` posts are queued: the queue is full.
    for n in 0..=MAX_WAITING {
        match ask(&lobby, post("alice", &n.to_string())) {
            Ok(answer) => pending.push(answer),
            Err(_) => panic!("the mailbox is full"),
        }
        if n % 256 == 0 {
            fixture.ask("lobby", Check { user: name("alice"), act: Act::Read }).await.unwrap();
        }
    }
    let over = fixture.ask("lobby", post("alice", "over")).await;
    assert_eq!(code(&over), Some(Code::Unavailable));
    let settled = ask(&lobby, Settle).ok().unwrap();
    fixture.clear_fault();
    let answers = join_all(pending.into_iter().map(|answer| answer.answer()));
    // The broker's queue is as long as the room's. Until it is drained, the store blocks.
    let drained = async {
        for _ in 0..=MAX_WAITING {
            fixture.entries.recv().await.expect("the broker is open");
        }
    };
    let (answers, ()) = futures_util::join!(answers, drained);
    assert!(answers.iter().all(Result::is_ok));
    settled.answer().await.unwrap();
}

#[actix_rt::test]
async fn a_post_is_refused_at_its_deadline_when_the_store_never_answers() {
    let fixture = TestRooms::with(Fault::Waits).await;
    let lobby = fixture.room("lobby").await;
    // The deadline is the caller's, as in the client.
    let pending = ask(&lobby, post("alice", "x")).ok().unwrap();
    let answer = pending.until(Instant::now() + Duration::from_millis(1)).await;
    assert_eq!(code(&answer), Some(Code::Unavailable));
}

/// A room `tea` of alice with bob as a member.
async fn tea() -> TestRooms {
    let fixture = TestRooms::new().await;
    fixture.create("tea", "alice", false).await;
    fixture.ask("tea", Change(Request::addition(name("bob"), name("bob")))).await.unwrap();
    fixture
}

#[actix_rt::test]
async fn a_removal_whose_answer_is_lost_takes_effect() {
    let fixture = tea().await;
    fixture.set_fault(Fault::StoresAndFails);
    let unknown = fixture.ask("tea", Change(Request::removal(name("alice"), name("bob")))).await;
    assert_eq!(code(&unknown), Some(Code::Unavailable));
    fixture.clear_fault();
    assert_eq!(code(&fixture.ask("tea", post("bob", "still a member?")).await), Some(Code::Forbidden));
}

#[actix_rt::test]
async fn a_removal_that_is_committed_after_its_timeout_takes_effect() {
    let mut fixture = tea().await;
    fixture.set_fault(Fault::FailsAndStores);
    let unknown = fixture.ask("tea", Change(Request::removal(name("alice"), name("bob")))).await;
    assert_eq!(code(&unknown), Some(Code::Unavailable));
    assert!(
        fixture.ask("tea", Check { user: name("bob"), act: Act::Read }).await.is_ok(),
        "the removal is not committed yet"
    );
    fixture.clear_fault();
    while !matches!(
        fixture.entries.recv().await.unwrap(),
        Entry::Event(RoomEvent { kind: RoomEventKind::Change(_), .. })
    ) {}
    let gone =
        async { while fixture.ask("tea", Check { user: name("bob"), act: Act::Read }).await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(20), gone).await.expect("the room applies the removal");
}

/// The change that makes a room private.
fn private() -> SettingsPatch {
    SettingsPatch { private: Some(true) }
}

/// Another node has removed bob. No question is answered by the state before, also while the store does not answer.
#[actix_rt::test]
async fn a_room_that_another_node_has_changed_is_read_before_it_answers() {
    let fixture = tea().await;
    let actor = fixture.room("tea").await;
    let code_of_check =
        async || code(&ask(&actor, Check { user: name("bob"), act: Act::Read }).ok().unwrap().answer().await);
    assert_eq!(code_of_check().await, None);
    let directory = &fixture.parts.directory;
    directory.remove(&room("tea"), &name("bob"), &name("alice"), Box::new(drop)).await.unwrap();
    fixture.set_fault(Fault::ReadsFail);
    actor.send(Reload).await.unwrap();
    assert_eq!(code_of_check().await, Some(Code::Unavailable));
    let posted = ask(&actor, post("bob", "hi")).ok().unwrap().answer().await;
    assert_eq!(code(&posted), Some(Code::Unavailable));
    fixture.clear_fault();
    assert_eq!(code_of_check().await, Some(Code::Forbidden));
    let posted = ask(&actor, post("bob", "hi")).ok().unwrap().answer().await;
    assert_eq!(code(&posted), Some(Code::Forbidden));
}

/// Another node has removed bob. This node then changes the room before it reads the removal.
#[actix_rt::test]
async fn a_change_after_one_of_another_node_does_not_count_for_both() {
    let fixture = tea().await;
    let actor = fixture.room("tea").await;
    assert!(ask(&actor, Check { user: name("bob"), act: Act::Read }).ok().unwrap().answer().await.is_ok());
    let directory = &fixture.parts.directory;
    directory.remove(&room("tea"), &name("bob"), &name("alice"), Box::new(drop)).await.unwrap();
    ask(&actor, Change(Request::Settings { by: name("alice"), patch: private() }))
        .ok()
        .unwrap()
        .answer()
        .await
        .unwrap();
    let answer = ask(&actor, post("bob", "still a member?")).ok().unwrap().answer().await;
    assert_eq!(code(&answer), Some(Code::NotFound));
}
