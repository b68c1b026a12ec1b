//! The gateway: the middleware in front of all HTTP. It checks requests against the [route table](routes), authenticates
//! them, applies rate limits, and gives every refusal one JSON shape. The roles `serve` and `gateway` of the binary wrap
//! their actix apps in [`Gateway::middleware`]. `sessions` authenticates tokens. The services behind the middleware receive a
//! [`proto::Identity`]; services in other processes receive forwarded requests through [`Proxy`].

mod body;
mod budget;
mod client;
mod config;
mod cors;
mod error;
mod hangup;
mod head;
mod identify;
mod in_flight;
mod limits;
mod metric;
mod middleware;
mod network;
mod origin;
mod pages;
mod path;
mod proxy;
mod response;
mod routes;
mod session_cache;
mod session_id;
mod upgrade;
mod warnings;

use std::sync::Arc;

use actix_governor::{Governor, governor::middleware::NoOpMiddleware};
use actix_web::web::ServiceConfig;
use sessions::SharedSessions;

pub use config::Config;
pub use error::Error;
pub use hangup::Hangup;
pub use middleware::{Middleware, MiddlewareService};
pub use network::Network;
pub use origin::Origin;
pub use pages::not_found;
pub use proxy::{Proxy, Upstreams, on_connect};
pub use session_id::names_session;

use budget::Budget;
use in_flight::InFlight;
pub use limits::ByClient;
use limits::Limits;
use session_cache::SessionCache;
use warnings::Warnings;

/// The gateway of a process, shared by all workers. Cheap to clone.
#[derive(Clone)]
pub struct Gateway {
    config: Arc<Config>,
    sessions: SharedSessions,
    /// Recently found sessions.
    session_cache: SessionCache,
    limits: Arc<Limits>,
    /// The budget of large responses that clients have not read.
    response_budget: Budget,
    /// Warnings about the deployment, shared by all workers.
    warnings: Warnings,
    in_flight: Arc<InFlight>,
}

impl Gateway {
    /// A gateway that authenticates tokens with `sessions`. Requires a running runtime.
    pub fn new(config: Config, sessions: SharedSessions) -> Self {
        let config = Arc::new(config);
        let limits = Arc::new(Limits::new(&config));
        let response_budget = Budget::new(config.unread_answers);
        let session_cache = SessionCache::new(&sessions);
        Self {
            config,
            sessions,
            session_cache,
            limits,
            response_budget,
            warnings: Warnings::default(),
            in_flight: Arc::new(InFlight::new()),
        }
    }

    /// The middleware. Must be the outermost one of the whole app.
    pub fn middleware(&self) -> Middleware {
        Middleware::new(self.clone())
    }

    /// The rate limit of logins, as middleware of the login resource. All workers share its counts.
    pub fn login_limit(&self) -> Governor<ByClient, NoOpMiddleware> {
        Governor::new(&self.limits.logins)
    }

    /// The rate limit of registrations, as middleware of their resource. It has the rate of logins and separate counts.
    pub fn registration_limit(&self) -> Governor<ByClient, NoOpMiddleware> {
        Governor::new(&self.limits.registrations)
    }

    /// The proxy to services in other processes, behind this gateway's middleware.
    pub fn proxy(&self, upstreams: Upstreams) -> Proxy {
        Proxy::new(self.config.clone(), self.in_flight.clone(), upstreams)
    }

    /// Mounts the pages of the gateway itself.
    pub fn routes(&self, service: &mut ServiceConfig) {
        pages::routes(service);
    }

    /// Removes clients with unused rate limits. Must be called about once per minute, so that memory depends on the clients
    /// of the last minute.
    pub fn remove_idle_clients(&self) {
        self.limits.remove_idle();
    }
}
