//! The whole system through its front door, in one test binary: plays with people in them, forgers, crashes, slow
//! readers, official clients. Everything stands on [`stage`], which starts the real program; [`tidy`] alone reads sources.

mod blocked_log;
mod checker;
mod config;
mod connections;
mod contract;
mod credentials;
mod deployed;
mod doctor;
mod durability;
mod edges;
mod frames;
mod identity;
mod interop;
mod limits;
mod operations;
mod orchestrators;
mod pipelines;
mod plays;
mod proxies;
mod readme;
mod recovery;
mod roles;
mod rot;
mod settings;
mod signals;
mod slow_reader;
mod slow_readers;
mod stores;
mod supervision;
#[expect(dead_code, unused_imports, reason = "the stage has what only the split system's tests need, too")]
mod support;
mod tidy;
mod upgrade_storm;
