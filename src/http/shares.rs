//! What clients share: the connections of a server, and the memory of unfinished requests of the process. Used by [`super`].

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use gateway::Network;
use proto::address::counted;

/// Bytes of an unfinished request that each connection may send: the maximum size of an accepted head.
const OWN: usize = 16 * 1024;

/// The limit of the bytes of unfinished requests of a process, beyond [`OWN`] of each connection.
const UNFINISHED: usize = 64 * 1024 * 1024;

/// The open connections of each client address. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AddressShares(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Maximum number of connections of one address.
    max: usize,
    trusted: Vec<Network>,
    open: Mutex<HashMap<IpAddr, usize>>,
}

/// An open connection. Dropping it ends its count.
#[derive(Debug)]
pub struct Share(Option<(Arc<Shared>, IpAddr)>);

impl AddressShares {
    /// For a server with `all` connections: one address has at most half of them, a `trusted` proxy any number.
    pub fn new(all: usize, trusted: Vec<Network>) -> Self {
        Self(Arc::new(Shared { max: (all / 2).max(1), trusted, open: Mutex::default() }))
    }

    /// Counts a new connection. `None` when the address has its share.
    pub fn admit(&self, peer: Option<SocketAddr>) -> Option<Share> {
        let Some(address) = peer.map(|peer| peer.ip().to_canonical()) else { return Some(Share(None)) };
        if self.0.trusted.iter().any(|proxy| proxy.contains(address)) {
            return Some(Share(None));
        }
        let address = counted(address);
        let mut open = self.0.open();
        let count = open.entry(address).or_default();
        if *count >= self.0.max {
            metrics::counter!("godzilla_http_connections_refused_total").increment(1);
            return None;
        }
        *count += 1;
        Some(Share(Some((self.0.clone(), address))))
    }
}

impl Shared {
    fn open(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let Some((shared, address)) = &self.0 else { return };
        let mut open = shared.open();
        if let Some(count) = open.get_mut(address) {
            *count -= 1;
            if *count == 0 {
                open.remove(address);
            }
        }
    }
}

/// The bytes of unfinished requests of all connections beyond [`OWN`] of each. Cheap to clone; clones share the count.
#[derive(Debug, Clone, Default)]
pub struct Unfinished(Arc<AtomicUsize>);

/// The bytes that a connection has sent of a request that is neither complete nor answered.
#[derive(Debug)]
pub struct UnfinishedRequest {
    bytes: usize,
    all: Unfinished,
}

impl UnfinishedRequest {
    /// An empty request.
    pub fn new(all: Unfinished) -> Self {
        Self { bytes: 0, all }
    }

    /// Adds received bytes.
    ///
    /// # Errors
    /// When the limit of all connections is exceeded and some of the added bytes are beyond [`OWN`].
    pub fn grow(&mut self, bytes: usize) -> io::Result<()> {
        let before = self.over();
        self.bytes += bytes;
        let more = self.over() - before;
        let all = self.all.0.fetch_add(more, Ordering::Relaxed) + more;
        if more > 0 && all > UNFINISHED {
            return Err(io::Error::other("unfinished requests exceed their limit"));
        }
        Ok(())
    }

    /// Resets the count: the request is complete or answered.
    pub fn end(&mut self) {
        self.all.0.fetch_sub(self.over(), Ordering::Relaxed);
        self.bytes = 0;
    }

    fn over(&self) -> usize {
        self.bytes.saturating_sub(OWN)
    }
}

impl Drop for UnfinishedRequest {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_at_most_half_of_the_connections_and_a_trusted_proxy_any_number() {
        let shares = AddressShares::new(4, vec!["10.9.9.9".parse().unwrap()]);
        let admit = |address: &str| shares.admit(Some(SocketAddr::new(address.parse().unwrap(), 1)));
        let open = [admit("10.0.0.1"), admit("::ffff:10.0.0.1"), admit("10.9.9.9"), admit("2001:db8::1")];
        assert!(open.iter().all(Option::is_some));
        assert!(admit("10.0.0.1").is_none());
        let of_network = admit("2001:db8::2");
        assert!(of_network.is_some() && admit("2001:db8::3").is_none(), "one /64");
        assert!((0..9).map(|_| admit("10.9.9.9")).all(|share| share.is_some()));
        drop((open, of_network));
        assert!(admit("10.0.0.1").is_some() && shares.0.open().is_empty());
    }

    #[test]
    fn unfinished_requests_share_a_limit_and_release_their_bytes() {
        let all = Unfinished::default();
        let of = || UnfinishedRequest::new(all.clone());
        let mut first = of();
        assert!(first.grow(OWN + UNFINISHED).is_ok());
        assert!(of().grow(OWN).is_ok(), "few bytes");
        assert!(of().grow(OWN + 1).is_err());
        first.end();
        assert!(of().grow(OWN + UNFINISHED).is_ok(), "released");
        assert_eq!(all.0.load(Ordering::Relaxed), 0);
    }
}
