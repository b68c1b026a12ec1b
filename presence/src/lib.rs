//! Who is here. The [`roster`] is a value that turns reports into diffs, [`Roster`] is the actor that owns it, [`serve`] is
//! the gRPC service in front (`proto/presence.proto`). Started by the binary; spoken to over the network only, also in one
//! process.

mod actor;
mod config;
mod error;
mod grpc;
pub mod roster;

pub use actor::{Roster, Timings};
pub use config::Config;
pub use error::Error;
pub use grpc::{Service, answers, serve, start};
