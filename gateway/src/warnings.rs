//! Warnings about the deployment: each subject is logged once a minute, because the cause is the configuration and not the
//! request. Clients can choose subjects, so their number is bounded. Called by the middleware.

use std::{
    collections::HashSet,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use proto::address;

use crate::client::{Client, Doubt};

/// The time within which a subject is logged once.
const INTERVAL: Duration = Duration::from_secs(60);

/// The maximum number of subjects within [`INTERVAL`].
const MAX_SUBJECTS: usize = 256;

/// The maximum length of an origin in a warning, in bytes.
const MAX_ORIGIN: usize = 120;

/// The warnings of a process. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Warnings(Arc<Mutex<Logged>>);

/// The subjects that were logged since the start of the current minute.
#[derive(Default)]
struct Logged {
    since: Option<Instant>,
    subjects: HashSet<String>,
}

impl Warnings {
    /// Logs that pages of the origin `seen` are refused or cannot read responses.
    pub(crate) fn origin(&self, seen: &[u8], expected: &str, client: Client) {
        let seen = String::from_utf8_lossy(&seen[..seen.len().min(MAX_ORIGIN)]).into_owned();
        if !self.admit(format!("origin {seen}"), Instant::now()) {
            return;
        }
        let remedy = if client.proxied {
            "if it is yours: --allow-origin, or let the proxy send X-Forwarded-Proto and the Host that the browser uses"
        } else {
            "if it is yours: --allow-origin; if a proxy is in front of this server, --trusted-proxy with its address"
        };
        tracing::warn!(?seen, expected, remedy, "request from a page of an origin that is not allowed");
    }

    /// Logs that many clients behind `peer` may be counted as one.
    pub(crate) fn proxy(&self, peer: IpAddr, doubt: Doubt) {
        if self.admit(format!("{} {doubt:?}", address::counted(peer)), Instant::now()) {
            tracing::warn!(%peer, "{doubt}");
        }
    }

    /// Logs that `peer` has sent a WebSocket handshake that is refused, as a proxy in front of it can cause.
    pub(crate) fn handshake(&self, peer: IpAddr, cause: &str) {
        if self.admit(format!("{} {cause}", address::counted(peer)), Instant::now()) {
            let remedy = "a proxy must use HTTP/1.1 and pass on Upgrade, Connection and Sec-WebSocket-*, see docs/proxies.md";
            tracing::warn!(%peer, cause, remedy, "a WebSocket handshake is refused");
        }
    }

    /// Logs that a request is refused because it contains the tokens of several open sessions.
    pub(crate) fn ambiguous_credentials(&self) {
        if self.admit("credentials".to_owned(), Instant::now()) {
            let remedy = "another site of the same domain may set a cookie with the name auth_token: let it use another name";
            tracing::warn!(remedy, "a request with tokens of several open sessions is refused");
        }
    }

    /// Logs that a large response is refused. `share` is the exhausted share of the budget.
    pub(crate) fn unread_answers(&self, share: &str) {
        if self.admit(format!("unread {share}"), Instant::now()) {
            tracing::warn!(share, "response refused with 503: too much of --unread-answers is not read");
        }
    }

    /// Whether a warning about this subject is logged now.
    fn admit(&self, subject: String, now: Instant) -> bool {
        let mut logged = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.since.is_none_or(|since| now.saturating_duration_since(since) >= INTERVAL) {
            *logged = Logged { since: Some(now), subjects: HashSet::new() };
        }
        logged.subjects.len() < MAX_SUBJECTS && logged.subjects.insert(subject)
    }
}

#[cfg(test)]
mod tests;
