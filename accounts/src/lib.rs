//! User accounts: register, login, logout, me. `serve` mounts the routes in the gateway; in a cluster the role `accounts` serves them.
//! Handlers take the caller from [`proto::Identity`] in the request's extensions and from no other source.

mod body;
mod config;
mod cookie;
mod credentials;
mod error;
mod http;
mod login_throttle;
mod password;
mod pool;
mod refusal_cost;
mod service;
pub mod users;

pub use config::Config;
pub use error::Error;
pub use http::{Accounts, NO_THREADS};
pub use login_throttle::LoginThrottle;
pub use password::{Password, Weakness};
#[cfg(feature = "mongodb")]
pub use users::MongoUsers;
pub use users::{Creation, SqliteUsers, User, Users};
