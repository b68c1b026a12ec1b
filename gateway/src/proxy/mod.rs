//! The way to services in other processes: accounts, and whichever chat node a request belongs to. What the door has let in is
//! written anew ([`outgoing`]) and asked of a service ([`upstream`]); its answer comes back without what is the connection's own
//! ([`incoming`]). A WebSocket, once the node has agreed to it, is two connections joined ([`splice`]).

mod backend;
mod choice;
mod doubts;
mod handshake;
mod headers;
mod incoming;
mod nodes;
mod outgoing;
mod pulse;
mod refusals;
mod splice;
mod traffic;
mod upstream;

use std::{
    rc::Rc,
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use actix_web::{
    HttpRequest, HttpResponse, Resource, ResponseError,
    http::{ConnectionType, Method, header},
    web,
};
use bytes::Bytes;
use proto::signature::Key;
use tokio::sync::{Notify, watch};

pub use backend::{Backend, NotABackend};
pub use nodes::{Node, Nodes};
pub use splice::on_connect;

use crate::{answer::session_unknown, body, config::Config, error::Error, metric, routes::SOCKETS};
use doubts::Doubts;
use nodes::Session;
use outgoing::Outgoing;
use pulse::Pulse;
use traffic::Traffic;
use upstream::{Upstream, is_settled};

/// What is behind a gateway whose services are other processes.
#[derive(Debug, Clone)]
pub struct Upstreams {
    /// The accounts service.
    pub accounts: Backend,
    /// The chat nodes that live, kept up to date by somebody else.
    pub nodes: watch::Receiver<Nodes>,
    /// Tells them that somebody has named a node that is not there: it may be new.
    pub look: Arc<Notify>,
    /// The key that the services believe.
    pub key: Key,
    /// The largest body of a polling request, in bytes.
    pub payload_limit: usize,
}

/// The proxy of one process: cheap to clone, one for all workers.
#[derive(Clone)]
pub struct Proxy(Arc<Shared>);

/// The proxy on one worker, which has connections of its own to the services.
#[derive(Clone)]
pub struct ProxyWorker(Rc<Worker>);

struct Shared {
    config: Arc<Config>,
    upstreams: Upstreams,
    traffic: Traffic,
    /// Whose turn it is to get the next session.
    turn: AtomicUsize,
    doubts: Doubts,
    pulse: Arc<Pulse>,
}

struct Worker {
    shared: Arc<Shared>,
    upstream: Upstream,
}

/// How long accounts may take to answer: its own deadlines are shorter.
const ANSWER: Duration = Duration::from_secs(10);

/// How long a chat node may take to answer: a send is answered within 5 s.
const SEND: Duration = Duration::from_millis(4_700);

/// How long a node may take to open a session: whoever waits for one is answered within 5 s.
const OPEN: Duration = Duration::from_millis(4_500);

/// How long a poll may wait: longer than any interval of pings that chat can be told. Who asks gives up long before.
const POLL: Duration = Duration::from_secs(1_260);

/// How long the first of several nodes may take.
const FIRST: Duration = Duration::from_millis(1_500);

/// How many nodes are tried for a request that any node can answer.
const TRIES: usize = 3;

impl Proxy {
    pub(crate) fn new(config: Arc<Config>, upstreams: Upstreams) -> Self {
        let (traffic, turn, doubts) = (Traffic::new(), AtomicUsize::new(0), Doubts::default());
        let pulse = Arc::new(Pulse::default());
        Self(Arc::new(Shared { config, upstreams, traffic, turn, doubts, pulse }))
    }

    /// Begins to ask the chat nodes whether they answer, and ends what waits for one that does not. Call it once; needs a running
    /// runtime.
    pub fn watch_nodes(&self) {
        let Upstreams { key, nodes, accounts, .. } = &self.0.upstreams;
        let (key, nodes, accounts) = (key.clone(), nodes.clone(), accounts.clone());
        let pulse = Arc::downgrade(&self.0.pulse);
        tokio::spawn(supervision::restart("node pulse", move || {
            Pulse::follow(pulse.clone(), key.clone(), Some(accounts.clone()), nodes.clone())
        }));
    }

    /// The proxy for the worker that calls.
    pub fn worker(&self) -> ProxyWorker {
        ProxyWorker(Rc::new(Worker { shared: self.0.clone(), upstream: Upstream::new() }))
    }

    /// Whether a chat node is known that takes sessions.
    pub fn has_nodes(&self) -> bool {
        self.0.upstreams.nodes.borrow().has_open()
    }

    /// Takes no new sockets, waits for requests under way, then ends the WebSockets, a few at a time. Takes 15 s at most.
    pub async fn drain(&self) {
        self.0.traffic.drain().await;
    }
}

impl ProxyWorker {
    /// Mounts what other processes answer, but for login and registration.
    pub fn routes(&self, service: &mut web::ServiceConfig) {
        service.service(self.to_accounts("/user/{rest:.*}"));
        for path in ["/rooms", "/rooms/{rest:.*}", "/presence/{rest:.*}"] {
            let to_chat = self.0.clone();
            service.service(
                web::resource(path)
                    .to(move |request, payload| to_chat.clone().answer(request, payload, Worker::chat)),
            );
        }
        let to_sockets = self.0.clone();
        service.service(
            web::resource(SOCKETS)
                .to(move |request, payload| to_sockets.clone().answer(request, payload, Worker::sockets)),
        );
    }

    /// `POST /user/login`, for the gateway to put behind its limit.
    pub fn login(&self) -> Resource {
        self.to_accounts("/user/login")
    }

    /// `POST /user/register`, likewise.
    pub fn registration(&self) -> Resource {
        self.to_accounts("/user/register")
    }

    fn to_accounts(&self, path: &str) -> Resource {
        let to_accounts = self.0.clone();
        web::resource(path)
            .to(move |request, payload| to_accounts.clone().answer(request, payload, Worker::accounts))
    }
}

impl Worker {
    /// The answer that `service` gets, or the refusal that says why there is none. A process that ends keeps no connections.
    async fn answer(
        self: Rc<Self>,
        request: HttpRequest,
        payload: web::Payload,
        service: impl AsyncFn(&Self, &HttpRequest, web::Payload) -> Result<HttpResponse, Error>,
    ) -> HttpResponse {
        let mut answer = match service(&self, &request, payload).await {
            Ok(answer) => answer,
            Err(error) => {
                metric::refused(error);
                error.error_response()
            }
        };
        let refused_upgrade = is_upgrade(&request) && answer.status().as_u16() != 101;
        if refused_upgrade || (self.shared.traffic.is_draining() && !is_upgrade(&request)) {
            answer.head_mut().set_connection_type(ConnectionType::Close);
        }
        answer
    }

    async fn accounts(&self, request: &HttpRequest, payload: web::Payload) -> Result<HttpResponse, Error> {
        let limit = usize::try_from(self.shared.config.body_limit).unwrap_or(usize::MAX);
        let outgoing = self.outgoing(request, payload, limit).await?;
        let answer = self.ask(&outgoing, [self.shared.upstreams.accounts.clone()], ANSWER).await;
        // Nobody can log in, as when it is away: no client should tell the two apart.
        answer.map_err(|error| if error == Error::Late { Error::Away } else { error })
    }

    async fn chat(&self, request: &HttpRequest, payload: web::Payload) -> Result<HttpResponse, Error> {
        let limit = usize::try_from(self.shared.config.body_limit).unwrap_or(usize::MAX);
        let outgoing = self.outgoing(request, payload, limit).await?;
        let answer = self.ask(&outgoing, self.any_node(request), SEND).await;
        // The node may have done it: no other is asked.
        answer.map_err(|error| match error {
            Error::Late if !outgoing.is_repeatable() => Error::Unknown,
            error => error,
        })
    }

    async fn sockets(&self, request: &HttpRequest, payload: web::Payload) -> Result<HttpResponse, Error> {
        let pairs = web::Query::<Vec<(String, String)>>::from_query(request.query_string());
        let pairs = pairs.map(web::Query::into_inner).unwrap_or_default();
        let session = nodes::session(&pairs);
        let (candidates, within) = match &session {
            // A draining process wants no new sockets, and one on another way is new to it too.
            _ if self.shared.traffic.is_draining() && is_upgrade(request) => return Err(Error::Away),
            Session::Unnamed if self.shared.traffic.is_draining() => return Err(Error::Away),
            Session::Unnamed => (self.any_node(request), OPEN),
            Session::On(name) => match self.node(name).await {
                Some(node) if request.method() == Method::GET => (vec![node], POLL),
                Some(node) => (vec![node], SEND),
                None => return Ok(session_unknown(request)),
            },
            Session::Malformed => return Ok(session_unknown(request)),
        };
        if is_upgrade(request) {
            let outgoing = self.written_anew(request, Bytes::new())?;
            return handshake::join(self, request, payload, outgoing, candidates).await;
        }
        if request.method() == Method::GET && body::announced(request.headers()).is_some() {
            return Err(Error::UnexpectedBody);
        }
        let outgoing = self.outgoing(request, payload, self.shared.upstreams.payload_limit).await?;
        self.ask(&outgoing, candidates, within).await
    }

    /// The request as it goes on, once its body is there.
    async fn outgoing(
        &self,
        request: &HttpRequest,
        payload: web::Payload,
        limit: usize,
    ) -> Result<Outgoing, Error> {
        let config = &self.shared.config;
        let within = Duration::from_secs(config.body_timeout.into());
        let body = match body::announced(request.headers()) {
            Some(_) => body::read(payload, limit, within).await?,
            None => Bytes::new(),
        };
        self.written_anew(request, body)
    }

    fn written_anew(&self, request: &HttpRequest, body: Bytes) -> Result<Outgoing, Error> {
        Outgoing::new(request, body, &self.shared.upstreams.key)
    }

    /// The answer of the first of `candidates` that can be reached.
    async fn ask(
        &self,
        outgoing: &Outgoing,
        candidates: impl IntoIterator<Item = Backend>,
        within: Duration,
    ) -> Result<HttpResponse, Error> {
        let mut candidates = candidates.into_iter().peekable();
        let mut outcome = Err(Error::Away);
        while let Some(backend) = candidates.next() {
            // What can be asked again is not waited for to the end while there is somebody else to ask.
            let is_last = candidates.peek().is_none() || !outgoing.is_repeatable();
            let within = if is_last { within } else { within.min(FIRST) };
            let under_way = self.shared.traffic.request();
            let answer = tokio::select! {
                answer = self.upstream.ask(outgoing, &backend, within) => answer,
                () = self.shared.pulse.silence(&backend) => Err(Error::Late),
            };
            outcome = match answer {
                answer if !is_settled(&answer, is_last) => answer.and(Err(Error::Away)),
                Ok(answer) => match incoming::relayed(answer, under_way, within).await {
                    Err(Error::Garbled) if !is_last => Err(Error::Away),
                    relayed => return relayed,
                },
                Err(error) => return Err(error),
            };
            self.shared.doubts.note(&backend);
        }
        outcome
    }
}

/// The door has let no other upgrade in than a WebSocket's.
fn is_upgrade(request: &HttpRequest) -> bool {
    request.headers().contains_key(header::UPGRADE)
}
