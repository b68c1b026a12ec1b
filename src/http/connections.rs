//! The connections of a server that clients reach. When they run short, the server closes those that have been idle longest; one
//! client address has at most half of all. Called by [`super`] for each connection, asked by [`super::head_by_head`].
//!
//! A connection is idle while no request on it is being answered: between two requests, before the first, and within a request head.
//! Connections of trusted proxies are not counted by address and not closed: a proxy may have sent a request already.

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

/// One address has at most the `1 / SHARE` part of all connections.
const SHARE: usize = 2;

/// Idle connections are closed while fewer than the `1 / SPARE` part of all connections are free.
const SPARE: usize = 8;

/// So large a part of the connections is closed at once, because each choice looks at all of them.
const BATCH: usize = 16;

/// The time after a choice that found no idle connection within which there is none.
const BARREN: Duration = Duration::from_millis(100);

/// The time between two warnings.
const PAUSE: Duration = Duration::from_secs(60);

/// The connections of one server. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Connections(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    most: usize,
    trusted: Vec<Network>,
    began: Instant,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    next: u64,
    seats: HashMap<u64, Arc<Seat>>,
    all: Group,
    of: HashMap<IpAddr, Group>,
    warned: Option<Instant>,
}

/// The connections of one address, or all of them.
#[derive(Debug, Default)]
struct Group {
    /// Those that are open.
    count: usize,
    /// Those of them that close as soon as they are idle.
    leaving: usize,
    /// When none of them was idle.
    barren: Option<Instant>,
    /// Bytes of their unfinished requests, as [`super::head_by_head`] counts them.
    unfinished: Arc<AtomicUsize>,
}

/// What is known of a connection on every thread.
#[derive(Debug)]
struct Seat {
    /// What it is counted under; none for a trusted proxy.
    address: Option<IpAddr>,
    /// When it was last used, in milliseconds since the server began.
    used: AtomicU64,
    /// How many requests are being answered.
    open: Arc<AtomicUsize>,
    is_leaving: AtomicBool,
    waker: AtomicWaker,
}

/// A connection's place among the others, until it is dropped.
#[derive(Debug)]
pub struct Place {
    shared: Arc<Shared>,
    number: u64,
    seat: Arc<Seat>,
    unfinished: Option<Arc<AtomicUsize>>,
}

impl Connections {
    /// At most so many, of clients and of these proxies.
    pub fn new(most: usize, trusted: Vec<Network>) -> Self {
        Self(Arc::new(Shared { most, trusted, began: Instant::now(), held: Mutex::default() }))
    }

    /// A place for a new connection of `peer`; `open` is how many of its requests are being answered. None when the address has its
    /// share and none of its connections is idle.
    pub fn admit(&self, peer: Option<SocketAddr>, open: Arc<AtomicUsize>) -> Option<Place> {
        let shared = &self.0;
        let peer = peer.map(|peer| peer.ip().to_canonical());
        let address =
            peer.filter(|peer| !shared.trusted.iter().any(|proxy| proxy.contains(*peer))).map(counted);
        let mut held = shared.held();
        if let Some(address) = address
            && held.of.get(&address).is_some_and(|group| group.stay() >= (shared.most / SHARE).max(1))
            && held.dismiss(Some(address), shared.most) == 0
        {
            held.warn(address, shared.most);
            metrics::counter!("godzilla_http_connections_refused_total").increment(1);
            return None;
        }
        if held.all.stay() >= shared.most - shared.most / SPARE {
            held.dismiss(None, shared.most);
        }
        let used = AtomicU64::new(shared.now());
        let (is_leaving, waker) = (AtomicBool::new(false), AtomicWaker::new());
        let seat = Arc::new(Seat { address, used, open, is_leaving, waker });
        held.next += 1;
        let number = held.next;
        held.seats.insert(number, seat.clone());
        held.all.count += 1;
        let unfinished = address.map(|address| {
            let group = held.of.entry(address).or_default();
            group.count += 1;
            group.unfinished.clone()
        });
        drop(held);
        Some(Place { shared: shared.clone(), number, seat, unfinished })
    }
}

impl Shared {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Held {
    /// Closes connections that have been idle longest, of one address or of all that are counted; how many. `most` is the size of all.
    fn dismiss(&mut self, of: Option<IpAddr>, most: usize) -> usize {
        let now = Instant::now();
        let group = of.map_or(Some(&self.all), |address| self.of.get(&address));
        if group.and_then(|group| group.barren).is_some_and(|last| now.duration_since(last) < BARREN) {
            return 0;
        }
        let fits =
            |seat: &Seat| seat.address.is_some() && (of.is_none() || seat.address == of) && seat.is_idle();
        let mut idle: Vec<(u64, u64)> = self
            .seats
            .iter()
            .filter(|(_, seat)| fits(seat))
            .map(|(number, seat)| (seat.used.load(Ordering::Relaxed), *number))
            .collect();
        let batch = (most / SHARE / BATCH).max(1);
        if idle.len() > batch {
            idle.select_nth_unstable(batch);
            idle.truncate(batch);
        }
        if idle.is_empty() {
            let group = of.map_or(Some(&mut self.all), |address| self.of.get_mut(&address));
            group.into_iter().for_each(|group| group.barren = Some(now));
        }
        for (_, number) in &idle {
            let Some(seat) = self.seats.get(number) else { continue };
            seat.is_leaving.store(true, Ordering::Release);
            self.all.leaving += 1;
            if let Some(group) = seat.address.and_then(|address| self.of.get_mut(&address)) {
                group.leaving += 1;
            }
            seat.waker.wake();
        }
        metrics::counter!("godzilla_http_idle_connections_closed_total").increment(idle.len() as u64);
        idle.len()
    }

