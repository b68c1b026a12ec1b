//! What roles keep in Redis: login sessions, and of chat nodes their leases, the stream and recovery sessions. Redis may be
//! unavailable.

use std::fmt;

use remote::{
    Location, Redis,
    redis::{Client, cmd},
};
use sessions::RedisSessions;

use crate::error::Error;

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
/// Also when Redis does not answer. The text names its host and port.
pub async fn version(at: Location) -> Result<String, Error> {
    let server = Client::open(&*at.url).map_err(refused)?.get_connection_info().addr().to_string();
    let redis = client(at)?;
    let asked =
        redis.ask(async |mut redis| cmd("INFO").arg("server").query_async::<String>(&mut redis).await);
    let info = asked.await.map_err(|error| Error::Tool(format!("{server}: {error}")))?;
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
