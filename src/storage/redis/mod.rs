//! What roles keep in Redis: login sessions, and of chat nodes their leases, the stream and recovery sessions. Opened from
//! the address in `--redis-url`. Redis may be unavailable.

mod claim;
mod claim_script;
mod examine;

use std::fmt;

use remote::Location;
use sessions::RedisSessions;

pub use self::{
    claim::Claim,
    examine::{Use, examine},
};
use crate::{config::shared, error::Error};

/// The address of Redis, and the prefix of the keys.
///
/// # Errors
/// When the address is missing or cannot be read.
pub fn location(flags: &shared::Redis, deployment: &shared::Deployment) -> Result<Location, Error> {
    let url = flags.url().map_err(Error::Config)?;
    Ok(Location::new(url.reveal(), &deployment.deployment))
}

/// The login sessions. Needs a running runtime.
///
/// # Errors
/// When the address is invalid, as for the functions below.
pub fn sessions(at: Location) -> Result<RedisSessions, Error> {
    RedisSessions::new(at).map_err(refused)
}

/// The stream and the recovery sessions of chat nodes.
pub fn chat(at: Location) -> Result<chat::Redis, Error> {
    chat::Redis::new(at).map_err(|error| refused(error.public()))
}

/// The refusal does not contain the address, because it can contain a password.
fn refused(error: impl fmt::Display) -> Error {
    Error::Config(format!("the address of Redis is refused: {error}"))
}
