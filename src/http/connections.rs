//! The connections of a server that clients reach. When few are free, the server closes those that have been idle
//! longest. One client address has at most half of all connections. Called by [`super`] for each connection, and by
//! [`super::pipeline_limit`].
//!
//! A connection is idle while no response on it is pending: between two requests, before the first one, and within a
//! request head. Connections of trusted proxies are neither counted by address nor closed, because a proxy may just
//! have sent a request.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::Context,
    time::{Duration, Instant},
};

use futures_util::task::AtomicWaker;
use gateway::Network;
use proto::address::counted;

/// One address has at most `1 / SHARE` of all connections.
const SHARE: usize = 2;

/// Idle connections are closed while fewer than `1 / SPARE` of all connections are free.
const SPARE: usize = 8;

/// `1 / BATCH` of the share of one address is closed at once, because each selection examines all connections.
const BATCH: usize = 16;

/// After a selection without an idle connection, the next one is skipped for this time.
const NONE_IDLE_CACHE: Duration = Duration::from_millis(100);

/// Minimum time between two warnings.
const WARN_INTERVAL: Duration = Duration::from_secs(60);

/// The connections of one server. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Connections(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    max: usize,
    trusted: Vec<Network>,
    began: Instant,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    slots: HashMap<u64, Arc<Slot>>,
    all: Group,
    of: HashMap<IpAddr, Group>,
    warned: Option<Instant>,
}

/// The connections of one address, or of all addresses.
#[derive(Debug, Default)]
struct Group {
    /// Number of open connections.
    count: usize,
    /// Number of open connections that close when they are idle.
    closing: usize,
    /// When a selection last found no idle connection.
    none_idle: Option<Instant>,
    /// Bytes of their incomplete requests, counted by [`super::pipeline_limit`].
    incomplete_bytes: Arc<AtomicUsize>,
}

/// State of a connection that all threads share.
#[derive(Debug)]
struct Slot {
    /// The address that it is counted for. `None` for a trusted proxy.
    address: Option<IpAddr>,
    /// When it was last used, in milliseconds since the start of the server.
    used: AtomicU64,
    /// Number of requests without a complete response.
    open: Arc<AtomicUsize>,
    is_closing: AtomicBool,
    waker: AtomicWaker,
}

/// Registration of a connection. Dropping it removes the connection from the table.
#[derive(Debug)]
pub struct ConnectionGuard {
    shared: Arc<Shared>,
    number: u64,
    slot: Arc<Slot>,
    incomplete_bytes: Option<Arc<AtomicUsize>>,
}

impl Connections {
    /// A table for at most `max` connections, of clients and of the `trusted` proxies.
    pub fn new(max: usize, trusted: Vec<Network>) -> Self {
        Self(Arc::new(Shared { max, trusted, began: Instant::now(), table: Mutex::default() }))
    }

