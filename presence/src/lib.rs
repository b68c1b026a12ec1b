//! The presence service: which users are online, and which users type. [`roster`] contains the pure state that turns reports
//! into diffs. [`Roster`] is the actor that owns it. [`serve`] runs the gRPC server (`proto/presence.proto`). The binary starts the
//! service. Other parts call it over gRPC only, even when all roles run in one process.

mod actor;
mod config;
mod error;
mod grpc;
pub mod roster;

pub use actor::{Roster, Timings};
pub use config::Config;
pub use error::Error;
pub use grpc::{Service, answers, serve, start};
