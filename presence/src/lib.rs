//! The presence service: which users are online, and which users type.
//!
//! [`state`] is the pure state that turns reports into diffs, [`Roster`] shares it and publishes its diffs, and [`start`] runs the gRPC
//! server (`proto/presence.proto`). Other parts call the service over gRPC only, even when all roles run in one process.

mod config;
mod error;
mod roster;
mod server;
mod service;
pub mod state;

pub use config::Config;
pub use error::Error;
pub use server::start;
