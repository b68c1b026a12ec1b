//! What user_lookup say, and who may hear it: clients (sockets) and HTTP requests come in, rooms decide, history keeps, the log
//! tells everybody.
//!
//! Inward: [`client`] or `http` → `rooms` (which room?) → `room` (may they, what number) → [`history`] and [`directory`]
//! (durably) → `log` (in one order) → [`socketio::Io`]. Beside it: [`presence`], who is here.

mod ask;
mod bucket;
pub mod changes;
mod chat;
mod column;
mod reconnects;
pub mod config;
mod online;
pub mod directory;
mod error;
pub mod client;
mod head;
pub mod history;
mod http;
mod id;
pub mod lineage;
pub mod broker;
mod mongo;
pub mod user_lookup;
pub mod presence;
mod history_page;
mod redis;
mod revocation;
mod room;
mod rooms;
mod rows;
mod socket_quota;
mod seed;
mod start;
pub mod mongo_store;
pub mod sqlite_store;
mod text;
pub mod recovery_sessions;
mod turns;
pub mod unpublished;

pub use chat::Chat;
pub use config::Config;
pub use error::Error;
pub use user_lookup::UserLookup;
pub use redis::Redis;
pub use seed::{Sample, seed};
pub use start::{Deps, Order, start};
pub use {mongo_store::MongoStore, sqlite_store::SqliteStore};
pub use text::Text;
