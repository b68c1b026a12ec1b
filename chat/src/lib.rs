//! The chat service. Clients (sockets) and HTTP requests ask rooms. Rooms check permissions and assign numbers, the stores make the
//! result durable, and the broker delivers it to the sockets in one order.
//!
//! Path of a message: [`client`] or `http` → `commands` → `rooms` (finds the room's actor) → `room` (permission, batch) → [`history`] and
//! [`directory`] (durable) → [`broker`] (one order) → [`socketio::Io`]. Beside it: `presence`, the online and typing users.

mod ack;
mod ask;
pub mod broker;
mod bucket;
mod catch_up;
pub mod changes;
mod chat;
pub mod client;
mod column;
mod commands;
pub mod config;
pub mod directory;
mod error;
mod head;
pub mod history;
mod http;
mod id;
#[cfg(feature = "mongodb")]
mod mongo;
#[cfg(feature = "mongodb")]
mod mongo_store;
mod permission;
mod presence;
mod reconnects;
mod recovery_ticket;
mod redis;
mod revocation;
mod room;
mod room_change;
mod room_reader;
mod rooms;
mod seed;
mod socket_quota;
mod sqlite_store;
mod start;
mod task;
mod text;
mod turns;
pub mod unpublished;
mod user_lookup;

pub use chat::Chat;
pub use config::Config;
pub use error::Error;
#[cfg(feature = "mongodb")]
pub use mongo_store::MongoStore;
pub use redis::Redis;
pub use seed::{Sample, seed};
pub use sqlite_store::SqliteStore;
pub use start::{Deps, Order, start};
pub use text::Text;
pub use user_lookup::UserLookup;
