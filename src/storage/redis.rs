//! What roles keep in Redis: login sessions, and of chat nodes their leases, the stream and recovery sessions. Redis may be
//! unavailable.

use std::fmt;

use remote::{Location, Redis, redis::cmd};
use sessions::RedisSessions;

use crate::{config::shared, error::Error};

/// The address of Redis, and the prefix of the keys.
///
/// # Errors
/// When the address is missing or cannot be read.
pub fn location(flags: &shared::Redis, deployment: &shared::Deployment) -> Result<Location, Error> {
    let url = flags.url().map_err(Error::Config)?;
    Ok(Location::new(url.reveal(), &deployment.deployment))
}

/// A client with one connection, for checks.
///
/// # Errors
/// When the address is invalid, as for the functions below.
pub fn client(at: Location) -> Result<Redis, Error> {
    Redis::new(at, 1).map_err(refused)
}

/// The version of Redis, for the doctor.
///
/// # Errors
/// Also when Redis does not answer.
pub async fn version(at: Location) -> Result<String, Error> {
    let redis = client(at)?;
    let asked =
        redis.ask(async |mut redis| cmd("INFO").arg("server").query_async::<String>(&mut redis).await);
    let info = asked.await.map_err(|error| Error::Tool(error.to_string()))?;
    Ok(remote::field(&info, "redis_version"))
}

/// The login sessions. Needs a running runtime.
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
