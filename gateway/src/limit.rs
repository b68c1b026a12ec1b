//! How often one client may try to log in: actix-governor, keyed by the client's real address. Built by [`crate::Gateway`],
//! wrapped around the login route by the binary.

use std::{net::IpAddr, time::Duration};

use actix_governor::{
    GovernorConfig, GovernorConfigBuilder, KeyExtractor,
    governor::{
        NotUntil,
        clock::{Clock, DefaultClock, QuantaInstant},
        middleware::NoOpMiddleware,
    },
};
use actix_web::{HttpMessage, HttpResponse, HttpResponseBuilder, ResponseError, dev::ServiceRequest};

use crate::{client::Client, config::Config, error::Error, metric};

/// Counts clients by the address that the door has found: the peer's, or the one a trusted proxy names; IPv6 by /64.
#[derive(Debug, Clone)]
pub struct ByClient;

/// The login limit that `config` asks for. `login_burst` pass at once, then `login_rate` per second.
pub(crate) fn logins(config: &Config) -> GovernorConfig<ByClient, NoOpMiddleware> {
    GovernorConfigBuilder::default()
        .period(Duration::from_secs(1) / config.login_rate)
        .burst_size(config.login_burst)
        .key_extractor(ByClient)
        .finish()
        .expect("rate and burst are at least 1, the flags' ranges say so")
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
