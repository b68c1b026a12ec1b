//! Warnings about the deployment. Each subject is logged at most once per minute, because the cause is the configuration
//! and not the request. Called by the middleware.
//!
//! Clients choose the origins that they send, so warnings about origins are bounded. Each client address has its own
//! budget. Origins near the requested host have a budget separate from all others. A summary per minute contains the number
//! of suppressed warnings and the most frequent origins among them: real pages repeat their origin, forged origins differ.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use proto::address;

use crate::{
    client::{Client, ForwardingIssue},
    handshake_issue::HandshakeIssue,
    vendor_headers,
};

/// The minimum time between two warnings about one subject.
const INTERVAL: Duration = Duration::from_secs(60);

/// The maximum number of subjects of one kind within [`INTERVAL`].
const MAX_SUBJECTS: usize = 1_024;

/// The maximum number of subjects of one kind and one client address within [`INTERVAL`].
const MAX_PER_CLIENT: usize = 8;

/// The number of different addresses within [`INTERVAL`] from which on the sender counts as a proxy. A client can forge any
/// address, but has no reason to forge many.
const MIN_PROXY_CLIENTS: usize = 8;

/// The maximum length of a subject, in bytes. Clients may choose the subject.
const MAX_SUBJECT: usize = 120;

/// The number of counted origins among the suppressed ones. An origin with more than 1/33 of the warnings is always counted
/// (Misra and Gries).
const MAX_COUNTED: usize = 32;

/// The number of origins in a summary.
const SUMMARY_ORIGINS: usize = 3;

/// The warnings of a process. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Warnings(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// Origins whose host is the requested one, a subdomain or a parent domain.
    near: Subjects,
    /// All other origins.
    far: Subjects,
    /// Peers, by issue.
    issues: Subjects,
    /// Peers, by damage of a handshake.
    handshakes: Subjects,
    /// Requests with several open sessions. One subject.
    credentials: Subjects,
    relays: Relays,
    suppressed: Suppressed,
}

/// The addresses that untrusted public addresses have named before themselves in chains of trusted proxies, and since when.
#[derive(Default)]
struct Relays(HashMap<IpAddr, (Instant, HashSet<IpAddr>)>);

/// The time and the client address of the last log line of each subject of one kind.
#[derive(Default)]
struct Subjects(HashMap<String, (Option<IpAddr>, Instant)>);

/// How a warning is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    /// It is logged.
    Log,
    /// Its subject was logged within [`INTERVAL`].
    Repeated,
    /// A budget is exhausted.
    Suppressed,
}

/// The warnings about origins that were suppressed since the last summary.
#[derive(Default)]
struct Suppressed {
    total: u64,
    frequent: HashMap<String, u64>,
}

impl Warnings {
    /// Logs that pages of an origin are refused or cannot read responses. `is_near` is whether its host is the server's, a
    /// subdomain or a parent domain.
    pub(crate) fn origin(&self, seen: &[u8], expected: &str, client: Client, is_near: bool) {
        let seen = truncate(seen);
        if !self.admits_origin(&seen, client.counted(), is_near, Instant::now()) {
            return;
        }
        let remedy = if client.proxied {
            "if it is yours: --allow-origin, or let the proxy send X-Forwarded-Proto and the Host that the browser uses"
        } else {
            "if it is yours: --allow-origin; if a proxy is in front of this server, --trusted-proxy with its address"
        };
        // Two call sites, because the log rate limit applies per call site.
        if is_near {
            tracing::warn!(?seen, expected, remedy, "request from a page of an origin that is not allowed");
        } else {
            tracing::warn!(?seen, expected, remedy, "request from a page of an origin that is not allowed");
        }
    }

    /// Logs that the address or the scheme of the clients behind `peer` is not certain.
    pub(crate) fn forwarding(&self, peer: IpAddr, issue: ForwardingIssue) {
        metrics::counter!("godzilla_forwarding_issues_total", "reason" => issue.label()).increment(1);
        let subject = match issue {
            ForwardingIssue::Unlisted(hop) => format!("{} {hop}", issue.label()),
            // A client that forges one header does not suppress the warning about another one.
            ForwardingIssue::Cdn(header) | ForwardingIssue::Unused(header) => {
                format!("{} {header} {peer}", issue.label())
            }
            _ => format!("{} {peer}", issue.label()),
        };
        if self.state().issues.admit(&subject, None, Instant::now()) != Decision::Log {
            return;
        }
        let (cause, remedy) = explain(issue);
        tracing::warn!(%peer, cause, remedy, "the address or scheme of clients is not certain");
    }

