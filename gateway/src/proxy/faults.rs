//! Faults between this gateway and its services: rejected signatures (another identity key), clock skew, and responses of
//! another program. Such a service rejects every request until an operator fixes the fault, so `/readyz` and the log report
//! it. Recorded by [`super::health`].

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use actix_web::http::header::HttpDate;
use hyper::{Response, StatusCode, header::DATE};

use cluster::Backend;

/// The largest clock difference that is not reported, in seconds. A signature is valid for 30 s.
const MAX_SKEW: i64 = 10;

/// The service does not accept the key.
const OTHER_KEY: &str =
    "refuses the signatures of this gateway, because they are made with another identity key";

/// A fault between this gateway and a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The service does not accept the key.
    Key,
    /// The clock of the service is ahead by `ahead` seconds. `is_rejected` is whether it rejects signatures because of it.
    Clock { ahead: i64, is_rejected: bool },
    /// The response has this status, which no service of the roles sends to such a request.
    Status(u16),
}

/// Current faults, by service address.
#[derive(Debug, Default)]
pub(super) struct Faults(Mutex<HashMap<Backend, Fault>>);

impl Fault {
    /// The fault that the response to an anonymous signed request for a path without a route shows. A service that accepts
    /// the signature responds with 404.
    pub(super) fn of<T>(response: &Response<T>, now: SystemTime) -> Option<Self> {
        let is_rejected = match response.status() {
            StatusCode::NOT_FOUND => false,
            StatusCode::UNAUTHORIZED => return Some(Self::Key),
            StatusCode::SERVICE_UNAVAILABLE => true,
            other => return Some(Self::Status(other.as_u16())),
        };
        let ahead = date(response).map_or(0, |date| seconds(date) - seconds(now));
        match ahead.abs() > MAX_SKEW {
            true => Some(Self::Clock { ahead, is_rejected }),
            false => is_rejected.then_some(Self::Status(response.status().as_u16())),
        }
    }

    /// The fault, when another deployment uses the Redis of this gateway for the database `other`. The nodes in this Redis are then its nodes.
    pub(super) fn of_other_deployment(self, other: &str) -> String {
        match self {
            Self::Key => format!(
                "{OTHER_KEY}: another deployment uses this Redis for its database of MongoDB, {other}: give this deployment a --deployment \
                 (GODZILLA_DEPLOYMENT) of its own, or another database number in --redis-url (GODZILLA_REDIS_URL)"
            ),
            fault => fault.to_string(),
        }
    }

    /// Whether the service rejects every request.
    pub(super) fn is_rejected(self) -> bool {
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

/// The time of the response according to the service.
fn date<T>(response: &Response<T>) -> Option<SystemTime> {
    let date = response.headers().get(DATE)?.to_str().ok()?;
    date.parse::<HttpDate>().ok().map(SystemTime::from)
}

fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key => write!(
                f,
                "{OTHER_KEY}: give every role the same --secret-file, and during a rotation one that holds both keys"
            ),
            Self::Clock { ahead, is_rejected } => {
                let way = if *ahead < 0 { "behind" } else { "ahead of" };
                write!(f, "has a clock that is {} s {way} the clock of this gateway", ahead.abs())?;
                let effect = if *is_rejected { ", and refuses its signatures for that" } else { "" };
                write!(f, "{effect}: synchronise the clocks (NTP)")
            }
            Self::Status(status) => write!(
                f,
                "rejects health checks with status {status}: another program has this address, or a proxy in front of the service answers"
            ),
        }
    }
}

impl Faults {
    /// Records the result of the latest response of a service. Logs changes with the text of `describe`.
    pub(super) fn record(&self, backend: &Backend, fault: Option<Fault>, describe: impl Fn(Fault) -> String) {
        let mut faults = self.faults();
        let before = match fault {
            Some(fault) if faults.get(backend).is_some_and(|previous| previous.is_same_as(fault)) => {
                return;
            }
            Some(fault) => faults.insert(backend.clone(), fault),
            None => faults.remove(backend),
        };
        drop(faults);
        match (fault, before) {
            (Some(fault), _) => tracing::warn!(%backend, "a service {}", describe(fault)),
            (None, Some(_)) => tracing::info!(%backend, "a service accepts the signatures of this gateway"),
            (None, None) => (),
        }
    }

    /// Whether this service rejects every request.
    pub(super) fn rejects(&self, backend: &Backend) -> bool {
        self.of(backend).is_some_and(Fault::is_rejected)
    }

    /// Removes the faults of services that are not listed.
    pub(super) fn retain(&self, listed: &[Backend]) {
        self.faults().retain(|backend, _| listed.contains(backend));
    }

    /// The fault of this service.
    pub(super) fn of(&self, backend: &Backend) -> Option<Fault> {
        self.faults().get(backend).copied()
    }

    fn faults(&self) -> MutexGuard<'_, HashMap<Backend, Fault>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
            (404, -10, None),
            (200, 10, Some(Fault::Status(200))),
            (403, 40, Some(Fault::Status(403))),
            (502, 0, Some(Fault::Status(502))),
            (503, 0, Some(Fault::Status(503))),
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
