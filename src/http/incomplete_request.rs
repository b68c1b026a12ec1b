//! Limits the memory of incomplete requests. Each connection may send [`OWN`] bytes of an incomplete request. Beyond
//! that, all connections together may have the bytes of a [`Limit`], counted since their last empty line or response, and those
//! of one client address a quarter of them. Above a limit, connections with more than [`OWN`] bytes are closed. Called by
//! [`super::pipeline_limit`].

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Bytes of an incomplete request that each connection may send: the maximum size of an accepted head.
pub const OWN: usize = 16 * 1024;

/// The limit of a process without a memory limit, in bytes.
pub const UNFINISHED_REQUESTS: usize = 64 * 1024 * 1024;

/// The connections of one client address may have `1 / ADDRESS_SHARE` of the limit.
const ADDRESS_SHARE: usize = 4;

/// The limit of all connections of the servers that share it, and what they use of it. Cheap to clone; clones share the use.
#[derive(Debug, Clone)]
pub struct Limit(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Bytes beyond [`OWN`] of all connections together.
    bytes: usize,
    /// Current number of bytes beyond [`OWN`] of all connections.
    received: AtomicUsize,
}

impl Limit {
    /// A limit of this number of bytes.
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(Shared { bytes, received: AtomicUsize::new(0) }))
    }

    /// The current number of bytes beyond [`OWN`] of all connections.
    #[cfg(test)]
    pub fn received(&self) -> usize {
        self.0.received.load(Ordering::Relaxed)
    }
}

impl Default for Limit {
    fn default() -> Self {
        Self::new(UNFINISHED_REQUESTS)
    }
}

/// The bytes that a connection has sent of a request that is neither complete nor answered.
#[derive(Debug)]
pub struct IncompleteRequest {
    bytes: usize,
    /// The limit of all connections.
    limit: Limit,
    /// Bytes of the connections of the same client address beyond [`OWN`]. `None` for a trusted proxy.
    address_total: Option<Arc<AtomicUsize>>,
}

impl IncompleteRequest {
    /// An empty request of a connection with this limit.
    pub fn new(limit: Limit) -> Self {
        Self { bytes: 0, limit, address_total: None }
    }

    /// Also counts the bytes for a client address. Call it before the first read.
    pub fn count_for(&mut self, address_total: Option<Arc<AtomicUsize>>) {
        self.address_total = address_total;
    }

    /// Whether no byte of a request was received.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Adds received bytes.
    ///
    /// # Errors
    /// When a limit is exceeded and some of the added bytes are beyond [`OWN`].
    pub fn grow(&mut self, bytes: usize) -> io::Result<()> {
        let before = self.over();
        self.bytes += bytes;
        let more = self.over() - before;
        let Shared { bytes: shared, received } = &*self.limit.0;
        let received = received.fetch_add(more, Ordering::Relaxed) + more;
        let address_total = self.address_total.as_ref();
        let address_total = address_total.map_or(0, |own| own.fetch_add(more, Ordering::Relaxed) + more);
        if more > 0 && (received > *shared || address_total > shared / ADDRESS_SHARE) {
            return Err(io::Error::other("incomplete requests exceed their limit"));
        }
        Ok(())
    }

    /// Resets the count: the request is complete or answered.
    pub fn end(&mut self) {
        self.limit.0.received.fetch_sub(self.over(), Ordering::Relaxed);
        if let Some(own) = &self.address_total {
            own.fetch_sub(self.over(), Ordering::Relaxed);
        }
        self.bytes = 0;
    }

    fn over(&self) -> usize {
        self.bytes.saturating_sub(OWN)
    }
}

impl Drop for IncompleteRequest {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_separate_limits_and_release_their_bytes() {
        let limit = Limit::default();
        let per_address = UNFINISHED_REQUESTS / ADDRESS_SHARE;
        let (one, other): (Arc<AtomicUsize>, Arc<AtomicUsize>) = Default::default();
        let of = |address: Option<&Arc<AtomicUsize>>| {
            let mut request = IncompleteRequest::new(limit.clone());
            request.count_for(address.cloned());
            request
        };
        let mut first = of(Some(&one));
        assert!(first.grow(OWN + per_address).is_ok());
        // Address and bytes of another request, and whether they are accepted.
        let table = [
            ("the same address", Some(&one), OWN + 1, false),
            ("the same with few bytes", Some(&one), OWN, true),
            ("another address", Some(&other), OWN + per_address, true),
            ("a trusted proxy", None, OWN + 2 * per_address, true),
        ];
        for (name, address, bytes, is_admitted) in table {
            assert_eq!(of(address).grow(bytes).is_ok(), is_admitted, "{name}");
        }
        first.end();
        assert!(of(Some(&one)).grow(OWN + per_address).is_ok(), "released");
        drop(first);
        assert_eq!((limit.received(), one.load(Ordering::Relaxed)), (0, 0));
    }
}
