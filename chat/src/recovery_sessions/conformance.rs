//! The conformance suite of [`RecoverySessions`]. The tests of each backend run it on real stores.

use super::{LIFETIME_MS, RecoverySession, RecoverySessions};
use proto::Timestamp;

fn session(pid: &str, issued: u64) -> RecoverySession {
    RecoverySession {
        pid: pid.into(),
        sid: format!("sid of {pid}"),
        user: "Alice".parse().expect("a name"),
        since: 7,
        issued: Timestamp(issued),
    }
}

fn pid(n: u32) -> String {
    format!("{n:032x}")
}

/// Runs the suite on an empty store.
///
/// # Panics
/// When the store does not conform.
pub async fn run(store: &dyn RecoverySessions) {
    let first = session(&pid(1), 1000);
    store.issue(first.clone()).await.expect("issues");
    assert_eq!(store.find(&pid(1), Timestamp(1000)).await, Ok(Some(first)));
    assert_eq!(store.find(&pid(1), Timestamp(1001)).await, Ok(None), "issued before `oldest`");
    assert_eq!(store.find(&pid(3), Timestamp(0)).await, Ok(None));

    for invalid in ["", "*", "first", "\r\n", "0123456789abcdef0123456789abcdeg"] {
        assert_eq!(store.find(invalid, Timestamp(0)).await, Ok(None), "{invalid}");
    }

    let day_later = session(&pid(2), 1001 + LIFETIME_MS);
    store.issue(day_later.clone()).await.expect("issues");
    assert_eq!(store.find(&pid(2), Timestamp(0)).await, Ok(Some(day_later)));
}
