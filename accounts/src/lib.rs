//! Who people are: register, login, logout, me. Mounted by the gateway (or, split, by the role `accounts`); calls the
//! stores of users and sessions. Identity comes in as [`proto::Identity`] in the request's extensions, from nowhere else.

mod body;
mod config;
mod cookie;
mod credentials;
mod error;
mod http;
mod level;
mod password;
mod people;
mod pool;
mod setbacks;
pub mod users;

pub use config::Config;
pub use error::Error;
pub use http::Accounts;
pub use password::{Password, Weakness};
pub use setbacks::Setbacks;
pub use users::{Creation, MongoUsers, SqliteUsers, User, Users};
