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

/// Runs the suite on an empty store.
///
/// # Panics
/// When a promise is broken.
pub async fn run(tickets: &dyn Tickets) {
    let first = ticket("first", 1000);
    tickets.issue(first.clone()).await.expect("keeps");
    assert_eq!(tickets.find("first", Timestamp(1000)).await, Ok(Some(first)));
    assert_eq!(tickets.find("first", Timestamp(1001)).await, Ok(None), "too old");
    assert_eq!(tickets.find("other", Timestamp(0)).await, Ok(None));

    let day_later = ticket("day later", 1001 + LIFETIME_MS);
    tickets.issue(day_later.clone()).await.expect("keeps");
    assert_eq!(tickets.find("first", Timestamp(0)).await, Ok(None), "forgotten");
    assert_eq!(tickets.find("day later", Timestamp(0)).await, Ok(Some(day_later)));
}
