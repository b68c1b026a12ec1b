//! The tests of `main.rs` on the split system: a gateway, accounts, two chat nodes and presence on real MongoDB and Redis. Also tests of
//! failures of these parts.

mod change_log;
mod checker;
mod connections;
mod contract;
mod credentials;
mod durability;
mod edges;
mod faults;
mod frames;
mod identity;
mod interop;
mod pipelines;
mod plays;
mod recovery;
mod slow_reader;
mod slow_readers;
#[expect(dead_code, reason = "some items are used by the tests of the single process only")]
mod support;
mod upgrade_storm;
