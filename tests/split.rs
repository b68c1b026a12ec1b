//! The plays of `main.rs` once more, unchanged, with the system split: a gateway, accounts, two chat nodes and presence on real
//! MongoDB and Redis. Here too: what happens when one of these parts fails. Not here: a thousand clients, for whom eight processes
//! without optimisation are too slow on a small machine.

mod checker;
mod contract;
mod durability;
mod faults;
mod identity;
mod interop;
mod plays;
mod recovery;
#[expect(dead_code, unused_imports, reason = "the stage has more than these tests need")]
mod stage;
