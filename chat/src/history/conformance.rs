//! The conformance suite of [`History`]. The tests of each backend run it on real stores.

use std::sync::{Arc, Mutex};

use proto::{RoomName, Timestamp};

use super::{Appended, Draft, History, Outcome, RoomHead};
use crate::{Error, config, text::Text};

/// Runs the suite. `fresh` returns an empty store and a guard that keeps it alive.
///
/// # Panics
/// When the store does not conform.
pub async fn run<Guard>(fresh: impl Fn() -> (Arc<dyn History>, Guard)) {
    numbers_start_at_one_without_gaps(&*fresh().0).await;
    stale_head_is_fenced(&*fresh().0).await;
    resend_returns_the_first_result(&*fresh().0).await;
    duplicates_within_a_batch_are_found(&*fresh().0).await;
    callback_runs_for_stored_batches_only(&*fresh().0).await;
    pages_are_newest_first(&*fresh().0).await;
    answers_are_limited_in_bytes(&*fresh().0).await;
    since_returns_later_messages(&*fresh().0).await;
    timestamps_never_decrease(&*fresh().0).await;
    timestamps_do_not_follow_a_clock_years_ahead(&*fresh().0).await;
    trim_keeps_the_last_message(&*fresh().0).await;
    origin_is_stored(&*fresh().0).await;
}

/// A draft by `author` with an id that is derived from its text.
pub(super) fn draft(author: &str, text: &str, client_id: Option<&str>) -> Draft {
    Draft {
        id: format!("id of {}", &text[..text.len().min(20)]),
        author: author.parse().expect("tests use good names"),
        text: Text::parse(text.to_owned(), usize::MAX).expect("tests use non-empty texts"),
        client_id: client_id.map(|id| id.to_owned().try_into().expect("tests use good client ids")),
        timestamp: Timestamp(1000),
        origin: None,
    }
}

pub(super) fn lobby() -> RoomName {
    RoomName::lobby()
}

pub(super) async fn append(history: &dyn History, head: u64, drafts: Vec<Draft>) -> Result<Appended, Error> {
    history.append(&lobby(), head, drafts.into(), Box::new(|_| {})).await
}

async fn append_texts(history: &dyn History, count: u64) {
    for n in 0..count {
        append(history, n, vec![draft("alice", &format!("m{}", n + 1), None)]).await.expect("appends");
    }
}

async fn numbers_start_at_one_without_gaps(history: &dyn History) {
    assert!(history.is_empty().await.expect("answers"));
    assert_eq!(history.head(&lobby()).await, Ok(RoomHead::default()));
    let two =
        append(history, 0, vec![draft("alice", "a", None), draft("bob", "b", None)]).await.expect("appends");
    let one = append(history, 2, vec![draft("alice", "c", None)]).await.expect("appends");
    let seqs: Vec<u64> = two.outcomes.iter().chain(&one.outcomes).map(seq).collect();
    assert_eq!(seqs, [1, 2, 3]);
    assert_eq!((two.head.seq, one.head.seq, history.head(&lobby()).await.expect("answers").seq), (2, 3, 3));
    assert!(!history.is_empty().await.expect("answers"));
}

async fn stale_head_is_fenced(history: &dyn History) {
    append_texts(history, 2).await;
    for wrong in [0, 1, 3] {
        let refused = append(history, wrong, vec![draft("bob", "x", None)]).await;
        let head = RoomHead { seq: 2, timestamp: Timestamp(1000) };
        assert_eq!(refused, Err(Error::Fenced { head }), "at {wrong}");
    }
    assert_eq!(history.head(&lobby()).await.expect("answers").seq, 2);
}

