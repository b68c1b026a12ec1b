//! What roles keep in Redis: login sessions, failed logins, and of chat nodes their leases, the stream and recovery sessions. Opened from
//! the address in `--redis-url`. Redis may be unavailable.

mod claim;
mod claim_script;
mod examine;

use std::{fmt, sync::Arc, time::Duration};

use accounts::LoginThrottle;
use actix_web::rt::time::sleep;
use remote::Location;
use sessions::{RedisSessions, Revocations, ages};

pub use self::{
    claim::Claim,
    examine::{Use, examine},
};
use crate::{config::shared, error::Error};

/// Maximum number of connections to the Redis that counts failed logins.
const THROTTLE_CONNECTIONS: usize = 8;

/// Interval of the checks of Redis's settings.
const CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// Interval of the checks while Redis does not answer.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// The address of Redis, and the prefix of the keys.
///
/// # Errors
/// When the address is missing or cannot be read.
pub fn location(flags: &shared::Redis, deployment: &shared::Deployment) -> Result<Location, Error> {
    let url = flags.url().map_err(Error::Config)?;
    Ok(Location::new(url.reveal(), &deployment.deployment))
}

/// The sessions, for roles that find them. Needs a running runtime.
///
/// # Errors
/// When the address is invalid, as for the functions below.
pub fn sessions(at: Location) -> Result<RedisSessions, Error> {
    RedisSessions::new(at, ages::now).map_err(refused)
}

/// The sessions, for the role that opens and closes them.
pub fn sessions_with_revocations(
    at: Location,
    revocations: Arc<dyn Revocations>,
) -> Result<RedisSessions, Error> {
    RedisSessions::with_revocations(at, ages::now, revocations).map_err(refused)
}

/// The counters of failed logins.
pub fn login_throttle(at: Location) -> Result<LoginThrottle, Error> {
    Ok(LoginThrottle::new(remote::Redis::new(at, THROTTLE_CONNECTIONS).map_err(refused)?))
}

/// The stream and the recovery sessions of chat nodes.
pub fn chat(at: Location) -> Result<chat::Redis, Error> {
    chat::Redis::new(at).map_err(|error| refused(error.public()))
}

/// The refusal does not contain the address, because it can contain a password.
fn refused(error: impl fmt::Display) -> Error {
    Error::Config(format!("the address of Redis is refused: {error}"))
}

/// Warns when the settings of Redis can lose sessions. The check is repeated, because settings can change at run time.
pub async fn warn_about_data_loss(sessions: Arc<RedisSessions>) {
    let (mut is_durable, mut evicts) = (true, false);
    loop {
        let pause = match (sessions.is_durable().await, sessions.evicts().await) {
            (Ok(durable), Ok(evicting)) => {
                if is_durable && !durable {
                    tracing::warn!(
                        "users can be logged out when Redis crashes: set appendonly yes and appendfsync always"
                    );
                }
                if evicting && !evicts {
                    tracing::warn!(
                        "users can be logged out when the memory of Redis is full: set maxmemory-policy noeviction"
                    );
                }
                (is_durable, evicts) = (durable, evicting);
                CHECK_INTERVAL
            }
            _ => RETRY_INTERVAL,
        };
        sleep(pause).await;
    }
}
