//! How often one client may try to log in, or open a connection that names no user: actix-governor, keyed by the client's real
//! address. Built by [`crate::Gateway`]; the binary wraps the login route, the door asks for handshakes.

use std::{net::IpAddr, num::NonZeroU32, time::Duration};

use actix_governor::{
    GovernorConfig, GovernorConfigBuilder, KeyExtractor,
    governor::{
        DefaultKeyedRateLimiter, NotUntil, Quota, RateLimiter,
        clock::{Clock, DefaultClock, QuantaInstant},
        middleware::NoOpMiddleware,
    },
};
use actix_web::{HttpMessage, HttpResponse, HttpResponseBuilder, ResponseError, dev::ServiceRequest};

use crate::{client::Client, config::Config, error::Error, metric};

/// Counts clients by the address that the door has found: the peer's, or the one a trusted proxy names; IPv6 by /64.
#[derive(Debug, Clone)]
pub struct ByClient;

/// The limit of logins, or of registrations, that `config` asks for. `login_burst` pass at once, then `login_rate` per second.
pub(crate) fn logins(config: &Config) -> GovernorConfig<ByClient, NoOpMiddleware> {
    GovernorConfigBuilder::default()
        .period(Duration::from_secs(1) / config.login_rate)
        .burst_size(config.login_burst)
        .key_extractor(ByClient)
        .finish()
        .expect("rate and burst are at least 1, the flags' ranges say so")
}

/// Handshakes that name no user, by client address. At most 2,000 at once and 200 per second: within the connect timeout of 10 s these
/// are 4,000, fewer than the unauthenticated sessions that a worker keeps (4,096), so that one address cannot displace those of others.
pub(crate) type Unnamed = DefaultKeyedRateLimiter<IpAddr>;

/// See [`Unnamed`].
const UNNAMED_PER_SECOND: NonZeroU32 = NonZeroU32::new(200).expect("not zero");

/// See [`Unnamed`].
const UNNAMED_AT_ONCE: NonZeroU32 = NonZeroU32::new(2_000).expect("not zero");

/// The limit of handshakes that name no user.
pub(crate) fn unnamed() -> Unnamed {
    RateLimiter::keyed(Quota::per_second(UNNAMED_PER_SECOND).allow_burst(UNNAMED_AT_ONCE))
}

/// Counts one handshake of `client`.
pub(crate) fn admit_unnamed(limit: &Unnamed, client: Option<Client>) -> Result<(), Error> {
    let Some(address) = client.and_then(Client::counted) else { return Err(Error::NoAddress) };
    limit.check_key(&address).map_err(|refused| {
        let wait = refused.wait_time_from(DefaultClock::default().now());
        Error::TooManyUnnamed(wait.as_secs() + 1)
    })
}

impl KeyExtractor for ByClient {
    type Key = IpAddr;
    type KeyExtractionError = Error;

    fn extract(&self, request: &ServiceRequest) -> Result<IpAddr, Error> {
        let client = request.extensions().get::<Client>().copied();
        client.and_then(Client::counted).ok_or(Error::NoAddress)
    }

    fn exceed_rate_limit_response(
        &self,
        refused: &NotUntil<QuantaInstant>,
        _answer: HttpResponseBuilder,
    ) -> HttpResponse {
        let wait = refused.wait_time_from(DefaultClock::default().now());
        let error = Error::TooManyLogins(wait.as_secs() + 1);
        metric::refused(error);
        error.error_response()
    }
}
