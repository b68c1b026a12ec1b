//! The table of live chat nodes in Redis. Each node holds a lease ([`NodeLease`]), and gateways read the table
//! ([`Watcher`]). Times are those of Redis, so that clocks of several machines need not agree.

mod backend;
mod lease;
mod nodes;
mod watcher;

use remote::{Location, Redis, redis::Script};

pub use backend::{Backend, InvalidBackend};
pub use lease::NodeLease;
pub use nodes::{Node, Nodes};
pub use watcher::Watcher;

/// The hash of all nodes: name to `EXPIRES ADDRESS STATE`. `EXPIRES` is in milliseconds of the clock of Redis, `STATE`
/// is [`OPEN`] or [`CLOSED`].
const TABLE_KEY: &str = "chat:nodes";

/// The node accepts new sessions.
const OPEN: &str = "open";

/// The node serves only its existing sessions: it starts or drains.
const CLOSED: &str = "closed";

/// Maximum number of connections to Redis: one request at a time, and one more while a late request is abandoned.
const CONNECTIONS: usize = 2;

/// The table of nodes in the Redis at `at`. Does not connect: Redis may be unavailable.
///
/// # Errors
/// When the address is invalid. The text does not contain the address.
fn table(at: impl Into<Location>) -> Result<Redis, String> {
    Redis::new(at, CONNECTIONS).map_err(|error| format!("the address of Redis is refused: {error}"))
}

/// A script on the table, which Redis runs atomically. Before `code` stand the clock of Redis in milliseconds, and the parser of an entry.
fn script(code: &str) -> Script {
    Script::new(&format!(
        r"
        local time = redis.call('TIME')
        local now = time[1] * 1000 + math.floor(time[2] / 1000)
        local function parts(entry)
            local expires, address, state = string.match(entry or '', '^(%d+) (%S+) (%a+)$')
            return tonumber(expires), address, state
        end
        {code}"
    ))
}

#[cfg(test)]
mod tests;