    /// Registers a new connection of `peer`. `open` is the number of its requests without a complete response. `None`
    /// when the address has its share and no connection of it is idle.
    pub fn admit(&self, peer: Option<SocketAddr>, open: Arc<AtomicUsize>) -> Option<ConnectionGuard> {
        let shared = &self.0;
        let peer = peer.map(|peer| peer.ip().to_canonical());
        let address =
            peer.filter(|peer| !shared.trusted.iter().any(|proxy| proxy.contains(*peer))).map(counted);
        let mut table = shared.table();
        if let Some(address) = address
            && table.of.get(&address).is_some_and(|group| group.remaining() >= (shared.max / SHARE).max(1))
            && table.close_idle(Some(address), shared.max) == 0
        {
            table.warn(address, shared.max);
            metrics::counter!("godzilla_http_connections_refused_total").increment(1);
            return None;
        }
        if table.all.remaining() >= shared.max - shared.max / SPARE {
            table.close_idle(None, shared.max);
        }
        let used = AtomicU64::new(shared.now());
        let (is_closing, waker) = (AtomicBool::new(false), AtomicWaker::new());
        let slot = Arc::new(Slot { address, used, open, is_closing, waker });
        table.next += 1;
        let number = table.next;
        table.slots.insert(number, slot.clone());
        table.all.count += 1;
        let incomplete_bytes = address.map(|address| {
            let group = table.of.entry(address).or_default();
            group.count += 1;
            group.incomplete_bytes.clone()
        });
        drop(table);
        Some(ConnectionGuard { shared: shared.clone(), number, slot, incomplete_bytes })
    }
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Table {
    /// Closes the connections that have been idle longest, of one address or of all counted addresses. Returns their
    /// number. `max` is the maximum number of all connections.
    fn close_idle(&mut self, of: Option<IpAddr>, max: usize) -> usize {
        let now = Instant::now();
        let group = of.map_or(Some(&self.all), |address| self.of.get(&address));
        if group
            .and_then(|group| group.none_idle)
            .is_some_and(|last| now.duration_since(last) < NONE_IDLE_CACHE)
        {
            return 0;
        }
        let fits =
            |slot: &Slot| slot.address.is_some() && (of.is_none() || slot.address == of) && slot.is_idle();
        let mut idle: Vec<(u64, u64)> = self
            .slots
            .iter()
            .filter(|(_, slot)| fits(slot))
            .map(|(number, slot)| (slot.used.load(Ordering::Relaxed), *number))
            .collect();
        let batch = (max / SHARE / BATCH).max(1);
        if idle.len() > batch {
            idle.select_nth_unstable(batch);
            idle.truncate(batch);
        }
        if idle.is_empty() {
            let group = of.map_or(Some(&mut self.all), |address| self.of.get_mut(&address));
            group.into_iter().for_each(|group| group.none_idle = Some(now));
        }
        for (_, number) in &idle {
            let Some(slot) = self.slots.get(number) else { continue };
            slot.is_closing.store(true, Ordering::Release);
            self.all.closing += 1;
            if let Some(group) = slot.address.and_then(|address| self.of.get_mut(&address)) {
                group.closing += 1;
            }
            slot.waker.wake();
        }
        metrics::counter!("godzilla_http_idle_connections_closed_total").increment(idle.len() as u64);
        idle.len()
    }

    /// Logs that connections of an address are refused, at most once within [`WARN_INTERVAL`].
    fn warn(&mut self, address: IpAddr, max: usize) {
        if self.warned.is_none_or(|last| last.elapsed() >= WARN_INTERVAL) {
            self.warned = Some(Instant::now());
            tracing::warn!(
                %address,
                max,
                "connections are refused: the address has half of all connections; if it is a reverse proxy, list it in --trusted-proxy"
            );
        }
    }

    fn remove(&mut self, number: u64) {
        let Some(slot) = self.slots.remove(&number) else { return };
        let closing = usize::from(slot.is_closing.load(Ordering::Acquire));
        (self.all.count, self.all.closing) = (self.all.count - 1, self.all.closing - closing);
        let Some(address) = slot.address else { return };
        if let Some(group) = self.of.get_mut(&address) {
            (group.count, group.closing) = (group.count - 1, group.closing - closing);
            if group.count == 0 {
                self.of.remove(&address);
            }
        }
    }
}

impl Group {
    /// Number of connections that stay open.
    fn remaining(&self) -> usize {
        self.count - self.closing
    }
}

impl Slot {
    fn is_idle(&self) -> bool {
        self.open.load(Ordering::Acquire) == 0 && !self.is_closing.load(Ordering::Relaxed)
    }
}

impl ConnectionGuard {
    /// Records that a request was read.
    pub fn touch(&self) {
        self.slot.used.store(self.shared.now(), Ordering::Relaxed);
    }

    /// Bytes of incomplete requests on all connections of the address. `None` for a trusted proxy.
    pub fn incomplete_bytes(&self) -> Option<Arc<AtomicUsize>> {
        self.incomplete_bytes.clone()
    }

