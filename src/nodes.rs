//! Which chat nodes live and where: each announces itself in Redis under a lease ([`Announcement`]), and gateways watch ([`Watch`]).
//! Time is Redis's own, so that no two clocks have to agree.

mod lease;
mod scripts;
mod watcher;

use remote::{Location, Redis};

pub use lease::NodeLease;
pub use watch::Watch;

/// The hash of all nodes: name to `EXPIRES ADDRESS STATE`, the first in milliseconds of Redis's clock, the last [`OPEN`] or
/// [`CLOSED`].
const TABLE_KEY: &str = "chat:nodes";

/// The key that gateways write, to learn whether nodes can renew their leases.
const WRITE_PROBE_KEY: &str = "chat:nodes:asked";

/// The node takes what is new.
const OPEN: &str = "open";

/// It answers only for the sessions that it has: it starts, or ends.
const CLOSED: &str = "closed";

/// Connections to Redis at most: one question at a time, and one more while a late one is given up.
const CONNECTIONS: usize = 2;

/// The way to the table of nodes, in the Redis at `at`, which need not be there yet.
///
/// # Errors
/// Names the flag and what is expected, never the address.
fn table(at: impl Into<Location>) -> Result<Redis, String> {
    let refused = |error| format!("the value of --redis-url (GODZILLA_REDIS_URL) is refused: {error}");
    Redis::new(at, CONNECTIONS).map_err(refused)
}

#[cfg(test)]
mod tests;
