//! The tests of `main.rs` on the split system: a gateway, accounts, two chat nodes and presence on real MongoDB and Redis. Also tests of
//! failures of these parts.

mod change_log;
mod checker;
mod contract;
mod credentials;
mod durability;
mod faults;
mod identity;
mod plays;
mod recovery;
#[expect(dead_code, unused_imports, reason = "some items are used by the tests of the single process only")]
mod support;
mod upgrade_storm;
