//! The conformance suite of a store that is both [`History`] and [`Journal`], in addition to [`super::conformance`]. It runs on real
//! stores.

use std::sync::{Arc, Mutex};

use proto::{RoomName, Username};

use super::{
    Appended, Draft, History, Journal, MissedBy, Outcome,
    conformance::{append, draft, lobby},
};
use crate::config;

/// Runs the suite. `fresh` returns an empty store and a guard that keeps it alive.
///
/// # Panics
/// When the store does not conform.
pub async fn run<Guard, Store: History + Journal>(fresh: impl Fn() -> (Store, Guard)) {
    callbacks_run_in_commit_order(&fresh().0).await;
    offsets_are_not_reused(&fresh().0).await;
    epoch_is_stable(&fresh().0).await;
    missed_returns_all_or_none(&fresh().0).await;
}

async fn callbacks_run_in_commit_order(history: &(impl History + Journal)) {
    let committed = Arc::new(Mutex::new(Vec::new()));
    let rooms: Vec<RoomName> = (0..20).map(|n| format!("r{n}").parse().expect("a name")).collect();
    let appends = rooms.iter().map(|room| {
        let committed = committed.clone();
        let drafts = vec![draft("alice", "x", None), draft("alice", "y", None)];
        let record = move |appended: &Appended| {
            let offsets = appended.outcomes.iter().map(offset);
            committed.lock().expect("the lock is not poisoned").extend(offsets);
        };
        history.append(room, 0, drafts.into(), Box::new(record))
    });
    for appended in futures_util::future::join_all(appends).await {
        appended.expect("appends");
    }
    let must_not_run = |_: &Appended| panic!("the callback of a refused batch ran");
    let refused =
        history.append(&rooms[0], 7, vec![draft("a", "z", None)].into(), Box::new(must_not_run)).await;
    assert!(refused.is_err());
    let committed = committed.lock().expect("the lock is not poisoned").clone();
    assert_eq!(committed.len(), 40);
    assert!(committed.is_sorted_by(|a, b| a < b), "{committed:?}");
    assert_eq!(history.offset().await.as_ref(), Ok(&committed[39]));
}

async fn offsets_are_not_reused(history: &(impl History + Journal)) {
    append(history, 0, vec![draft("alice", "m1", None), draft("alice", "m2", None)]).await.expect("appends");
    history.trim(&lobby(), 1, proto::Timestamp(0)).await.expect("trims");
    let before = history.offset().await.expect("answers");
    let appended = append(history, 2, vec![draft("alice", "m3", None)]).await.expect("appends");
    assert_eq!(appended.outcomes, [Outcome::Stored { seq: 3, offset: Some(before + 1) }]);
}

async fn epoch_is_stable(history: &(impl History + Journal)) {
    let epoch = history.epoch().await.expect("answers");
    assert!(epoch.len() >= 8 && epoch.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{epoch}");
    append(history, 0, vec![draft("alice", "m1", None)]).await.expect("appends");
    assert_eq!(history.epoch().await, Ok(epoch));
}

async fn missed_returns_all_or_none(history: &(impl History + Journal)) {
    let other: RoomName = "other".parse().expect("a name");
    let from = |socket: &str, text: &str| Draft { origin: Some(socket.into()), ..draft("alice", text, None) };
    let appended = append(history, 0, vec![from("a", "m1"), from("b", "m2"), draft("bob", "m3", None)]).await;
    let Outcome::Stored { offset: Some(first), .. } = appended.expect("appends").outcomes[0] else {
        panic!("not stored")
    };
    history.append(&other, 0, vec![from("b", "elsewhere")].into(), Box::new(|_| {})).await.expect("appends");
    let user: Username = "alice".parse().expect("a name");
    let texts = async |rooms: &[RoomName], after, origin: &str| {
        let client = MissedBy { user: &user, rooms, socket: origin };
        let missed = history.missed(client, after).await.expect("answers");
        missed.map(|missed| {
            missed.messages.into_iter().map(|(_, message)| message.data.text).collect::<Vec<_>>()
        })
    };
    assert_eq!(
        texts(&[lobby()], first - 1, "a").await.expect("all"),
        ["m2", "m3"],
        "without messages of the origin and of other rooms"
    );
    assert_eq!(texts(&[lobby(), other.clone()], first, "x").await.expect("all"), ["m2", "m3", "elsewhere"]);
    let end = history.offset().await.expect("answers");
    assert_eq!(texts(&[lobby()], end, "a").await.expect("nothing"), [""; 0]);
    assert_eq!(texts(&[lobby()], end + 1, "a").await, None, "the offset is after the end of the log");

    for n in 3..3 + config::RECOVERY as u64 {
        append(history, n, vec![draft("bob", "more", None)]).await.expect("appends");
    }
    assert_eq!(texts(&[lobby()], end, "a").await.map(|all| all.len()), Some(config::RECOVERY));
    assert_eq!(texts(&[lobby()], first, "x").await, None, "one message more than the limit");
}

fn offset(outcome: &Outcome) -> u64 {
    match outcome {
        Outcome::Stored { offset: Some(offset), .. } => *offset,
        other => panic!("{other:?} has no offset"),
    }
}