    /// Logs that `peer` has sent a damaged WebSocket handshake for `client`.
    pub(crate) fn handshake(&self, peer: IpAddr, issue: HandshakeIssue, client: Client) {
        metrics::counter!("godzilla_handshake_issues_total", "reason" => issue.label()).increment(1);
        let counted = address::counted(peer);
        let subject = format!("{} {counted}", issue.label());
        if self.state().handshakes.admit(&subject, Some(counted), Instant::now()) != Decision::Log {
            return;
        }
        tracing::warn!(%peer, cause = %issue, remedy = issue.remedy(client.is_behind_proxy()), "a WebSocket handshake is refused");
    }

    /// Logs that a request is refused because it contains the tokens of several open sessions.
    pub(crate) fn ambiguous_credentials(&self) {
        if self.state().credentials.admit("", None, Instant::now()) != Decision::Log {
            return;
        }
        let remedy = "another site of the same domain may set a cookie with the name auth_token: let it use another name";
        tracing::warn!(remedy, "a request with tokens of several open sessions is refused");
    }

    /// Whether `hop`, which names `named` before itself, is a proxy rather than a client.
    pub(crate) fn is_relay(&self, hop: IpAddr, named: IpAddr) -> bool {
        self.state().relays.record(hop, named, Instant::now())
    }

    /// Logs how many warnings about origins were suppressed since the last call, if any.
    pub(crate) fn log_summary(&self) {
        let Suppressed { total, frequent } = std::mem::take(&mut self.state().suppressed);
        if total == 0 {
            return;
        }
        let mut frequent: Vec<(String, u64)> = frequent.into_iter().collect();
        frequent.sort_unstable_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
        frequent.truncate(SUMMARY_ORIGINS);
        let frequent: Vec<String> = frequent.into_iter().map(|(origin, _)| origin).collect();
        tracing::warn!(
            suppressed = total,
            ?frequent,
            "suppressed warnings about origins that are not allowed"
        );
    }