async fn resend_returns_the_first_result(history: &dyn History) {
    let first = draft("alice", "hi", Some("c1"));
    append(history, 0, vec![first.clone()]).await.expect("appends");
    let again = Draft { id: "another".into(), author: "ALICE".parse().expect("a name"), ..first.clone() };
    let by_bob = Draft { id: "bobs".into(), author: "bob".parse().expect("a name"), ..first.clone() };
    let other_text = draft("alice", "ho", Some("c1"));
    let appended = append(history, 1, vec![again, other_text, by_bob]).await.expect("appends");
    assert_eq!(appended.outcomes[0], Outcome::Duplicate { id: first.id.clone(), seq: 1 });
    assert_eq!(appended.outcomes[1], Outcome::Conflict);
    assert_eq!(seq(&appended.outcomes[2]), 2, "client ids are scoped to their author");
    assert_eq!(appended.head.seq, 2);
    let elsewhere: RoomName = "elsewhere".parse().expect("a name");
    let there = history.append(&elsewhere, 0, vec![first].into(), Box::new(|_| {})).await.expect("appends");
    assert_eq!(seq(&there.outcomes[0]), 1, "client ids are scoped to their room");
}

async fn duplicates_within_a_batch_are_found(history: &dyn History) {
    let drafts = vec![draft("a", "hi", Some("c")), draft("a", "hi", Some("c")), draft("a", "ho", Some("d"))];
    let first = drafts[0].id.clone();
    let appended = append(history, 0, drafts).await.expect("appends");
    assert_eq!(appended.outcomes[1], Outcome::Duplicate { id: first, seq: 1 });
    assert_eq!((seq(&appended.outcomes[2]), appended.head.seq), (2, 2));
}

async fn callback_runs_for_stored_batches_only(history: &dyn History) {
    let stored_seqs = Arc::new(Mutex::new(Vec::new()));
    let record_seqs = |stored_seqs: &Arc<Mutex<Vec<u64>>>| -> super::Committed {
        let stored_seqs = stored_seqs.clone();
        Box::new(move |appended| {
            stored_seqs.lock().expect("the lock is not poisoned").extend(appended.outcomes.iter().map(seq));
        })
    };
    let drafts = vec![draft("alice", "x", None), draft("alice", "y", None)];
    history.append(&lobby(), 0, drafts.into(), record_seqs(&stored_seqs)).await.expect("appends");
    let refused =
        history.append(&lobby(), 7, vec![draft("a", "z", None)].into(), record_seqs(&stored_seqs)).await;
    assert!(refused.is_err());
    assert_eq!(*stored_seqs.lock().expect("the lock is not poisoned"), [1, 2]);
}

async fn origin_is_stored(history: &dyn History) {
    let from = Draft { origin: Some("a socket".into()), ..draft("alice", "m1", None) };
    append(history, 0, vec![from, draft("bob", "m2", None)]).await.expect("appends");
    let slice = history.since(&lobby(), 0, 10).await.expect("answers");
    let origins: Vec<_> = slice.messages.iter().map(|stored| stored.origin.as_deref()).collect();
    assert_eq!(origins, [Some("a socket"), None]);
}

async fn pages_are_newest_first(history: &dyn History) {
    append_texts(history, 5).await;
    let page = async |before, after, limit| {
        let page = history.page(&lobby(), before, after, limit).await.expect("answers");
        (page.messages.iter().map(|m| m.seq).collect::<Vec<_>>(), page.next)
    };
    assert_eq!(page(None, None, 2).await, (vec![5, 4], Some(4)));
    assert_eq!(page(Some(4), None, 2).await, (vec![3, 2], Some(2)));
    assert_eq!(page(Some(2), None, 2).await, (vec![1], None));
    assert_eq!(page(None, None, 5).await, (vec![5, 4, 3, 2, 1], None));
    assert_eq!(page(None, Some(3), 100).await, (vec![5, 4], None));
    assert_eq!(page(Some(5), Some(1), 2).await, (vec![4, 3], Some(3)));
    assert_eq!(page(Some(u64::MAX), Some(u64::MAX), 2).await, (vec![], None));
    let empty: RoomName = "empty".parse().expect("a name");
    assert_eq!(history.page(&empty, None, None, 10).await.expect("answers").messages, []);
}