    /// Whether the connection must close now. Wakes the task when it must.
    pub fn is_over(&self, cx: &Context<'_>) -> bool {
        self.slot.waker.register(cx.waker());
        self.slot.is_closing.load(Ordering::Acquire) && self.slot.open.load(Ordering::Acquire) == 0
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.shared.table().remove(self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// Open connections in the order of their opening: the address, how many, and the requests in progress on each. The
    /// table holds 16.
    type Opened = &'static [(&'static str, usize, usize)];

    #[test]
    fn idle_connections_are_closed_first_and_no_address_has_more_than_half() {
        // The open connections, the address of the new one, whether it is admitted, and the index of the connection
        // that is closed for it.
        let table: [(&str, Opened, &str, bool, Option<usize>); 9] = [
            ("room for all", &[("10.0.0.1", 7, 0)], "10.0.0.1", true, None),
            (
                "the address's oldest idle one",
                &[("10.0.0.2", 1, 0), ("10.0.0.1", 8, 0)],
                "10.0.0.1",
                true,
                Some(1),
            ),
            ("its oldest is busy", &[("10.0.0.1", 2, 1), ("10.0.0.1", 6, 0)], "10.0.0.1", true, Some(2)),
            ("all of them are busy", &[("10.0.0.1", 8, 1)], "10.0.0.1", false, None),
            ("one /64", &[("2001:db8::1", 4, 1), ("2001:db8::2", 4, 1)], "2001:db8::3", false, None),
            ("the same in IPv6", &[("::ffff:10.0.0.1", 8, 1)], "10.0.0.1", false, None),
            ("another address", &[("10.0.0.1", 8, 1)], "10.0.0.2", true, None),
            ("few are free", &[("10.0.0.1", 8, 1), ("10.0.0.2", 6, 0)], "10.0.0.3", true, Some(8)),
            ("a trusted proxy", &[("10.9.9.9", 12, 0), ("10.0.0.2", 2, 0)], "10.9.9.9", true, Some(12)),
        ];
        for (name, opened, peer_address, is_admitted, closed) in table {
            let connections = Connections::new(16, vec!["10.9.9.9".parse().unwrap()]);
            let admit = |address: &str, open| {
                let peer = SocketAddr::new(address.parse().unwrap(), 1);
                connections.admit(Some(peer), Arc::new(AtomicUsize::new(open)))
            };
            let mut guards = Vec::new();
            for &(address, count, open) in opened {
                guards.extend((0..count).map(|_| admit(address, open).expect("room")));
            }
            for (age, guard) in guards.iter().enumerate() {
                guard.slot.used.store(age as u64, Ordering::Relaxed);
            }
            let new = admit(peer_address, 1);
            assert_eq!(new.is_some(), is_admitted, "{name}");
            let cx = Context::from_waker(Waker::noop());
            let over: Vec<usize> = (0..guards.len()).filter(|at| guards[*at].is_over(&cx)).collect();
            assert_eq!(over, Vec::from_iter(closed), "{name}");
            drop((guards, new));
            let table = connections.0.table();
            assert!(
                table.slots.is_empty() && table.of.is_empty() && table.all.remaining() == 0,
                "{name}: the table is empty again"
            );
        }
    }

    #[test]
    fn a_closing_connection_completes_its_request_first() {
        let connections = Connections::new(2, Vec::new());
        let open = Arc::new(AtomicUsize::new(0));
        let peer = Some(SocketAddr::from(([10, 0, 0, 1], 1)));
        let first = connections.admit(peer, open.clone()).unwrap();
        let second = connections.admit(peer, Arc::default());
        let cx = Context::from_waker(Waker::noop());
        open.store(1, Ordering::Release);
        assert!(second.is_some() && !first.is_over(&cx), "a request is in progress");
        open.store(0, Ordering::Release);
        assert!(first.is_over(&cx));
    }
}
