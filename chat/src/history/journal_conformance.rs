//! The conformance suite of a store that is both [`History`] and [`Journal`], in addition to [`super::conformance`]. It runs on real
//! stores.

use std::sync::{Arc, Mutex};

use proto::RoomName;

use super::{
    Appended, Draft, History, Journal, Outcome,
    conformance::{append, draft, lobby},
};
use crate::config;

/// Runs the suite. `fresh` returns an empty store and a guard that keeps it alive.
///
/// # Panics
/// When the store does not conform.
pub async fn run<Guard, Store: History + Journal>(fresh: impl Fn() -> (Store, Guard)) {
    tells_of_commits_in_their_order(&fresh().0).await;
    gives_no_offset_twice(&fresh().0).await;
    keeps_its_epoch(&fresh().0).await;
    gives_all_that_was_missed_or_nothing(&fresh().0).await;
}

async fn tells_of_commits_in_their_order(history: &(impl History + Journal)) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let rooms: Vec<RoomName> = (0..20).map(|n| format!("r{n}").parse().expect("a name")).collect();
    let appends = rooms.iter().map(|room| {
        let heard = heard.clone();
        let drafts = vec![draft("alice", "x", None), draft("alice", "y", None)];
        let note = move |appended: &Appended| {
            let offsets = appended.outcomes.iter().map(offset);
            heard.lock().expect("nobody panics with it").extend(offsets);
        };
        history.append(room, 0, drafts.into(), Box::new(note))
    });
    for appended in futures_util::future::join_all(appends).await {
        appended.expect("appends");
    }
    let fenced = |_: &Appended| panic!("a refused batch was told of");
    let refused = history.append(&rooms[0], 7, vec![draft("a", "z", None)].into(), Box::new(fenced)).await;
    assert!(refused.is_err());
    let heard = heard.lock().expect("nobody panics with it").clone();
    assert_eq!(heard.len(), 40);
    assert!(heard.is_sorted_by(|a, b| a < b), "{heard:?}");
    assert_eq!(history.offset().await.as_ref(), Ok(&heard[39]));
}

async fn gives_no_offset_twice(history: &(impl History + Journal)) {
    append(history, 0, vec![draft("alice", "m1", None), draft("alice", "m2", None)]).await.expect("appends");
    history.trim(&lobby(), 1, proto::Timestamp(0)).await.expect("trims");
    let before = history.offset().await.expect("answers");
    let appended = append(history, 2, vec![draft("alice", "m3", None)]).await.expect("appends");
    assert_eq!(appended.outcomes, [Outcome::Stored { seq: 3, offset: Some(before + 1) }]);
}

async fn keeps_its_epoch(history: &(impl History + Journal)) {
    let epoch = history.epoch().await.expect("answers");
    assert!(epoch.len() >= 8 && epoch.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{epoch}");
    append(history, 0, vec![draft("alice", "m1", None)]).await.expect("appends");
    assert_eq!(history.epoch().await, Ok(epoch));
}

async fn gives_all_that_was_missed_or_nothing(history: &(impl History + Journal)) {
    let other: RoomName = "other".parse().expect("a name");
    let from = |socket: &str, text: &str| Draft { origin: Some(socket.into()), ..draft("alice", text, None) };
    let said = append(history, 0, vec![from("a", "m1"), from("b", "m2"), draft("bob", "m3", None)]).await;
    let Outcome::Stored { offset: Some(first), .. } = said.expect("appends").outcomes[0] else {
        panic!("stored")
    };
    history.append(&other, 0, vec![from("b", "elsewhere")].into(), Box::new(|_| {})).await.expect("appends");
    let texts = async |rooms: &[RoomName], after, origin| {
        let missed = history.missed(rooms, after, origin).await.expect("answers");
        missed.map(|missed| {
            missed.messages.into_iter().map(|(_, message)| message.data.text).collect::<Vec<_>>()
        })
    };
    assert_eq!(
        texts(&[lobby()], first - 1, "a").await.expect("all"),
        ["m2", "m3"],
        "not its own, not elsewhere"
    );
    assert_eq!(texts(&[lobby(), other.clone()], first, "x").await.expect("all"), ["m2", "m3", "elsewhere"]);
    let end = history.offset().await.expect("answers");
    assert_eq!(texts(&[lobby()], end, "a").await.expect("nothing"), [""; 0]);
    assert_eq!(texts(&[lobby()], end + 1, "a").await, None, "nobody was there yet");

    for n in 3..3 + config::RECOVERY as u64 {
        append(history, n, vec![draft("bob", "more", None)]).await.expect("appends");
    }
    assert_eq!(texts(&[lobby()], end, "a").await.map(|all| all.len()), Some(config::RECOVERY));
    assert_eq!(texts(&[lobby()], first, "x").await, None, "one too many");
}

fn offset(outcome: &Outcome) -> u64 {
    match outcome {
        Outcome::Stored { offset: Some(offset), .. } => *offset,
        other => panic!("{other:?} has no offset"),
    }
}
