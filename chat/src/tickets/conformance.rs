//! What every [`Tickets`] promises, as one suite that each backend's tests run on real stores.

use super::{LIFETIME_MS, Ticket, Tickets};
use proto::Timestamp;

fn ticket(pid: &str, issued: u64) -> Ticket {
    Ticket {
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
/// When a promise is broken.
pub async fn run(tickets: &dyn Tickets) {
    let first = ticket(&pid(1), 1000);
    tickets.issue(first.clone()).await.expect("keeps");
    assert_eq!(tickets.find(&pid(1), Timestamp(1000)).await, Ok(Some(first)));
    assert_eq!(tickets.find(&pid(1), Timestamp(1001)).await, Ok(None), "too old");
    assert_eq!(tickets.find(&pid(3), Timestamp(0)).await, Ok(None));

    for strange in ["", "*", "first", "\r\n", "0123456789abcdef0123456789abcdeg"] {
        assert_eq!(tickets.find(strange, Timestamp(0)).await, Ok(None), "{strange}");
    }

    let day_later = ticket(&pid(2), 1001 + LIFETIME_MS);
    tickets.issue(day_later.clone()).await.expect("keeps");
    assert_eq!(tickets.find(&pid(2), Timestamp(0)).await, Ok(Some(day_later)));
}
