//! End-to-end tests of the whole system in one binary: chat, forged identities, crashes, slow clients, official clients. All are
//! built on [`support`], which starts the real program; only [`tidy`] reads sources.

mod blocked_log;
mod change_log;
mod checker;
mod close_reasons;
mod config;
mod connections;
mod contract;
mod credentials;
mod deployed;
mod durability;
mod identity;
mod interop;
mod operations;
mod orchestrators;
mod pipelines;
mod plays;
mod readme;
mod recovery;
mod roles;
mod slow_reader;
mod soak;
mod stores;
mod supervision;
#[expect(dead_code, unused_imports, reason = "some items are used by the tests of the split system only")]
mod support;
mod tidy;
mod upgrade_storm;
