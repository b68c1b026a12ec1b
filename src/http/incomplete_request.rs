//! What unfinished requests take of memory. Each connection may bring [`OWN`] bytes of one. All of them together may have brought
//! [`SHARED`] bytes more since their last empty line or answer, and those of one client address [`OF_ADDRESS`]. Beyond it a connection
//! that has brought more than its own is closed. Called by [`super::head_by_head`].

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// What each connection may bring of a request, in bytes: as much as the head of one that is not refused.
pub const OWN: usize = 16 * 1024;

/// What all together may bring beyond that.
pub const SHARED: usize = 64 * 1024 * 1024;

/// What the connections of one client address may.
const PER_ADDRESS: usize = SHARED / 4;

/// What all together have brought beyond that.
pub static RECEIVED: AtomicUsize = AtomicUsize::new(0);

/// What a connection has brought of a request that is neither whole nor answered.
#[derive(Debug)]
pub struct IncompleteRequest {
    bytes: usize,
    /// What all connections have brought beyond [`OWN`].
    total: &'static AtomicUsize,
    /// What those of the same client address have.
    address_total: Option<Arc<AtomicUsize>>,
}

impl IncompleteRequest {
    /// Nothing yet; `shared` is what all connections have brought.
    pub fn new(total: &'static AtomicUsize) -> Self {
        Self { bytes: 0, total, address_total: None }
    }

    /// Counts it for a client address, too, before anything is read.
    pub fn count_for(&mut self, address_total: Option<Arc<AtomicUsize>>) {
        self.address_total = address_total;
    }

    /// Whether a request has yet to begin.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// So many bytes more.
    ///
    /// # Errors
    /// When all together have brought too much, or those of one address, and this one its part of it.
    pub fn grow(&mut self, bytes: usize) -> io::Result<()> {
        let before = self.over();
        self.bytes += bytes;
        let more = self.over() - before;
        let received = self.total.fetch_add(more, Ordering::Relaxed) + more;
        let address_total = self.address_total.as_ref();
        let address_total = address_total.map_or(0, |own| own.fetch_add(more, Ordering::Relaxed) + more);
        if more > 0 && (received > SHARED || address_total > PER_ADDRESS) {
            return Err(io::Error::other("unfinished requests take too much"));
        }
        Ok(())
    }

    /// It is whole, or answered.
    pub fn end(&mut self) {
        self.total.fetch_sub(self.over(), Ordering::Relaxed);
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
    fn one_address_has_a_part_and_gives_it_back() {
        static ALL: AtomicUsize = AtomicUsize::new(0);
        let (one, other): (Arc<AtomicUsize>, Arc<AtomicUsize>) = Default::default();
        let of = |address: Option<&Arc<AtomicUsize>>| {
            let mut request = IncompleteRequest::new(&ALL);
            request.count_for(address.cloned());
            request
        };
        let mut first = of(Some(&one));
        assert!(first.grow(OWN + PER_ADDRESS).is_ok());
        // Who comes then, how much of it is brought, and whether that goes on.
        let table = [
            ("the same address", Some(&one), OWN + 1, false),
            ("the same with little", Some(&one), OWN, true),
            ("another address", Some(&other), OWN + PER_ADDRESS, true),
            ("a trusted proxy", None, OWN + 2 * PER_ADDRESS, true),
        ];
        for (name, address, bytes, is_admitted) in table {
            assert_eq!(of(address).grow(bytes).is_ok(), is_admitted, "{name}");
        }
        first.end();
        assert!(of(Some(&one)).grow(OWN + PER_ADDRESS).is_ok(), "given back");
        drop(first);
        assert_eq!((ALL.load(Ordering::Relaxed), one.load(Ordering::Relaxed)), (0, 0));
    }
}
