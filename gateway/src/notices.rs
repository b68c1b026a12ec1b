//! Warnings about the way a server is deployed. Each subject is logged at most once a minute, however many requests it concerns,
//! because the cause is a configuration and not a request. Written by the door.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::client::Doubt;

/// The time between two warnings about one subject.
const PAUSE: Duration = Duration::from_secs(60);

/// Subjects that are kept; more within [`PAUSE`] are counted in metrics alone.
const MOST: usize = 128;

/// Bytes of a subject at most, as clients may choose it.
const LENGTH: usize = 120;

/// When each subject was last logged, by kind and name. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Notices(Arc<Mutex<HashMap<(&'static str, String), Instant>>>);

impl Notices {
    /// Logs that the pages of an origin are refused or cannot read answers.
    pub(crate) fn origin(&self, seen: &[u8], expected: &str, is_proxied: bool) {
        let seen = shortened(seen);
        if !self.is_due("origin", &seen, Instant::now()) {
            return;
        }
        let remedy = if is_proxied {
            "if it is yours: --allow-origin, or let the proxy send X-Forwarded-Proto and the Host that the browser uses"
        } else {
            "if it is yours: --allow-origin; if a proxy is in front of this server, --trusted-proxy with its address"
        };
        tracing::warn!(?seen, expected, remedy, "a page of an origin that is not allowed");
    }

    /// Logs that the addresses or schemes of the clients behind `peer` are not known.
    pub(crate) fn doubt(&self, peer: IpAddr, doubt: Doubt) {
        metrics::counter!("godzilla_client_doubts_total", "reason" => doubt.label()).increment(1);
        if !self.is_due(doubt.label(), &peer.to_string(), Instant::now()) {
            return;
        }
        let (cause, remedy) = explained(doubt);
        tracing::warn!(%peer, cause, remedy, "the address or scheme of clients is not certain");
    }

    /// Whether a line about this subject may be written now.
    fn is_due(&self, kind: &'static str, subject: &str, now: Instant) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_recent = |at: &Instant| now.saturating_duration_since(*at) < PAUSE;
        let key = (kind, subject.to_owned());
        if last.get(&key).is_some_and(is_recent) {
            return false;
        }
        if last.len() >= MOST {
            last.retain(|_, at| is_recent(at));
        }
        if last.len() >= MOST {
            return false;
        }
        last.insert(key, now);
        true
    }
}

/// What is wrong, and what to do.
fn explained(doubt: Doubt) -> (String, &'static str) {
    match doubt {
        Doubt::Untrusted => (
            "the peer sends headers of a proxy and is not trusted: they are ignored, and all of its clients count as one".into(),
            "if it is your proxy, name its address with --trusted-proxy",
        ),
        Doubt::Absent => (
            "the trusted proxy names no client: all of its clients count as one".into(),
            "let it send X-Forwarded-For",
        ),
        Doubt::Unreadable(header) => (
            format!("{header} of the trusted proxy has no IP address where the client's should be"),
            "let it send X-Forwarded-For with the client's address",
        ),
        Doubt::Contradiction(one, other) => (
            format!("{one} and {other} name different clients, so one of them is the client's own: the proxy's address counts"),
            "let the proxy set both, or remove the one that it does not set",
        ),
        Doubt::Unlisted(address) => (
            format!("{address} names clients of its own and is not trusted: all of them count as one"),
            "if it is your proxy, name its address with --trusted-proxy",
        ),
        Doubt::Cdn(header) => (
            format!("{header} names another client than the trusted proxies do: the clients of a CDN may count as one"),
            "name the CDN's networks with --trusted-proxy",
        ),
        Doubt::Scheme(header) => (
            format!("{header} has a value that is neither http nor https"),
            "let the proxy send X-Forwarded-Proto with the scheme that the client uses",
        ),
    }
}

fn shortened(text: &[u8]) -> String {
    String::from_utf8_lossy(&text[..text.len().min(LENGTH)]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_logged_once_a_minute() {
        let (notices, now) = (Notices::default(), Instant::now());
        assert!(notices.is_due("origin", "a", now));
        assert!(!notices.is_due("origin", "a", now + PAUSE - Duration::from_millis(1)));
        assert!(notices.is_due("origin", "b", now) && notices.is_due("absent", "a", now));
        assert!(notices.is_due("origin", "a", now + PAUSE));
    }

    #[test]
    fn invented_subjects_take_no_memory() {
        let (notices, now) = (Notices::default(), Instant::now());
        for n in 0..10 * MOST {
            assert_eq!(notices.is_due("origin", &n.to_string(), now), n < MOST);
        }
        assert!(notices.is_due("origin", "later", now + PAUSE), "old ones are removed");
        assert_eq!(shortened(&[b'x'; 10_000]).len(), LENGTH);
    }
}