    fn admits_origin(&self, seen: &str, client: Option<IpAddr>, is_near: bool, now: Instant) -> bool {
        let mut state = self.state();
        let subjects = if is_near { &mut state.near } else { &mut state.far };
        let decision = subjects.admit(seen, client, now);
        if decision == Decision::Suppressed {
            metrics::counter!("godzilla_origin_warnings_suppressed_total").increment(1);
            state.suppressed.record(seen);
        }
        decision == Decision::Log
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Subjects {
    /// Decides whether a warning about this subject for this client is logged now.
    fn admit(&mut self, subject: &str, client: Option<IpAddr>, now: Instant) -> Decision {
        let is_recent = |at: Instant| now.saturating_duration_since(at) < INTERVAL;
        if self.0.get(subject).is_some_and(|(_, at)| is_recent(*at)) {
            return Decision::Repeated;
        }
        self.0.retain(|_, (_, at)| is_recent(*at));
        let of_client = self.0.values().filter(|(other, _)| client.is_some() && *other == client).count();
        if self.0.len() >= MAX_SUBJECTS || of_client >= MAX_PER_CLIENT {
            return Decision::Suppressed;
        }
        self.0.insert(subject.to_owned(), (client, now));
        Decision::Log
    }
}

impl Relays {
    /// Whether `hop` has named enough addresses within [`INTERVAL`] to be a proxy.
    fn record(&mut self, hop: IpAddr, named: IpAddr, now: Instant) -> bool {
        let is_recent = |since: Instant| now.saturating_duration_since(since) < INTERVAL;
        if self.0.get(&hop).is_none_or(|(since, _)| !is_recent(*since)) {
            self.0.retain(|_, (since, _)| is_recent(*since));
            if self.0.len() >= MAX_SUBJECTS {
                return false;
            }
            self.0.insert(hop, (now, HashSet::new()));
        }
        let Some((_, all)) = self.0.get_mut(&hop) else { return false };
        if all.len() < MIN_PROXY_CLIENTS {
            all.insert(named);
        }
        all.len() >= MIN_PROXY_CLIENTS
    }
}

impl Suppressed {
    fn record(&mut self, subject: &str) {
        self.total += 1;
        if let Some(count) = self.frequent.get_mut(subject) {
            *count += 1;
        } else if self.frequent.len() < MAX_COUNTED {
            self.frequent.insert(subject.to_owned(), 1);
        } else {
            self.frequent.retain(|_, count| {
                *count -= 1;
                *count > 0
            });
        }
    }
}

/// The cause and the remedy of an issue.
fn explain(issue: ForwardingIssue) -> (String, &'static str) {
    match issue {
        ForwardingIssue::Untrusted(header) => (
            format!(
                "the peer sends {header}, as a proxy does, and is not trusted: the header is ignored, and all of its clients count as one"
            ),
            "if it is your proxy, name its address with --trusted-proxy",
        ),
        ForwardingIssue::Absent => (
            "the trusted proxy names no client: all of its clients count as one".into(),
            "let it send X-Forwarded-For",
        ),
        ForwardingIssue::Unreadable(header) => (
            format!("{header} of the trusted proxy has no IP address where the client's should be"),
            "let it send X-Forwarded-For with the client's address",
        ),
        ForwardingIssue::Contradiction(one, other) => (
            format!(
                "{one} and {other} name different clients, so one of them is the client's own: the proxy's address counts"
            ),
            "let the proxy set both, or remove the header that it does not set",
        ),
        ForwardingIssue::Unlisted(address) => (
            format!("{address} names clients of its own and is not trusted: all of them count as one"),
            "if it is your proxy, name its address with --trusted-proxy",
        ),
        ForwardingIssue::Cdn(header) => (
            format!(
                "{header} names another client than the trusted proxies do: the clients of a CDN may count as one"
            ),
            vendor_headers::remedy(header),
        ),
        ForwardingIssue::Unused(header) => (
            format!(
                "the trusted proxy sends the client's address only in {header}, which is not used because any client can send it: all of \
                 its clients count as one"
            ),
            "let the proxy send X-Forwarded-For; where the header is of a CDN, name its networks with --trusted-proxy",
        ),
        ForwardingIssue::Scheme(header) => (
            format!("{header} has a value that is neither http nor https"),
            "let the proxy send X-Forwarded-Proto with the scheme that the client uses",
        ),
    }
}

fn truncate(text: &[u8]) -> String {
    String::from_utf8_lossy(&text[..text.len().min(MAX_SUBJECT)]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(n: usize) -> Option<IpAddr> {
        Some(IpAddr::from([10, 0, (n / 256) as u8, (n % 256) as u8]))
    }

    #[test]
    fn a_subject_is_logged_once_per_interval() {
        let (mut subjects, now) = (Subjects::default(), Instant::now());
        assert_eq!(subjects.admit("a", client(1), now), Decision::Log);
        let later = now + INTERVAL - Duration::from_millis(1);
        assert_eq!(subjects.admit("a", client(2), later), Decision::Repeated);
        assert_eq!(subjects.admit("b", client(1), now), Decision::Log);
        assert_eq!(subjects.admit("a", client(1), now + INTERVAL), Decision::Log);
    }

    #[test]
    fn an_address_that_names_many_clients_is_a_proxy() {
        let (mut relays, now) = (Relays::default(), Instant::now());
        let hop = |n: usize| client(n).unwrap();
        let mut record = |by: usize, named: usize, at| relays.record(hop(by), hop(named), at);
        for n in 0..100 {
            assert!(!record(1, n % (MIN_PROXY_CLIENTS - 1), now), "a client that forges a few addresses");
            assert_eq!(record(2, n, now), n + 1 >= MIN_PROXY_CLIENTS, "{n}");
        }
        assert!(!record(2, 0, now + INTERVAL), "the count expires");
        for n in 0..2 * MAX_SUBJECTS {
            record(1_000 + n, 1, now);
        }
        assert!(relays.0.len() <= MAX_SUBJECTS);
    }

    #[test]
    fn forged_origins_are_bounded_and_do_not_hide_real_ones() {
        let (warnings, now) = (Warnings::default(), Instant::now());
        let is_logged =
            |n: usize, client, is_near| warnings.admits_origin(&n.to_string(), client, is_near, now);
        for n in 0..2 * MAX_SUBJECTS {
            assert_eq!(is_logged(n, client(1), false), n < MAX_PER_CLIENT, "{n}");
        }
        assert!(is_logged(10_000, client(2), false), "another client");
        assert!(is_logged(10_001, client(1), true), "the server's host");
        for n in 20_000..20_000 + 10 * MAX_SUBJECTS {
            is_logged(n, client(n), false);
            is_logged(n + 100_000, client(n), true);
        }
        {
            let state = warnings.state();
            assert_eq!((state.near.0.len(), state.far.0.len()), (MAX_SUBJECTS, MAX_SUBJECTS));
            assert!(state.suppressed.frequent.len() <= MAX_COUNTED);
        }
        for n in 0..10_000 {
            is_logged(500_000 + n, client(1), true);
            if n % 20 == 0 {
                warnings.admits_origin("https://real.example", client(1), true, now);
            }
        }
        let state = warnings.state();
        assert!(
            state.suppressed.frequent.contains_key("https://real.example"),
            "a repeated origin is in the summary"
        );
        assert!(state.suppressed.total > 20_000);
        assert_eq!(truncate(&[b'x'; 10_000]).len(), MAX_SUBJECT);
    }
}
