//! The middleware that every request passes: the checks in their order, then identity, then the service. The order is the
//! contract: nothing is looked up for a request that is not well-formed, and no handler sees one that may not pass.
//! Wrapped around the app by the binary; calls every other module of this crate.

mod examine;

use std::{
    future::{Ready, ready},
    rc::Rc,
    time::{Duration, Instant},
};

use actix_web::{
    Error as ActixError, HttpResponse,
    body::{EitherBody, MessageBody},
    dev::{Service, ServiceRequest, ServiceResponse, Transform, forward_ready},
    error::InternalError,
    http::{ConnectionType, Method, StatusCode},
};
use futures_util::future::LocalBoxFuture;
use proto::identity::OPENED;
use tokio::time::sleep;

use crate::{
    Gateway, answer, body,
    body::Overrun,
    cors::{self, Guest},
    error::Error,
    hangup::Hangup,
    identify::names_session,
    metric,
    origin::Source,
    routes::{Route, SOCKETS, Upstream},
    upgrade::Offer,
};

/// How long a poll whose client has closed its sending side may still bring what is there already, and how long the answer to one that is
/// given up then waits.
const GIVING_UP: Duration = Duration::from_millis(100);

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
    offer: Offer,
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
        let open = request.conn_data::<Hangup>().map(Hangup::begin);
        Box::pin(async move {
            let started = Instant::now();
            let guest = Guest::of(request.headers(), gateway.allowed());
            let entry = match gateway.admit(&mut request).await {
                Ok(entry) => entry,
                Err(error) => {
                    let mut answer = refusal(&request, guest.as_ref(), error);
                    cors::complete(guest.as_ref(), gateway.allowed(), answer.headers_mut());
                    let answer = request.into_response(answer).map_into_right_body();
                    return Ok(answer::under_way(answer, open));
                }
            };
            let (overrun, offer) = (gateway.bound(&mut request, entry.route), entry.offer);
            let hangup = request.conn_data::<Hangup>().cloned();
            let waits = entry.waits(&request);
            let answered = unless_hung_up(service.call(request), hangup.clone().filter(|_| waits)).await;
            let answer = match answered {
                Ok(answer) => answer,
                Err(error) => return Err(answer::failed(error)),
            };
            let mut answer = match overrun.take() {
                Some(error) => answer.into_response(answer::refused(error)).map_into_right_body(),
                None => gateway.answers.count(answer::passed(answer)),
            };
            if let Some(opened) = answer.headers_mut().remove(OPENED).next() {
                gateway.supersede(&opened, hangup.as_ref()).await;
            }
            cors::complete(guest.as_ref(), gateway.allowed(), answer.headers_mut());
            if answer.status() == StatusCode::SWITCHING_PROTOCOLS
                && let Some(hangup) = &hangup
            {
                hangup.upgrade();
            }
            if offer == (Offer::Ignored { closes: true }) {
                answer.response_mut().head_mut().set_connection_type(ConnectionType::Close);
            }
            metric::answered(entry.route, entry.method, answer.status(), started);
            Ok(answer::under_way(answer, open))
        })
    }
}

/// The outcome of `answer` to a poll. When the client has closed its sending side, the poll is answered by a packet that means nothing
/// (`6`), so that a client which only half-closes its connections polls again; nothing is lost if it is gone.
async fn unless_hung_up<T>(
    answer: impl Future<Output = Result<T, ActixError>>,
    hangup: Option<Hangup>,
) -> Result<T, ActixError> {
    let Some(hangup) = hangup else { return answer.await };
    {
        let answer = std::pin::pin!(answer);
        let given_up = async {
            hangup.noted().await;
            sleep(GIVING_UP).await;
        };
        tokio::select! {
            biased;
            answer = answer => return answer,
            () = given_up => {}
        }
    }
    // The service, perhaps in another process, learns that the poll was given up before the client can ask again.
    sleep(GIVING_UP).await;
    let answer = HttpResponse::Ok().content_type("text/plain; charset=UTF-8").force_close().body("6");
    Err(InternalError::from_response("the client has closed its sending side", answer).into())
}

impl Entry {
    /// Whether the request is a poll, which may wait for events.
    fn waits(&self, request: &ServiceRequest) -> bool {
        let polls = self.route.upstream == Upstream::Sockets && self.offer != Offer::WebSocket;
        polls && *request.method() == Method::GET && names_session(request.query_string())
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

#[cfg(test)]
mod tests;
