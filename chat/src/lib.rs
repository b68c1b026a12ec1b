//! What user_lookup say, and who may hear it: clients (sockets) and HTTP requests come in, rooms decide, history keeps, the log
//! tells everybody.
//!
//! Inward: [`client`] or `http` → `rooms` (which room?) → `room` (may they, what number) → [`history`] and [`directory`]
//! (durably) → `log` (in one order) → [`socketio::Io`]. Beside it: [`presence`], who is here.

mod ask;
pub mod broker;
mod bucket;
pub mod changes;
mod chat;
pub mod client;
mod column;
pub mod config;
pub mod directory;
mod error;
mod head;
pub mod history;
mod history_page;
mod http;
mod id;
pub mod lineage;
mod mongo;
pub mod mongo_store;
mod online;
pub mod presence;
mod reconnects;
pub mod recovery_sessions;
mod redis;
mod revocation;
mod room;
mod rooms;
mod rows;
mod seed;
mod socket_quota;
pub mod sqlite_store;
mod start;
mod text;
mod turns;
pub mod unpublished;
pub mod user_lookup;

pub use chat::Chat;
pub use config::Config;
pub use error::Error;
pub use redis::Redis;
pub use seed::{Sample, seed};
pub use start::{Deps, Order, start};
pub use text::Text;
pub use user_lookup::UserLookup;
pub use {mongo_store::MongoStore, sqlite_store::SqliteStore};
