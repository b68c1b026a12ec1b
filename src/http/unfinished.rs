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
const OF_ADDRESS: usize = SHARED / 4;

/// What all together have brought beyond that.
pub static BROUGHT: AtomicUsize = AtomicUsize::new(0);

/// What a connection has brought of a request that is neither whole nor answered.
#[derive(Debug)]
pub struct Unfinished {
    bytes: usize,
    /// What all connections have brought beyond [`OWN`].
    shared: &'static AtomicUsize,
    /// What those of the same client address have.
    of_address: Option<Arc<AtomicUsize>>,
}

impl Unfinished {
    /// Nothing yet; `shared` is what all connections have brought.
    pub fn new(shared: &'static AtomicUsize) -> Self {
        Self { bytes: 0, shared, of_address: None }
    }

    /// Counts it for a client address, too, before anything is read.
    pub fn count_for(&mut self, of_address: Option<Arc<AtomicUsize>>) {
        self.of_address = of_address;
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
        let brought = self.shared.fetch_add(more, Ordering::Relaxed) + more;
        let of_address = self.of_address.as_ref();
        let of_address = of_address.map_or(0, |own| own.fetch_add(more, Ordering::Relaxed) + more);
        if more > 0 && (brought > SHARED || of_address > OF_ADDRESS) {
            return Err(io::Error::other("unfinished requests take too much"));
        }
        Ok(())
    }

    /// It is whole, or answered.
    pub fn end(&mut self) {
        self.shared.fetch_sub(self.over(), Ordering::Relaxed);
        if let Some(own) = &self.of_address {
            own.fetch_sub(self.over(), Ordering::Relaxed);
        }
        self.bytes = 0;
    }

    fn over(&self) -> usize {
        self.bytes.saturating_sub(OWN)
    }
}

impl Drop for Unfinished {
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
            let mut unfinished = Unfinished::new(&ALL);
            unfinished.count_for(address.cloned());
            unfinished
        };
        let mut first = of(Some(&one));
        assert!(first.grow(OWN + OF_ADDRESS).is_ok());
        // Who comes then, how much of it is brought, and whether that goes on.
        let table = [
            ("the same address", Some(&one), OWN + 1, false),
            ("the same with little", Some(&one), OWN, true),
            ("another address", Some(&other), OWN + OF_ADDRESS, true),
            ("a trusted proxy", None, OWN + 2 * OF_ADDRESS, true),
        ];
        for (name, address, bytes, is_admitted) in table {
            assert_eq!(of(address).grow(bytes).is_ok(), is_admitted, "{name}");
        }
        first.end();
        assert!(of(Some(&one)).grow(OWN + OF_ADDRESS).is_ok(), "given back");
        drop(first);
        assert_eq!((ALL.load(Ordering::Relaxed), one.load(Ordering::Relaxed)), (0, 0));
    }
}
