//! Rate limits of logins, registrations and anonymous handshakes, each counted by client address (IPv6: by /64). Those of logins and
//! registrations wrap their resources (actix-governor); the middleware checks handshakes.

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

/// The rate of anonymous handshakes. Within the connect timeout of 10 s these are 4,000 with the burst, fewer than the
/// unauthenticated sessions that a worker keeps (4,096), so that one address cannot displace those of others.
const ANONYMOUS_PER_SECOND: NonZeroU32 = NonZeroU32::new(200).expect("not zero");

/// The burst of anonymous handshakes.
const ANONYMOUS_BURST: NonZeroU32 = NonZeroU32::new(2_000).expect("not zero");

/// Keys requests by the client address that the middleware has determined.
#[derive(Debug, Clone)]
pub struct ByClient;

/// The limits of a process, shared by all workers.
pub(crate) struct Limits {
    pub logins: GovernorConfig<ByClient, NoOpMiddleware>,
    pub registrations: GovernorConfig<ByClient, NoOpMiddleware>,
    anonymous: DefaultKeyedRateLimiter<IpAddr>,
}

impl Limits {
    pub(crate) fn new(config: &Config) -> Self {
        let logins = || {
            GovernorConfigBuilder::default()
                .period(Duration::from_secs(1) / config.login_rate)
                .burst_size(config.login_burst)
                .key_extractor(ByClient)
                .finish()
                .expect("the ranges of the flags make rate and burst at least 1")
        };
        let anonymous = Quota::per_second(ANONYMOUS_PER_SECOND).allow_burst(ANONYMOUS_BURST);
        Self { logins: logins(), registrations: logins(), anonymous: RateLimiter::keyed(anonymous) }
    }

    /// Counts an anonymous handshake of `client`.
    pub(crate) fn admit_anonymous(&self, client: Client) -> Result<(), Error> {
        let address = client.counted().ok_or(Error::NoAddress)?;
        self.anonymous.check_key(&address).map_err(|exceeded| Error::TooManyAnonymous(wait(&exceeded)))
    }

    /// Removes clients whose limits are unused.
    pub(crate) fn remove_idle(&self) {
        for limiter in [&*self.logins.limiter(), &*self.registrations.limiter(), &self.anonymous] {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
    }
}

/// The seconds until the next request is admitted.
fn wait(exceeded: &NotUntil<QuantaInstant>) -> u64 {
    exceeded.wait_time_from(DefaultClock::default().now()).as_secs() + 1
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
        let error = Error::TooManyLogins(wait(exceeded));
        metric::record_refusal(error);
        error.error_response()
    }
}
