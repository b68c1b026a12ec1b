//! Rate limits of logins, registrations and anonymous handshakes, each counted by client address (IPv6: by /64). Used by the
//! middleware.

use std::{net::IpAddr, num::NonZeroU32};

use governor::{
    DefaultKeyedRateLimiter, Quota, RateLimiter,
    clock::{Clock, DefaultClock},
};

use crate::{
    client::Client,
    config::Config,
    error::Error,
    routes::{LOGIN, REGISTER, Route},
};

/// The rate of anonymous handshakes. Within the connect timeout of 10 s these are 4,000 with the burst, fewer than the
/// unauthenticated sessions that a worker keeps (4,096), so that one address cannot displace those of others.
const ANONYMOUS_PER_SECOND: NonZeroU32 = NonZeroU32::new(200).expect("not zero");

/// The burst of anonymous handshakes.
const ANONYMOUS_BURST: NonZeroU32 = NonZeroU32::new(2_000).expect("not zero");

/// The limits of a process, shared by all workers.
pub(crate) struct Limits {
    logins: DefaultKeyedRateLimiter<IpAddr>,
    registrations: DefaultKeyedRateLimiter<IpAddr>,
    anonymous: DefaultKeyedRateLimiter<IpAddr>,
}

impl Limits {
    pub(crate) fn new(config: &Config) -> Self {
        let positive = |value| NonZeroU32::new(value).unwrap_or(NonZeroU32::MIN);
        let logins = Quota::per_second(positive(config.login_rate)).allow_burst(positive(config.login_burst));
        let anonymous = Quota::per_second(ANONYMOUS_PER_SECOND).allow_burst(ANONYMOUS_BURST);
        Self {
            logins: RateLimiter::keyed(logins),
            registrations: RateLimiter::keyed(logins),
            anonymous: RateLimiter::keyed(anonymous),
        }
    }

    /// Counts a request of `client` for a route that has a limit.
    pub(crate) fn admit(&self, route: &Route, client: Client) -> Result<(), Error> {
        match route.path {
            LOGIN => check(&self.logins, client, Error::TooManyLogins),
            REGISTER => check(&self.registrations, client, Error::TooManyLogins),
            _ => Ok(()),
        }
    }

    /// Counts an anonymous handshake of `client`.
    pub(crate) fn admit_anonymous(&self, client: Client) -> Result<(), Error> {
        check(&self.anonymous, client, Error::TooManyAnonymous)
    }

    /// Removes clients whose limits are unused.
    pub(crate) fn remove_idle(&self) {
        for limiter in [&self.logins, &self.registrations, &self.anonymous] {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
    }
}

/// Counts a request. `refusal` receives the seconds to wait.
fn check(
    limiter: &DefaultKeyedRateLimiter<IpAddr>,
    client: Client,
    refusal: impl Fn(u64) -> Error,
) -> Result<(), Error> {
    let address = client.counted().ok_or(Error::NoAddress)?;
    limiter.check_key(&address).map_err(|exceeded| {
        let wait = exceeded.wait_time_from(DefaultClock::default().now());
        refusal(wait.as_secs() + 1)
    })
}
