//! What people say, and who may hear it: guests (sockets) and HTTP requests come in, rooms decide, history keeps, the log
//! tells everybody.
//!
//! Inward: [`guest`] or `http` → `rooms` (which room?) → `room` (may they, what number) → [`history`] and [`directory`]
//! (durably) → `log` (in one order) → [`socketio::Io`]. Beside it: [`presence`], who is here.

mod ask;
mod bucket;
pub mod changes;
mod chat;
mod column;
mod comebacks;
pub mod config;
mod crowd;
pub mod directory;
mod error;
pub mod guest;
mod head;
pub mod history;
mod http;
mod id;
pub mod lineage;
pub mod log;
mod mongo;
pub mod people;
pub mod presence;
mod recall;
mod redis;
mod revocation;
mod room;
mod rooms;
mod rows;
mod seats;
mod seed;
mod start;
pub mod store;
mod text;
pub mod tickets;
mod turns;
pub mod untold;

pub use chat::Chat;
pub use config::Config;
pub use error::Error;
pub use people::People;
pub use redis::Redis;
pub use seed::{Sample, seed};
pub use start::{Deps, Order, start};
pub use store::{Store, mongo::MongoStore};
pub use text::Text;
