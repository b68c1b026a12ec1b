//! Which services refuse the signatures of this gateway, and why: another identity key, or clocks that differ. A request would get
//! the refusal for ever, so it is in `/readyz` and in the log. Fed by the answers to [`super::pulse`].

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use actix_web::http::header::HttpDate;
use hyper::{Response, StatusCode, header::DATE};

use super::{Proxy, backend::Backend};

/// Clocks that differ by more, in seconds, are reported. A signature is good for 30 s.
const APART: i64 = 10;

/// What is wrong between this gateway and a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The service does not accept the key.
    Key,
    /// The clock of the service is ahead by so many seconds; signatures are accepted or not.
    Clock { ahead: i64, is_refused: bool },
}

/// Refusals of this gateway's signatures, by the address of the service.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<HashMap<String, Fault>>);

impl Fault {
    /// What an answer to a signed request that nobody asked for shows. No such request gets a 401 or 503 for another reason.
    pub(super) fn of<T>(answer: &Response<T>, now: SystemTime) -> Option<Self> {
        if answer.status() == StatusCode::UNAUTHORIZED {
            return Some(Self::Key);
        }
        let date = answer.headers().get(DATE)?.to_str().ok()?.parse::<HttpDate>().ok()?;
        let ahead = seconds(date.into()) - seconds(now);
        let is_refused = answer.status() == StatusCode::SERVICE_UNAVAILABLE;
        (ahead.abs() > APART).then_some(Self::Clock { ahead, is_refused })
    }

    /// Whether every request is refused.
    fn is_refused(self) -> bool {
        !matches!(self, Self::Clock { is_refused: false, .. })
    }

    /// Whether both are the same fault; a difference of clocks that is measured in whole seconds may vary by one.
    fn is_as(self, other: Self) -> bool {
        match (self, other) {
            (Self::Clock { ahead: a, is_refused: x }, Self::Clock { ahead: b, is_refused: y }) => {
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
            Self::Clock { ahead, is_refused } => {
                let way = if *ahead < 0 { "behind" } else { "ahead of" };
                write!(f, "has a clock that is {} s {way} the clock of this gateway", ahead.abs())?;
                let effect = if *is_refused { ", and refuses its signatures for that" } else { "" };
                write!(f, "{effect}: synchronise the clocks (NTP)")
            }
        }
    }
}

impl Refusals {
    /// Keeps what the latest answer of a service shows.
    pub(super) fn note(&self, backend: &Backend, fault: Option<Fault>) {
        let mut faults = self.faults();
        let before = match fault {
            Some(fault) if faults.get(backend.address()).is_some_and(|known| known.is_as(fault)) => return,
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

    /// Whether this service refuses every request.
    pub(super) fn refuses(&self, backend: &Backend) -> bool {
        self.of(backend).is_some_and(Fault::is_refused)
    }

    /// What is wrong with this service, with its address.
    pub(super) fn words(&self, backend: &Backend) -> Option<String> {
        Some(format!("at {backend} {}", self.of(backend)?))
    }

    /// Drops what is known of services that are not `wanted` any more.
    pub(super) fn retain(&self, wanted: &[Backend]) {
        self.faults().retain(|address, _| wanted.iter().any(|backend| backend.address() == address));
    }

    fn of(&self, backend: &Backend) -> Option<Fault> {
        self.faults().get(backend.address()).copied()
    }

    fn faults(&self) -> MutexGuard<'_, HashMap<String, Fault>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Proxy {
    /// Why no chat node can be used, if so, in words that follow "chat".
    pub fn chat_not_ready_reason(&self) -> Option<String> {
        let nodes = self.0.upstreams.nodes.borrow();
        let mut open = nodes.iter().map(|(_, node)| node).filter(|node| node.is_open).peekable();
        let Some(first) = open.peek().map(|node| node.backend.clone()) else {
            return Some("has no live node in the table of nodes".to_owned());
        };
        let refusals = &self.0.pulse.refusals;
        if open.all(|node| refusals.refuses(&node.backend)) { refusals.words(&first) } else { None }
    }

    /// What is wrong with some of the chat nodes, in words that follow "chat".
    pub fn chat_degradation(&self) -> Option<String> {
        let nodes = self.0.upstreams.nodes.borrow();
        nodes.iter().find_map(|(_, node)| self.0.pulse.refusals.words(&node.backend))
    }

    /// Why accounts refuses all requests, or will, if so, in words that follow "accounts". It is not asked whether it answers.
    pub fn accounts_degradation(&self) -> Option<String> {
        self.0.pulse.refusals.words(&self.0.upstreams.accounts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_shows_another_key_and_clocks_that_differ() {
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let clock = |ahead, is_refused| Some(Fault::Clock { ahead, is_refused });
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
            let answer = Response::builder().status(status).header(DATE, HttpDate::from(date).to_string());
            assert_eq!(Fault::of(&answer.body(()).unwrap(), now), expected, "{status} {ahead}");
        }
        let silent = Response::builder().status(404).body(()).unwrap();
        assert_eq!(Fault::of(&silent, now), None);
    }
}
