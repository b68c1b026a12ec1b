//! The plays of `main.rs` once more, unchanged, with the system split: a gateway, accounts, two chat nodes and presence on real
//! MongoDB and Redis. Here too: what happens when one of these parts fails.

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
#[expect(dead_code, unused_imports, reason = "the stage has more than these tests need")]
mod support;
mod upgrade_storm;
