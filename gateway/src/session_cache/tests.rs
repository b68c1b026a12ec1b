//! Entries that expire, are evicted and are looked up again.

use futures_util::FutureExt;
use sessions::{Cause, ClosingSender};

use super::*;

#[test]
fn entries_expire_and_are_evicted_with_their_session() {
    let (cache, now) = (SessionCache::default(), Instant::now());
    let id: SessionId = "a".repeat(64).parse().unwrap();
    let identity = Identity { username: "alice".parse().unwrap(), session: id.to_string() };
    assert_eq!(cache.fresh(&id, now), None);
    cache.record(&id, Some(&identity), now);
    assert_eq!(cache.fresh(&id, now + FRESH_FOR - Duration::from_millis(1)), Some(identity.clone()));
    assert_eq!(cache.fresh(&id, now + FRESH_FOR), None);
    assert_eq!(cache.in_grace(&id, now + FRESH_FOR), Some(identity.clone()));
    assert_eq!(cache.in_grace(&id, now + GRACE_PERIOD), None);
    cache.record(&id, None, now);
    assert_eq!(cache.in_grace(&id, now), None);
}

#[tokio::test]
async fn entries_are_looked_up_again_when_closings_may_have_been_missed() {
    let id = |n: usize| -> SessionId { format!("{n:064x}").parse().unwrap() };
    let identity = Identity { username: "alice".parse().unwrap(), session: id(0).to_string() };
    let lag: Vec<Closing> = (1..9).map(|n| Closing { id: id(n), cause: Cause::Ended }).collect();
    // What the store reports (`None`: closings may have been missed), and whether the entry is fresh and in grace afterwards.
    type Reports = Vec<Option<Closing>>;
    let table: [(&str, Reports, (bool, bool)); 4] = [
        ("another session closes", vec![Some(Closing { id: id(1), cause: Cause::Ended })], (true, true)),
        ("the session closes", vec![Some(Closing { id: id(0), cause: Cause::Ended })], (false, false)),
        ("the subscription was interrupted", vec![None], (false, true)),
        ("the watcher lags", lag.into_iter().map(Some).collect(), (false, true)),
    ];
    for (name, reports, expected) in table {
        let (sender, cache) = (ClosingSender::new(4), SessionCache::default());
        let watching = evict_closed(sender.subscribe(), Arc::downgrade(&cache.0));
        let mut watching = std::pin::pin!(watching);
        assert!((&mut watching).now_or_never().is_none(), "{name}: it watches");
        let before = Instant::now();
        cache.record(&id(0), Some(&identity), before);
        assert!(cache.fresh(&id(0), before).is_some(), "{name}");
        for report in reports {
            match report {
                Some(closing) => sender.send(closing),
                None => sender.report_missed(),
            }
        }
        assert!((&mut watching).now_or_never().is_none(), "{name}: it watches");
        let found = (cache.fresh(&id(0), before).is_some(), cache.in_grace(&id(0), before).is_some());
        assert_eq!(found, expected, "{name}");
        // A lookup that began before the report and ends after it is not fresh either.
        cache.record(&id(0), Some(&identity), before);
        assert_eq!(cache.fresh(&id(0), before).is_some(), expected != (false, true), "{name}");
        let after = Instant::now();
        cache.record(&id(0), Some(&identity), after);
        assert!(cache.fresh(&id(0), after).is_some(), "{name}: the store was asked again");
    }
}