async fn answers_are_limited_in_bytes(history: &dyn History) {
    let big = "x".repeat(config::ANSWER_BYTES / 4);
    let drafts = (0..6).map(|_| draft("alice", &big, None)).collect();
    append(history, 0, drafts).await.expect("appends");
    let page = history.page(&lobby(), None, None, 100).await.expect("answers");
    assert_eq!((page.messages.len(), page.next), (3, Some(4)));
    let slice = history.since(&lobby(), 1, 100).await.expect("answers");
    assert_eq!((slice.messages.len(), slice.messages[0].message.seq, slice.head), (3, 2, 6));
    let huge = draft("alice", &"x".repeat(2 * config::ANSWER_BYTES), None);
    append(history, 6, vec![huge]).await.expect("appends");
    let alone = history.since(&lobby(), 6, 100).await.expect("answers");
    assert_eq!(alone.messages.len(), 1, "at least one message is returned, or clients could not continue");
}

async fn since_returns_later_messages(history: &dyn History) {
    append_texts(history, 5).await;
    let since = async |seq, max| {
        let slice = history.since(&lobby(), seq, max).await.expect("answers");
        (slice.messages.iter().map(|stored| stored.message.seq).collect::<Vec<_>>(), slice.head)
    };
    assert_eq!(since(2, 100).await, (vec![3, 4, 5], 5));
    assert_eq!(since(0, 2).await, (vec![1, 2], 5));
    assert_eq!(since(5, 100).await, (vec![], 5));
    assert_eq!(since(u64::MAX, 100).await, (vec![], 5));
    let message = &history.since(&lobby(), 4, 1).await.expect("answers").messages[0].message;
    let shown = (message.id.as_str(), message.from.as_str(), message.data.text.as_str(), message.timestamp.0);
    assert_eq!(shown, ("id of m5", "alice", "m5", 1000));
}

async fn timestamps_never_decrease(history: &dyn History) {
    append_texts(history, 1).await;
    let earlier = Draft { timestamp: Timestamp(1), ..draft("bob", "later", None) };
    let appended = append(history, 1, vec![earlier]).await.expect("appends");
    assert_eq!(appended.head.timestamp, Timestamp(1000));
}

async fn timestamps_do_not_follow_a_clock_years_ahead(history: &dyn History) {
    let years = Timestamp(Timestamp::now().0 + 12 * 365 * 24 * 3_600_000);
    let ahead = Draft { timestamp: years, ..draft("alice", "a", None) };
    append(history, 0, vec![ahead]).await.expect("appends");
    let head = history.head(&lobby()).await.expect("answers");
    assert_eq!(head.timestamp, years, "its own timestamp is stored unchanged");
    let next = Draft { timestamp: Timestamp::now_after(head.timestamp), ..draft("alice", "b", None) };
    append(history, 1, vec![next, draft("alice", "c", None)]).await.expect("appends");
    let page = history.page(&lobby(), None, Some(1), 10).await.expect("answers");
    assert_eq!(page.messages.len(), 2);
    for message in page.messages {
        assert!(!message.timestamp.is_ahead_of(Timestamp::now()), "{}", message.timestamp);
    }
}

async fn trim_keeps_the_last_message(history: &dyn History) {
    append_texts(history, 5).await;
    let left = async || {
        let slice = history.since(&lobby(), 0, 100).await.expect("answers");
        slice.messages.iter().map(|stored| stored.message.seq).collect::<Vec<_>>()
    };
    history.trim(&lobby(), 3, Timestamp(0)).await.expect("trims");
    assert_eq!(left().await, [3, 4, 5]);
    history.trim(&lobby(), 3, Timestamp(2000)).await.expect("trims");
    assert_eq!(left().await, [5]);
    let appended = append(history, 5, vec![draft("alice", "m6", None)]).await.expect("appends");
    assert_eq!(seq(&appended.outcomes[0]), 6);
}

pub(super) fn seq(outcome: &Outcome) -> u64 {
    match outcome {
        Outcome::Stored { seq, .. } | Outcome::Duplicate { seq, .. } => *seq,
        refused => panic!("{refused:?} has no seq"),
    }
}
