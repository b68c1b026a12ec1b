//! Faults between this gateway and its services: rejected signatures (another identity key) and clock skew. Such a service
//! rejects every request until an operator fixes the fault, so `/readyz` and the log report it. Recorded by
//! [`super::health`].

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use actix_web::http::header::HttpDate;
use hyper::{Response, StatusCode, header::DATE};

use super::{Proxy, backend::Backend};

/// The largest clock difference that is not reported, in seconds. A signature is valid for 30 s.
const MAX_SKEW: i64 = 10;

/// A fault between this gateway and a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The service does not accept the key.
    Key,
    /// The clock of the service is ahead by `ahead` seconds. `is_rejected` is whether it rejects signatures because of it.
    Clock { ahead: i64, is_rejected: bool },
}

/// Current faults, by service address.
#[derive(Debug, Default)]
pub(super) struct Faults(Mutex<HashMap<String, Fault>>);

impl Fault {
    /// The fault that the response to an anonymous signed request shows. Such a request gets 401 or 503 for no other
    /// reason.
    pub(super) fn of<T>(response: &Response<T>, now: SystemTime) -> Option<Self> {
        if response.status() == StatusCode::UNAUTHORIZED {
            return Some(Self::Key);
        }
        let date = response.headers().get(DATE)?.to_str().ok()?.parse::<HttpDate>().ok()?;
        let ahead = seconds(date.into()) - seconds(now);
        let is_rejected = response.status() == StatusCode::SERVICE_UNAVAILABLE;
        (ahead.abs() > MAX_SKEW).then_some(Self::Clock { ahead, is_rejected })
    }

    /// Whether the service rejects every request.
    fn is_rejected(self) -> bool {
        !matches!(self, Self::Clock { is_rejected: false, .. })
    }

    /// Whether both are the same fault. A clock difference is measured in whole seconds, so it may vary by one.
    fn is_same_as(self, other: Self) -> bool {
        match (self, other) {
            (Self::Clock { ahead: a, is_rejected: x }, Self::Clock { ahead: b, is_rejected: y }) => {
                a.abs_diff(b) <= 1 && x == y
            }
            (a, b) => a == b,
        }
    }
}

fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key => f.write_str(
                "refuses the signatures of this gateway, because they are made with another identity key: give every role the same \
                 --secret-file, and during a rotation one that holds both keys",
            ),
            Self::Clock { ahead, is_rejected } => {
                let way = if *ahead < 0 { "behind" } else { "ahead of" };
                write!(f, "has a clock that is {} s {way} the clock of this gateway", ahead.abs())?;
                let effect = if *is_rejected { ", and refuses its signatures for that" } else { "" };
                write!(f, "{effect}: synchronise the clocks (NTP)")
            }
        }
    }
}

impl Faults {
    /// Records the result of the latest response of a service. Logs changes.
    pub(super) fn record(&self, backend: &Backend, fault: Option<Fault>) {
        let mut faults = self.faults();
        let before = match fault {
            Some(fault)
                if faults.get(backend.address()).is_some_and(|previous| previous.is_same_as(fault)) =>
            {
                return;
            }
            Some(fault) => faults.insert(backend.address().to_owned(), fault),
            None => faults.remove(backend.address()),
        };
        drop(faults);
        match (fault, before) {
            (Some(fault), _) => tracing::warn!(%backend, "a service {fault}"),
            (None, Some(_)) => tracing::info!(%backend, "a service accepts the signatures of this gateway"),
            (None, None) => (),
        }
    }

    /// Whether this service rejects every request.
    pub(super) fn rejects(&self, backend: &Backend) -> bool {
        self.of(backend).is_some_and(Fault::is_rejected)
    }

    /// The fault of this service with its address, as text.
    pub(super) fn describe(&self, backend: &Backend) -> Option<String> {
        Some(format!("at {backend} {}", self.of(backend)?))
    }

    /// Removes the faults of services that are not listed.
    pub(super) fn retain(&self, listed: &[Backend]) {
        self.faults().retain(|address, _| listed.iter().any(|backend| backend.address() == address));
    }

    fn of(&self, backend: &Backend) -> Option<Fault> {
        self.faults().get(backend.address()).copied()
    }

    fn faults(&self) -> MutexGuard<'_, HashMap<String, Fault>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Proxy {
    /// Why no chat node can be used, as text that follows "chat". `None` when one can be used.
    pub fn chat_not_ready_reason(&self) -> Option<String> {
        let nodes = self.0.upstreams.nodes.borrow();
        let mut open = nodes.iter().map(|(_, node)| node).filter(|node| node.is_open).peekable();
        let Some(first) = open.peek().map(|node| node.backend.clone()) else {
            return Some("has no live node in the table of nodes".to_owned());
        };
        let faults = &self.0.health.faults;
        if open.all(|node| faults.rejects(&node.backend)) { faults.describe(&first) } else { None }
    }

    /// The fault of one of the chat nodes, as text that follows "chat".
    pub fn chat_degradation(&self) -> Option<String> {
        let nodes = self.0.upstreams.nodes.borrow();
        nodes.iter().find_map(|(_, node)| self.0.health.faults.describe(&node.backend))
    }

    /// Why accounts rejects requests or will reject them, as text that follows "accounts". Its availability is not checked.
    pub fn accounts_degradation(&self) -> Option<String> {
        self.0.health.faults.describe(&self.0.upstreams.accounts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_show_rejected_keys_and_clock_skew() {
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let clock = |ahead, is_rejected| Some(Fault::Clock { ahead, is_rejected });
        let cases = [
            (404, 0, None),
            (200, 10, None),
            (503, 0, None),
            (401, 0, Some(Fault::Key)),
            (401, 90, Some(Fault::Key)),
            (404, 11, clock(11, false)),
            (503, -40, clock(-40, true)),
            (503, 40, clock(40, true)),
        ];
        for (status, ahead, expected) in cases {
            let date = if ahead < 0 {
                now - Duration::from_secs(i64::unsigned_abs(ahead))
            } else {
                now + Duration::from_secs(i64::unsigned_abs(ahead))
            };
            let response = Response::builder().status(status).header(DATE, HttpDate::from(date).to_string());
            assert_eq!(Fault::of(&response.body(()).unwrap(), now), expected, "{status} {ahead}");
        }
        let undated = Response::builder().status(404).body(()).unwrap();
        assert_eq!(Fault::of(&undated, now), None);
    }
}
