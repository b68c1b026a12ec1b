//! The middleware that every request passes: the checks in their order, then identity, then the service. The order is the
//! contract: nothing is looked up for a request that is not well-formed, and no handler sees one that may not pass.
//! Wrapped around the app by the binary; calls every other module of this crate.

use std::{
    future::{Ready, ready},
    rc::Rc,
    time::{Duration, Instant},
};

use actix_web::{
    Error as ActixError, HttpResponse,
    body::{EitherBody, MessageBody},
    dev::{Service, ServiceRequest, ServiceResponse, Transform, forward_ready},
    http::{ConnectionType, Method, header::HOST},
};
use futures_util::future::LocalBoxFuture;
use tracing::field;

use crate::{
    Gateway, answer, body,
    body::{Body, Overrun},
    client::{self, Client},
    cors::{self, Guest},
    error::Error,
    head, metric,
    origin::{self, Need, Origin, Source},
    path,
    routes::{self, Route, SOCKETS, Upstream},
    upgrade,
};

/// The gateway as actix middleware.
pub struct Door {
    gateway: Gateway,
}

/// The gateway around one worker's services.
pub struct DoorService<S> {
    gateway: Rc<Gateway>,
    service: Rc<S>,
}

/// What the checks found out about a request that may go on.
struct Entry {
    route: &'static Route,
    method: &'static str,
    source: Source,
    /// Whether the body must be looked at before the request may go on, see [`body::settle`].
    is_body_doubtful: bool,
}

impl Door {
    pub(crate) fn new(gateway: Gateway) -> Self {
        Self { gateway }
    }
}

impl<S, B> Transform<S, ServiceRequest> for Door
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = ActixError> + 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = ActixError;
    type Transform = DoorService<S>;
    type InitError = ();
    type Future = Ready<Result<DoorService<S>, ()>>;

    fn new_transform(&self, service: S) -> Self::Future {
        ready(Ok(DoorService { gateway: Rc::new(self.gateway.clone()), service: Rc::new(service) }))
    }
}

impl<S, B> Service<ServiceRequest> for DoorService<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = ActixError> + 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = ActixError;
    type Future = LocalBoxFuture<'static, Result<Self::Response, ActixError>>;

    forward_ready!(service);

    fn call(&self, mut request: ServiceRequest) -> Self::Future {
        let (gateway, service) = (Rc::clone(&self.gateway), Rc::clone(&self.service));
        Box::pin(async move {
            let started = Instant::now();
            let guest = Guest::of(request.headers(), &gateway.config.allow_origin);
            let entry = match gateway.admit(&mut request).await {
                Ok(entry) => entry,
                Err(error) => {
                    let mut answer = refusal(&request, guest.as_ref(), error);
                    cors::complete(guest.as_ref(), &gateway.config.allow_origin, answer.headers_mut());
                    return Ok(request.into_response(answer).map_into_right_body());
                }
            };
            let overrun = gateway.bound(&mut request, entry.route);
            let answer = match service.call(request).await {
                Ok(answer) => answer,
                Err(error) => return Err(answer::failed(error)),
            };
            let mut answer = match overrun.take() {
                Some(error) => answer.into_response(answer::refused(error)).map_into_right_body(),
                None => gateway.answers.count(answer::passed(answer)),
            };
            cors::complete(guest.as_ref(), &gateway.config.allow_origin, answer.headers_mut());
            metric::answered(entry.route, entry.method, answer.status(), started);
            Ok(answer)
        })
    }
}

/// The answer to a request that may not pass; a listed origin's question whether it might is no refusal.
fn refusal(request: &ServiceRequest, guest: Option<&Guest>, error: Error) -> HttpResponse {
    let methods = match error {
        Error::Method(methods) if guest.is_some() => methods,
        _ => "",
    };
    // No session has an id that long.
    let query = request.query_string();
    let names_session = query.split('&').any(|pair| pair.starts_with("sid="));
    if error == Error::TargetTooLong && request.path() == SOCKETS && names_session {
        metric::refused(error);
        let mut answer = answer::session_unknown(request.request());
        answer.head_mut().set_connection_type(ConnectionType::Close);
        return answer;
    }
    let preflight = (!methods.is_empty()).then(|| cors::preflight(request.request(), methods)).flatten();
    preflight.unwrap_or_else(|| answer::refused(error))
}

impl Gateway {
    /// All checks in their order, then identity.
    async fn admit(&self, request: &mut ServiceRequest) -> Result<Entry, Error> {
        let entry = self.examine(request)?;
        self.identify(request, entry.route, entry.source).await?;
        if entry.is_body_doubtful {
            body::settle(request, Duration::from_secs(self.config.body_timeout.into())).await?;
        }
        Ok(entry)
    }

    /// Every check that needs nothing but the request, and the removal of what a client must not say.
    fn examine(&self, request: &mut ServiceRequest) -> Result<Entry, Error> {
        if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
            return Err(Error::Method(""));
        }
        head::check(request.head())?;
        let client = Client::of(request.peer_addr(), request.headers(), &self.config.trusted_proxy);
        client::strip(request.headers_mut(), client.proxied);
        let head = request.head();
        let own = Origin::own(client.https, &head.uri, &head.headers);
        if own.is_none() && head.headers.contains_key(HOST) {
            return Err(Error::Path("the Host header names no host"));
        }
        let segments = path::segments(&head.uri, own.as_ref())?;
        let handshake = upgrade::is_handshake(&head.method, head.uri.path(), head.version, &head.headers)?;
        let (route, method) = routes::find(head.method.as_str(), &segments)?;
        let source = match need(&head.method, route, handshake) {
            Some(need) => origin::check(&head.headers, own.as_ref(), &self.config.allow_origin, need)
                .inspect_err(|_| tracing::debug!(own = own.as_ref().map(field::display), "origin refused"))?,
            None => Source::Own,
        };
        let is_body_doubtful = match route.upstream {
            Upstream::Sockets => false,
            _ => body::check(&head.method, &head.headers, self.body_limit())? == Body::Doubtful,
        };
        Ok(Entry { route, method, source, is_body_doubtful })
    }

    /// Bounds the body that the service is going to read. Sockets bound their own.
    fn bound(&self, request: &mut ServiceRequest, route: &Route) -> Overrun {
        if route.upstream == Upstream::Sockets {
            return Overrun::default();
        }
        body::bound(request, self.body_limit(), Duration::from_secs(self.config.body_timeout.into()))
    }

    fn body_limit(&self) -> usize {
        usize::try_from(self.config.body_limit).unwrap_or(usize::MAX)
    }
}

/// How sure of its origin a request must be; none when it only reads.
fn need(method: &Method, route: &Route, handshake: bool) -> Option<Need> {
    let changes = matches!(*method, Method::POST | Method::PUT | Method::PATCH | Method::DELETE);
    match route.upstream {
        _ if handshake || changes => Some(Need::Named),
        Upstream::Sockets => Some(Need::NotForeign),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
