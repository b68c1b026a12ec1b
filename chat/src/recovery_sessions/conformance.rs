//! The conformance suite of [`RecoverySessions`]. The tests of each backend run it on real stores.

use super::{LIFETIME_MS, RecoverySession, RecoverySessions};
use proto::Timestamp;

fn recovery_session(pid: &str, issued: u64) -> RecoverySession {
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
pub async fn run(recovery_sessions: &dyn RecoverySessions) {
    let first = recovery_session(&pid(1), 1000);
    recovery_sessions.issue(first.clone()).await.expect("keeps");
    assert_eq!(recovery_sessions.find(&pid(1), Timestamp(1000)).await, Ok(Some(first)));
    assert_eq!(recovery_sessions.find(&pid(1), Timestamp(1001)).await, Ok(None), "too old");
    assert_eq!(recovery_sessions.find(&pid(3), Timestamp(0)).await, Ok(None));

    for strange in ["", "*", "first", "\r\n", "0123456789abcdef0123456789abcdeg"] {
        assert_eq!(recovery_sessions.find(strange, Timestamp(0)).await, Ok(None), "{strange}");
    }

    let day_later = recovery_session(&pid(2), 1001 + LIFETIME_MS);
    recovery_sessions.issue(day_later.clone()).await.expect("keeps");
    assert_eq!(recovery_sessions.find(&pid(2), Timestamp(0)).await, Ok(Some(day_later)));
}
