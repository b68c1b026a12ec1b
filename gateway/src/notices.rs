//! Warnings about the way a server is deployed. Each subject is logged at most once a minute, however many requests it concerns,
//! because the cause is a configuration and not a request. Written by the door.
//!
//! Clients choose the origins that they send. So each client address has a budget of its own, origins on the host that the client asked
//! for have one beside that of all others, and a summary follows each minute with the number of warnings that were left out and the
//! origins that are most frequent among them: pages repeat their origin, invented ones differ.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::client::{Client, Doubt};

/// The time between two warnings about one subject.
const PAUSE: Duration = Duration::from_secs(60);

/// Subjects of one kind that are kept within [`PAUSE`].
const MOST: usize = 1_024;

/// Subjects of one kind and one client address within [`PAUSE`].
const OF_ONE: usize = 8;

/// Different addresses that a proxy names within [`PAUSE`], at least. A client can name any, but has no reason to name many.
const NAMED_BY_PROXY: usize = 8;

/// Bytes of a subject at most, as clients may choose it.
const LENGTH: usize = 120;

/// Origins among those left out that are counted. One that makes up more than a 33rd of them is among these (Misra and Gries).
const COUNTED: usize = 32;

/// Origins that a summary names.
const NAMED: usize = 3;

/// See the module. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Notices(Arc<Mutex<Noted>>);

#[derive(Default)]
struct Noted {
    /// Origins on the host that the client asked for, or above or below it.
    near: Subjects,
    /// Other origins.
    far: Subjects,
    /// Peers, by doubt.
    doubts: Subjects,
    relays: Relays,
    left_out: LeftOut,
}

/// Whom public addresses that are not trusted have named before themselves in chains of trusted proxies, and since when.
#[derive(Default)]
struct Relays(HashMap<IpAddr, (Instant, HashSet<IpAddr>)>);

/// When each subject of one kind was last logged, and for which client address.
#[derive(Default)]
struct Subjects(HashMap<String, (Option<IpAddr>, Instant)>);

/// What becomes of a warning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It is logged.
    Due,
    /// Its subject was logged within [`PAUSE`].
    Repeated,
    /// A budget is used up.
    LeftOut,
}

/// The warnings about origins that were left out since the last summary.
#[derive(Default)]
struct LeftOut {
    total: u64,
    frequent: HashMap<String, u64>,
}

impl Notices {
    /// Logs that the pages of an origin are refused or cannot read answers. `is_near` is whether its host is the server's, or above
    /// or below it.
    pub(crate) fn origin(&self, seen: &[u8], expected: &str, client: Client, is_near: bool) {
        let seen = shortened(seen);
        if !self.admits_origin(&seen, client.counted(), is_near, Instant::now()) {
            return;
        }
        let remedy = if client.proxied {
            "if it is yours: --allow-origin, or let the proxy send X-Forwarded-Proto and the Host that the browser uses"
        } else {
            "if it is yours: --allow-origin; if a proxy is in front of this server, --trusted-proxy with its address"
        };
        // Two places, because the log bounds the lines of each place.
        if is_near {
            tracing::warn!(?seen, expected, remedy, "a page of an origin that is not allowed");
        } else {
            tracing::warn!(?seen, expected, remedy, "a page of an origin that is not allowed");
        }
    }

    /// Logs that the addresses or schemes of the clients behind `peer` are not known.
    pub(crate) fn doubt(&self, peer: IpAddr, doubt: Doubt) {
        metrics::counter!("godzilla_client_doubts_total", "reason" => doubt.label()).increment(1);
        let subject = match doubt {
            Doubt::Unlisted(hop) => format!("{} {hop}", doubt.label()),
            _ => format!("{} {peer}", doubt.label()),
        };
        if self.noted().doubts.admit(&subject, None, Instant::now()) != Verdict::Due {
            return;
        }
        let (cause, remedy) = explained(doubt);
        tracing::warn!(%peer, cause, remedy, "the address or scheme of clients is not certain");
    }

    /// Whether `hop`, which names this address before itself, is a proxy rather than a client.
    pub(crate) fn is_relay(&self, hop: IpAddr, named: IpAddr) -> bool {
        self.noted().relays.note(hop, named, Instant::now())
    }

    /// Logs how many warnings about origins were left out since the last call, if any.
    pub(crate) fn summarise(&self) {
        let LeftOut { total, frequent } = std::mem::take(&mut self.noted().left_out);
        if total == 0 {
            return;
        }
        let mut frequent: Vec<(String, u64)> = frequent.into_iter().collect();
        frequent.sort_unstable_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
        frequent.truncate(NAMED);
        let frequent: Vec<String> = frequent.into_iter().map(|(origin, _)| origin).collect();
        tracing::warn!(left_out = total, ?frequent, "more pages of origins that are not allowed");
    }

