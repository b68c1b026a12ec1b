//! The proxy to services in other processes: accounts and chat nodes. [`outgoing`] rewrites an accepted request,
//! [`upstream`] sends it to a service, [`incoming`] relays the response without the headers of the connection. A proxied
//! WebSocket consists of two connections that are joined once the node has accepted the handshake ([`splice`]).

mod choice;
mod drain;
mod failover;
mod faults;
mod forward;
mod handshake;
mod headers;
mod health;
mod incoming;
mod mismatches;
mod outgoing;
mod outliers;
mod probe;
mod readiness;
mod role_reports;
mod roles;
mod session;
mod splice;
mod upstream;

use std::{
    rc::Rc,
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use actix_web::{
    HttpMessage, HttpRequest, HttpResponse, Resource, ResponseError,
    http::{ConnectionType, Method, header},
    web,
};
use bytes::Bytes;
use cluster::{Backend, Nodes};
use proto::signature::Key;
use tokio::sync::{Notify, watch};

pub use splice::on_connect;

use crate::{
    body,
    config::Config,
    error::Error,
    in_flight::{InFlight, RequestGuard},
    metric,
    response::session_unknown,
    routes::SOCKETS,
    session_id::session_ids,
};
pub use role_reports::RedisKeys;

use health::HealthChecks;
use mismatches::Limits;
use outliers::RecentFailures;
use roles::Role;
use session::Session;
use upstream::Upstream;

/// The services behind a gateway, when they are other processes.
#[derive(Debug, Clone)]
pub struct Upstreams {
    /// The accounts service.
    pub accounts: Backend,
    /// The live chat nodes. The owner of the sender keeps them up to date.
    pub nodes: watch::Receiver<Nodes>,
    /// Requests a refresh of `nodes`, because a request named an unlisted node, which may be new.
    pub refresh: Arc<Notify>,
    /// The key that signs identities for the services.
    pub key: Key,
    /// The maximum body size of a polling request, in bytes.
    pub payload_limit: usize,
}

/// The proxy of a process, shared by all workers. Cheap to clone.
#[derive(Clone)]
pub struct Proxy(Arc<Shared>);

/// The proxy of one worker, with its own connections to the services.
#[derive(Clone)]
pub struct ProxyWorker(Rc<Worker>);

struct Shared {
    config: Arc<Config>,
    upstreams: Upstreams,
    in_flight: Arc<InFlight>,
    /// The index of the node for the next anonymous request.
    next_node: AtomicUsize,
    recent_failures: RecentFailures,
    health: Arc<HealthChecks>,
}

struct Worker {
    shared: Arc<Shared>,
    upstream: Upstream,
}

/// The timeout of accounts. Its own deadlines are shorter.
const ACCOUNTS_TIMEOUT: Duration = Duration::from_secs(10);

/// The timeout of chat nodes. A client receives the response to a send within 5 s.
const CHAT_TIMEOUT: Duration = Duration::from_millis(4_700);

/// The timeout of opening a session. A client receives the response within 5 s.
const SESSION_OPEN_TIMEOUT: Duration = Duration::from_millis(4_500);

/// The timeout of a poll: longer than any ping interval that chat can be configured to. Clients time out long before.
const POLL_TIMEOUT: Duration = Duration::from_secs(1_260);

/// The maximum number of nodes that are tried for one request.
const MAX_ATTEMPTS: usize = 3;

impl Proxy {
    pub(crate) fn new(config: Arc<Config>, in_flight: Arc<InFlight>, upstreams: Upstreams) -> Self {
        let (next_node, recent_failures) = (AtomicUsize::new(0), RecentFailures::default());
        let health = Arc::new(HealthChecks::default());
        let payload = u64::try_from(upstreams.payload_limit).unwrap_or(u64::MAX);
        health.reports.compare_limits(Limits { payload, body: config.body_limit.into() });
        Self(Arc::new(Shared { config, upstreams, in_flight, next_node, recent_failures, health }))
    }

    /// Starts the health checks of chat nodes, which cancel requests and WebSockets of unresponsive nodes. Call it once.
    /// Requires a running runtime.
    pub fn watch_nodes(&self) {
        let Upstreams { key, nodes, accounts, .. } = &self.0.upstreams;
        let (key, nodes, accounts) = (key.clone(), nodes.clone(), accounts.clone());
        let health = Arc::downgrade(&self.0.health);
        tokio::spawn(supervision::restart("node health checks", move || {
            HealthChecks::run(health.clone(), key.clone(), Some(accounts.clone()), nodes.clone())
        }));
    }

    /// Compares the Redis of each service with the one of this gateway, which contains `keys`, and sends no requests to services with another
    /// one. Services of releases without ids are not compared.
    pub fn compare_redis(&self, keys: watch::Receiver<Option<RedisKeys>>) {
        self.0.health.reports.compare_redis(keys);
    }

    /// The proxy for the calling worker.
    pub fn worker(&self) -> ProxyWorker {
        ProxyWorker(Rc::new(Worker { shared: self.0.clone(), upstream: Upstream::new() }))
    }

    /// Whether a listed chat node accepts new sessions.
    pub fn has_nodes(&self) -> bool {
        self.0.upstreams.nodes.borrow().has_open()
    }
}

impl ProxyWorker {
    /// Mounts the routes of other processes, except login and registration.
    pub fn routes(&self, service: &mut web::ServiceConfig) {
        service.service(self.to_accounts("/user/{rest:.*}"));
        for path in ["/rooms", "/rooms/{rest:.*}", "/presence/{rest:.*}"] {
            let to_chat = self.0.clone();
            service.service(
                web::resource(path)
                    .to(move |request, payload| to_chat.clone().respond(request, payload, Worker::chat)),
            );
        }
        let to_sockets = self.0.clone();
        service.service(
            web::resource(SOCKETS)
                .to(move |request, payload| to_sockets.clone().respond(request, payload, Worker::sockets)),
        );
    }

    /// `POST /user/login`, for the gateway to wrap in its rate limit.
    pub fn login(&self) -> Resource {
        self.to_accounts("/user/login")
    }

    /// `POST /user/register`, for the gateway to wrap in its rate limit.
    pub fn registration(&self) -> Resource {
        self.to_accounts("/user/register")
    }

    fn to_accounts(&self, path: &str) -> Resource {
        let to_accounts = self.0.clone();
        web::resource(path)
            .to(move |request, payload| to_accounts.clone().respond(request, payload, Worker::accounts))
    }
}

impl Worker {
    /// The response of `service`, or the refusal for its error. A draining process closes connections after the response.
    async fn respond(
        self: Rc<Self>,
        request: HttpRequest,
        payload: web::Payload,
        service: impl AsyncFn(&Self, &HttpRequest, web::Payload, RequestGuard) -> Result<HttpResponse, Error>,
    ) -> HttpResponse {
        // The middleware has counted the request since it was read.
        let guard = request.extensions_mut().remove::<RequestGuard>().unwrap_or_default();
        let mut response = match service(&self, &request, payload, guard).await {
            Ok(response) => response,
            Err(error) => {
                metric::record_refusal(error);
                error.error_response()
            }
        };
        let is_refused_upgrade = is_upgrade(&request) && response.status().as_u16() != 101;
        if is_refused_upgrade || (self.shared.in_flight.is_draining() && !is_upgrade(&request)) {
            response.head_mut().set_connection_type(ConnectionType::Close);
        }
        response
    }

    async fn accounts(
        &self,
        request: &HttpRequest,
        payload: web::Payload,
        guard: RequestGuard,
    ) -> Result<HttpResponse, Error> {
        let limit = usize::try_from(self.shared.config.body_limit).unwrap_or(usize::MAX);
        let outgoing = self.outgoing(request, payload, limit).await?;
        let accounts = &self.shared.upstreams.accounts;
        if self.shared.health.is_another_program(Role::Accounts, accounts) {
            // Another program gets no passwords.
            return Err(Error::Unavailable);
        }
        let response = self.send(&outgoing, [accounts.clone()], ACCOUNTS_TIMEOUT, guard).await;
        // Login is not possible, as when accounts is down. Clients receive the same status in both cases.
        response.map_err(|error| if error == Error::UpstreamTimeout { Error::Unavailable } else { error })
    }

    async fn chat(
        &self,
        request: &HttpRequest,
        payload: web::Payload,
        guard: RequestGuard,
    ) -> Result<HttpResponse, Error> {
        let limit = usize::try_from(self.shared.config.body_limit).unwrap_or(usize::MAX);
        let outgoing = self.outgoing(request, payload, limit).await?;
        let response = self.send(&outgoing, self.candidates(request, false), CHAT_TIMEOUT, guard).await;
        // The node may have applied the change, so the request is not retried.
        response.map_err(|error| match error {
            Error::UpstreamTimeout if !outgoing.is_repeatable() => Error::UnknownOutcome,
            error => error,
        })
    }

    async fn sockets(
        &self,
        request: &HttpRequest,
        payload: web::Payload,
        guard: RequestGuard,
    ) -> Result<HttpResponse, Error> {
        let ids = session_ids(request.query_string());
        let session = session::session(&ids);
        let (candidates, within) = match &session {
            // A draining process accepts no new sockets. An upgrade of a session opens one as well.
            _ if self.shared.in_flight.is_draining() && is_upgrade(request) => {
                return Err(Error::Unavailable);
            }
            Session::New if self.shared.in_flight.is_draining() => return Err(Error::Unavailable),
            Session::New => (self.candidates(request, true), SESSION_OPEN_TIMEOUT),
            Session::On(name) => match self.node(name).await {
                Some(node) if request.method() == Method::GET => (vec![node], POLL_TIMEOUT),
                Some(node) => (vec![node], CHAT_TIMEOUT),
                None => return Ok(session_unknown(request)),
            },
            Session::Malformed => return Ok(session_unknown(request)),
        };
        if is_upgrade(request) {
            let outgoing = self.rewrite(request, Bytes::new())?;
            return handshake::join(self, request, payload, outgoing, candidates).await;
        }
        if request.method() == Method::GET && body::declared_length(request.headers()).is_some() {
            return Err(Error::UnexpectedBody);
        }
        let mut outgoing = self.outgoing(request, payload, self.shared.upstreams.payload_limit).await?;
        if session != Session::New
            && request.method() == Method::GET
            && let Some(limit) = self.shared.in_flight.poll_limit()
        {
            outgoing.limit_poll(limit);
        }
        self.send(&outgoing, candidates, within, guard).await
    }
}

/// Whether the request is a WebSocket handshake. The middleware refuses or removes all other upgrades.
fn is_upgrade(request: &HttpRequest) -> bool {
    request.headers().contains_key(header::UPGRADE)
}
