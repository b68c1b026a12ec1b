//! Rate limits of logins, registrations and anonymous handshakes (actix-governor), keyed by client address. Built by
//! [`crate::Gateway`]. The binary wraps the login route; the middleware checks handshakes.

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

/// Keys requests by the client address that the middleware has determined: the peer's, or the address that a trusted
/// proxy states. IPv6 addresses count by /64.
#[derive(Debug, Clone)]
pub struct ByClient;

/// The limit of logins or registrations: `login_burst` at once, then `login_rate` per second.
pub(crate) fn logins(config: &Config) -> GovernorConfig<ByClient, NoOpMiddleware> {
    GovernorConfigBuilder::default()
        .period(Duration::from_secs(1) / config.login_rate)
        .burst_size(config.login_burst)
        .key_extractor(ByClient)
        .finish()
        .expect("the ranges of the flags make rate and burst at least 1")
}

/// Limits anonymous handshakes per client address: 2,000 at once and 200 per second. Within the connect timeout of 10 s
/// these are 4,000, fewer than the unauthenticated sessions that a worker keeps (4,096), so that one address cannot
/// displace those of others.
pub(crate) type AnonymousLimiter = DefaultKeyedRateLimiter<IpAddr>;

/// The rate of [`AnonymousLimiter`].
const ANONYMOUS_PER_SECOND: NonZeroU32 = NonZeroU32::new(200).expect("not zero");

/// The burst of [`AnonymousLimiter`].
const ANONYMOUS_BURST: NonZeroU32 = NonZeroU32::new(2_000).expect("not zero");

/// The limit of anonymous handshakes.
pub(crate) fn anonymous() -> AnonymousLimiter {
    RateLimiter::keyed(Quota::per_second(ANONYMOUS_PER_SECOND).allow_burst(ANONYMOUS_BURST))
}

/// Counts one handshake of `client`. Fails when the client has no address or its limit is exceeded.
pub(crate) fn admit_anonymous(limit: &AnonymousLimiter, client: Option<Client>) -> Result<(), Error> {
    let Some(address) = client.and_then(Client::counted) else { return Err(Error::NoAddress) };
    limit.check_key(&address).map_err(|exceeded| {
        let wait = exceeded.wait_time_from(DefaultClock::default().now());
        Error::TooManyAnonymous(wait.as_secs() + 1)
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
        exceeded: &NotUntil<QuantaInstant>,
        _response: HttpResponseBuilder,
    ) -> HttpResponse {
        let wait = exceeded.wait_time_from(DefaultClock::default().now());
        let error = Error::TooManyLogins(wait.as_secs() + 1);
        metric::record_refusal(error);
        error.error_response()
    }
}