    fn admits_origin(&self, seen: &str, by: Option<IpAddr>, is_near: bool, now: Instant) -> bool {
        let mut noted = self.noted();
        let subjects = if is_near { &mut noted.near } else { &mut noted.far };
        let verdict = subjects.admit(seen, by, now);
        if verdict == Verdict::LeftOut {
            metrics::counter!("godzilla_origin_warnings_left_out_total").increment(1);
            noted.left_out.note(seen);
        }
        verdict == Verdict::Due
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Subjects {
    /// Whether a line about this subject, for a client at `by`, may be written now.
    fn admit(&mut self, subject: &str, by: Option<IpAddr>, now: Instant) -> Verdict {
        let is_recent = |at: Instant| now.saturating_duration_since(at) < PAUSE;
        if self.0.get(subject).is_some_and(|(_, at)| is_recent(*at)) {
            return Verdict::Repeated;
        }
        self.0.retain(|_, (_, at)| is_recent(*at));
        let of_one = self.0.values().filter(|(of, _)| by.is_some() && *of == by).count();
        if self.0.len() >= MOST || of_one >= OF_ONE {
            return Verdict::LeftOut;
        }
        self.0.insert(subject.to_owned(), (by, now));
        Verdict::Due
    }
}

impl Relays {
    /// Whether `hop` has named enough within [`PAUSE`].
    fn note(&mut self, hop: IpAddr, named: IpAddr, now: Instant) -> bool {
        let is_recent = |since: Instant| now.saturating_duration_since(since) < PAUSE;
        if self.0.get(&hop).is_none_or(|(since, _)| !is_recent(*since)) {
            self.0.retain(|_, (since, _)| is_recent(*since));
            if self.0.len() >= MOST {
                return false;
            }
            self.0.insert(hop, (now, HashSet::new()));
        }
        let Some((_, all)) = self.0.get_mut(&hop) else { return false };
        if all.len() < NAMED_BY_PROXY {
            all.insert(named);
        }
        all.len() >= NAMED_BY_PROXY
    }
}

impl LeftOut {
    fn note(&mut self, subject: &str) {
        self.total += 1;
        if let Some(count) = self.frequent.get_mut(subject) {
            *count += 1;
        } else if self.frequent.len() < COUNTED {
            self.frequent.insert(subject.to_owned(), 1);
        } else {
            self.frequent.retain(|_, count| {
                *count -= 1;
                *count > 0
            });
        }
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

    fn client(n: usize) -> Option<IpAddr> {
        Some(IpAddr::from([10, 0, (n / 256) as u8, (n % 256) as u8]))
    }

    #[test]
    fn a_subject_is_logged_once_a_minute() {
        let (mut subjects, now) = (Subjects::default(), Instant::now());
        assert_eq!(subjects.admit("a", client(1), now), Verdict::Due);
        let later = now + PAUSE - Duration::from_millis(1);
        assert_eq!(subjects.admit("a", client(2), later), Verdict::Repeated);
        assert_eq!(subjects.admit("b", client(1), now), Verdict::Due);
        assert_eq!(subjects.admit("a", client(1), now + PAUSE), Verdict::Due);
    }

    #[test]
    fn who_names_many_is_a_proxy_and_who_names_few_is_none() {
        let (mut relays, now) = (Relays::default(), Instant::now());
        let hop = |n: usize| client(n).unwrap();
        let mut note = |by: usize, named: usize, at| relays.note(hop(by), hop(named), at);
        for n in 0..100 {
            assert!(!note(1, n % (NAMED_BY_PROXY - 1), now), "a client that forges a few");
            assert_eq!(note(2, n, now), n + 1 >= NAMED_BY_PROXY, "{n}");
        }
        assert!(!note(2, 0, now + PAUSE), "a minute later it is open again");
        for n in 0..2 * MOST {
            note(1_000 + n, 1, now);
        }
        assert!(relays.0.len() <= MOST);
    }

    #[test]
    fn invented_origins_take_no_memory_and_hide_no_others() {
        let (notices, now) = (Notices::default(), Instant::now());
        let shown = |n: usize, by, is_near| notices.admits_origin(&n.to_string(), by, is_near, now);
        for n in 0..2 * MOST {
            assert_eq!(shown(n, client(1), false), n < OF_ONE, "{n}");
        }
        assert!(shown(10_000, client(2), false), "another client");
        assert!(shown(10_001, client(1), true), "the server's host");
        for n in 20_000..20_000 + 10 * MOST {
            shown(n, client(n), false);
            shown(n + 100_000, client(n), true);
        }
        {
            let noted = notices.noted();
            assert_eq!((noted.near.0.len(), noted.far.0.len()), (MOST, MOST));
            assert!(noted.left_out.frequent.len() <= COUNTED);
        }
        for n in 0..10_000 {
            shown(500_000 + n, client(1), true);
            if n % 20 == 0 {
                notices.admits_origin("https://real.example", client(1), true, now);
            }
        }
        let noted = notices.noted();
        assert!(
            noted.left_out.frequent.contains_key("https://real.example"),
            "what repeats is in the summary"
        );
        assert!(noted.left_out.total > 20_000);
        assert_eq!(shortened(&[b'x'; 10_000]).len(), LENGTH);
    }
}
