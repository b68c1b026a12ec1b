//! The door: everything HTTP enters through it. It knows the [route table](routes), finds out who is asking, limits how
//! often, and gives every refusal one JSON shape. Mounted by the binary's roles `serve` and `gateway`, which wrap their actix
//! apps in [`Gateway::door`]; asks `sessions` who a token belongs to; hands [`proto::Identity`] to the services behind it, or,
//! where those are other processes, passes requests on to them: [`Proxy`].

mod answer;
mod authority;
mod body;
mod budget;
mod client;
mod config;
mod cors;
mod door;
mod error;
mod forwarded;
mod hangup;
mod head;
mod identify;
mod known;
mod limit;
mod metric;
mod network;
mod notices;
mod origin;
mod own;
mod path;
mod proxy;
mod routes;
mod upgrade;

use std::sync::Arc;

use actix_governor::{Governor, GovernorConfig, governor::middleware::NoOpMiddleware};
use actix_web::web::ServiceConfig;
use sessions::SharedSessions;

pub use config::Config;
pub use door::{Door, DoorService};
pub use error::Error;
pub use hangup::Hangup;
pub use limit::ByClient;
pub use network::Network;
pub use origin::Origin;
pub use own::not_found;
pub use proxy::{Backend, Node, Nodes, NotABackend, Proxy, Upstreams, on_connect};

use budget::Budget;
use known::Known;
use notices::Notices;

/// The gateway of one process: cheap to clone, one for all workers.
#[derive(Clone)]
pub struct Gateway {
    config: Arc<Config>,
    sessions: SharedSessions,
    /// Sessions that were found lately.
    known: Known,
    logins: GovernorConfig<ByClient, NoOpMiddleware>,
    registrations: GovernorConfig<ByClient, NoOpMiddleware>,
    /// How often a client may open a connection that names no user.
    unnamed: Arc<limit::Unnamed>,
    /// What of large answers may wait for clients to read it.
    answers: Budget,
    /// Warnings about the deployment, for all workers.
    notices: Notices,
}

impl Gateway {
    /// A gateway that asks `sessions` who is there. Needs a running runtime.
    pub fn new(config: Config, sessions: SharedSessions) -> Self {
        let config = Arc::new(config);
        let (logins, registrations) = (limit::logins(&config), limit::logins(&config));
        let answers = Budget::new(config.unread_answers);
        let known = Known::new(&sessions);
        let (unnamed, notices) = (Arc::new(limit::unnamed()), Notices::default());
        Self { config, sessions, known, logins, registrations, unnamed, answers, notices }
    }

    /// The middleware every request passes; wrap the whole app in it, outermost.
    pub fn door(&self) -> Door {
        Door::new(self.clone())
    }

    /// The login limit, to wrap the login resource in. All workers share one count.
    pub fn login_limit(&self) -> Governor<ByClient, NoOpMiddleware> {
        Governor::new(&self.logins)
    }

    /// The limit of registrations, to wrap their resource in: as many as logins, counted apart from these.
    pub fn registration_limit(&self) -> Governor<ByClient, NoOpMiddleware> {
        Governor::new(&self.registrations)
    }

    /// The way to services in other processes, behind this gateway's door.
    pub fn proxy(&self, upstreams: Upstreams) -> Proxy {
        Proxy::new(self.config.clone(), upstreams)
    }

    /// Mounts what the gateway answers itself.
    pub fn routes(&self, service: &mut ServiceConfig) {
        own::routes(service);
    }

    /// Removes clients whose allowances are full again, and logs how many warnings were left out. Call it about once a minute:
    /// memory then follows the clients of the last minute and not of all time.
    pub fn forget_idle_clients(&self) {
        for limit in [&self.logins, &self.registrations] {
            limit.limiter().retain_recent();
            limit.limiter().shrink_to_fit();
        }
        self.unnamed.retain_recent();
        self.unnamed.shrink_to_fit();
        self.notices.summarise();
    }
}