    /// Logs that connections of an address are refused, at most once within [`PAUSE`].
    fn warn(&mut self, address: IpAddr, most: usize) {
        if self.warned.is_none_or(|last| last.elapsed() >= PAUSE) {
            self.warned = Some(Instant::now());
            tracing::warn!(
                %address,
                most,
                "connections are refused: the address has half of all; a reverse proxy there needs --trusted-proxy"
            );
        }
    }

    fn remove(&mut self, number: u64) {
        let Some(seat) = self.seats.remove(&number) else { return };
        let leaving = usize::from(seat.is_leaving.load(Ordering::Acquire));
        (self.all.count, self.all.leaving) = (self.all.count - 1, self.all.leaving - leaving);
        let Some(address) = seat.address else { return };
        if let Some(group) = self.of.get_mut(&address) {
            (group.count, group.leaving) = (group.count - 1, group.leaving - leaving);
            if group.count == 0 {
                self.of.remove(&address);
            }
        }
    }
}

impl Group {
    /// How many stay open.
    fn stay(&self) -> usize {
        self.count - self.leaving
    }
}

impl Seat {
    fn is_idle(&self) -> bool {
        self.open.load(Ordering::Acquire) == 0 && !self.is_leaving.load(Ordering::Relaxed)
    }
}

impl Place {
    /// A request was read.
    pub fn touch(&self) {
        self.seat.used.store(self.shared.now(), Ordering::Relaxed);
    }

    /// Bytes of unfinished requests on all connections of the address; none for a trusted proxy.
    pub fn unfinished(&self) -> Option<Arc<AtomicUsize>> {
        self.unfinished.clone()
    }

    /// Whether the connection is to be closed now; wakes the task when it is.
    pub fn is_over(&self, cx: &Context<'_>) -> bool {
        self.seat.waker.register(cx.waker());
        self.seat.is_leaving.load(Ordering::Acquire) && self.seat.open.load(Ordering::Acquire) == 0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.held().remove(self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// Connections of addresses, in the order of their opening, of 16 in all: the address, and how many requests are being answered.
    type Opened = &'static [(&'static str, usize, usize)];

    #[test]
    fn idle_connections_make_room_and_no_address_has_more_than_half() {
        // What is open (address, how many, requests under way on each), who comes, whether they get in, and which is closed for it.
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
            ("all of it are busy", &[("10.0.0.1", 8, 1)], "10.0.0.1", false, None),
            ("one /64", &[("2001:db8::1", 4, 1), ("2001:db8::2", 4, 1)], "2001:db8::3", false, None),
            ("the same in IPv6", &[("::ffff:10.0.0.1", 8, 1)], "10.0.0.1", false, None),
            ("another address", &[("10.0.0.1", 8, 1)], "10.0.0.2", true, None),
            ("short of all", &[("10.0.0.1", 8, 1), ("10.0.0.2", 6, 0)], "10.0.0.3", true, Some(8)),
            ("a trusted proxy", &[("10.9.9.9", 12, 0), ("10.0.0.2", 2, 0)], "10.9.9.9", true, Some(12)),
        ];
        for (name, opened, comes, gets_in, closed) in table {
            let connections = Connections::new(16, vec!["10.9.9.9".parse().unwrap()]);
            let admit = |address: &str, open| {
                let peer = SocketAddr::new(address.parse().unwrap(), 1);
                connections.admit(Some(peer), Arc::new(AtomicUsize::new(open)))
            };
            let mut places = Vec::new();
            for &(address, count, open) in opened {
                places.extend((0..count).map(|_| admit(address, open).expect("room")));
            }
            for (age, place) in places.iter().enumerate() {
                place.seat.used.store(age as u64, Ordering::Relaxed);
            }
            let newcomer = admit(comes, 1);
            assert_eq!(newcomer.is_some(), gets_in, "{name}");
            let cx = Context::from_waker(Waker::noop());
            let over: Vec<usize> = (0..places.len()).filter(|at| places[*at].is_over(&cx)).collect();
            assert_eq!(over, Vec::from_iter(closed), "{name}");
            drop((places, newcomer));
            let held = connections.0.held();
            assert!(
                held.seats.is_empty() && held.of.is_empty() && held.all.stay() == 0,
                "{name}: nothing is kept"
            );
        }
    }

    #[test]
    fn a_connection_that_is_to_close_answers_the_request_under_way_first() {
        let connections = Connections::new(2, Vec::new());
        let open = Arc::new(AtomicUsize::new(0));
        let peer = Some(SocketAddr::from(([10, 0, 0, 1], 1)));
        let first = connections.admit(peer, open.clone()).unwrap();
        let second = connections.admit(peer, Arc::default());
        let cx = Context::from_waker(Waker::noop());
        open.store(1, Ordering::Release);
        assert!(second.is_some() && !first.is_over(&cx), "a request came meanwhile");
        open.store(0, Ordering::Release);
        assert!(first.is_over(&cx));
    }
}
