//! The middleware of all requests: the checks in order, then authentication, then the service. The order is a contract: no
//! lookup happens for a malformed request, and no handler receives a refused request. The binary wraps the app in it. Calls
//! every other module of this crate.

mod checks;

use std::{
    future::{Ready, ready},
    rc::Rc,
    time::{Duration, Instant},
};

use actix_web::{
    Error as ActixError, HttpMessage, HttpResponse,
    body::{EitherBody, MessageBody},
    dev::{Service, ServiceRequest, ServiceResponse, Transform, forward_ready},
    error::InternalError,
    http::{ConnectionType, Method, StatusCode},
};
use futures_util::future::LocalBoxFuture;
use tokio::time::sleep;

use crate::{
    Gateway,
    body::{self, Body},
    client::Client,
    cors::{self, AllowedOrigin},
    error::Error,
    hangup::Hangup,
    metric,
    origin::Source,
    response,
    routes::{Route, SOCKETS, Upstream},
    session_id::names_session,
    upgrade::Offer,
};

/// How long a poll may still complete after its client has closed the sending side. Its empty response is then delayed by
/// the same time.
const HANGUP_GRACE: Duration = Duration::from_millis(100);

/// The gateway as actix middleware.
pub struct Middleware {
    gateway: Gateway,
}

/// The middleware around the services of one worker.
pub struct MiddlewareService<S> {
    gateway: Rc<Gateway>,
    service: Rc<S>,
}

/// The result of the checks of an accepted request.
pub(crate) struct Admitted {
    pub(crate) route: &'static Route,
    method: &'static str,
    pub(crate) source: Source,
    offer: Offer,
    pub(crate) client: Client,
    body: Body,
}

impl Middleware {
    pub(crate) fn new(gateway: Gateway) -> Self {
        Self { gateway }
    }
}

impl<S, B> Transform<S, ServiceRequest> for Middleware
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = ActixError> + 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = ActixError;
    type Transform = MiddlewareService<S>;
    type InitError = ();
    type Future = Ready<Result<MiddlewareService<S>, ()>>;

    fn new_transform(&self, service: S) -> Self::Future {
        ready(Ok(MiddlewareService { gateway: Rc::new(self.gateway.clone()), service: Rc::new(service) }))
    }
}

impl<S, B> Service<ServiceRequest> for MiddlewareService<S>
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
        request.extensions_mut().insert(gateway.in_flight.request());
        Box::pin(async move {
            let started = Instant::now();
            let origin = AllowedOrigin::of(request.headers(), gateway.allowed());
            let admitted = match gateway.admit(&mut request).await {
                Ok(admitted) => admitted,
                Err(error) => {
                    let mut response = refusal(&request, origin.as_ref(), error);
                    cors::add_headers(origin.as_ref(), gateway.allowed(), response.headers_mut());
                    let response = request.into_response(response).map_into_right_body();
                    return Ok(response);
                }
            };
            let offer = admitted.offer;
            let hangup = request.conn_data::<Hangup>().cloned();
            let is_poll = admitted.is_poll(&request);
            let outcome = or_hangup(service.call(request), hangup.clone().filter(|_| is_poll)).await;
            let response = match outcome {
                Ok(response) => response,
                Err(error) => return Err(response::failure(error)),
            };
            let response = response::finish(response, offer == Offer::WebSocket);
            let mut response = gateway.response_budget.count(response, &gateway.warnings);
            cors::add_headers(origin.as_ref(), gateway.allowed(), response.headers_mut());
            if response.status() == StatusCode::SWITCHING_PROTOCOLS
                && let Some(hangup) = &hangup
            {
                hangup.upgrade();
            }
            if offer == (Offer::Ignored { closes: true }) {
                response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
            }
            metric::record_request(admitted.route, admitted.method, response.status(), started);
            Ok(response)
        })
    }
}

/// The outcome of `response` to a poll. When the client has closed its sending side, the response is a NOOP packet (`6`),
/// so that a client which only half-closes its connections polls again. Nothing is lost if the client is gone.
async fn or_hangup<T>(
    response: impl Future<Output = Result<T, ActixError>>,
    hangup: Option<Hangup>,
) -> Result<T, ActixError> {
    let Some(hangup) = hangup else { return response.await };
    {
        let response = std::pin::pin!(response);
        let hung_up = async {
            hangup.noted().await;
            sleep(HANGUP_GRACE).await;
        };
        tokio::select! {
            biased;
            response = response => return response,
            () = hung_up => {}
        }
    }
    // The service, which may be another process, detects the cancelled poll before the client can poll again.
    sleep(HANGUP_GRACE).await;
    let response = HttpResponse::Ok().content_type("text/plain; charset=UTF-8").force_close().body("6");
    Err(InternalError::from_response("the client has closed its sending side", response).into())
}

impl Admitted {
    /// Whether the request is a poll, which may wait for events.
    fn is_poll(&self, request: &ServiceRequest) -> bool {
        let is_socket_request = self.route.upstream == Upstream::Sockets && self.offer != Offer::WebSocket;
        is_socket_request && *request.method() == Method::GET && names_session(request.query_string())
    }
}

/// The response to a refused request. A preflight of an allowed origin is not refused.
fn refusal(request: &ServiceRequest, origin: Option<&AllowedOrigin>, error: Error) -> HttpResponse {
    let methods = match error {
        Error::Method(methods) if origin.is_some() => methods,
        _ => "",
    };
    // No session has an id of that length.
    let is_named = names_session(request.query_string());
    if error == Error::TargetTooLong && request.path() == SOCKETS && is_named {
        metric::record_refusal(error);
        let mut response = response::session_unknown(request.request());
        response.head_mut().set_connection_type(ConnectionType::Close);
        return response;
    }
    let preflight = (!methods.is_empty()).then(|| cors::preflight(request.request(), methods)).flatten();
    preflight.unwrap_or_else(|| response::refusal(error))
}

impl Gateway {
    /// Runs all checks in order, then authentication. Then it reads the body.
    async fn admit(&self, request: &mut ServiceRequest) -> Result<Admitted, Error> {
        let admitted = self.check(request)?;
        request.extensions_mut().insert(admitted.client);
        self.identify(request, &admitted).await?;
        body::receive(request, admitted.body, self.config.body_bytes(), self.config.body_time()).await?;
        Ok(admitted)
    }
}

#[cfg(test)]
mod tests;
