//! The transports: a session's packets over HTTP. [`serve`] handles every request to the server's path: it
//! checks the request as the reference implementation does, and opens or finds a session. [`polling`] and
//! [`ws`] are the two transports, [`cors`] handles cross-origin requests, and [`guard`], [`guarded_stream`],
//! [`frame_splitter`], [`fragments`] and [`response_body`] belong to the WebSocket transport.

mod cors;
mod fragments;
mod frame_splitter;
pub(crate) mod guard;
pub(crate) mod guarded_stream;
mod polling;
mod response_body;
mod ws;

use std::rc::Rc;

use actix_web::{
    HttpRequest, HttpResponse, HttpResponseBuilder,
    http::{Method, StatusCode, header},
    web,
};
use serde::Serialize;

use crate::{
    engine::handshake::{HandshakeError, HandshakeRequest, Query, RequestKind, Transport},
    request::RequestHead,
    session::{
        Admitted,
        registry::LookupError,
        worker::{HandlerFactory, Worker},
    },
};

#[derive(Serialize)]
struct ErrorBody<'a> {
    code: u8,
    message: &'a str,
}

/// Handles one request to the server's path.
pub(crate) async fn serve<H: HandlerFactory>(
    worker: Rc<Worker<H>>,
    request: HttpRequest,
    payload: web::Payload,
) -> HttpResponse {
    let mut response = match cors::preflight(&worker.config.cors, &request) {
        Some(response) => response,
        None => respond(&worker, &request, payload).await,
    };
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, header::HeaderValue::from_static("nosniff"));
    for (name, value) in cors::headers(&worker.config.cors, &request) {
        headers.insert(name, value);
    }
    response
}

async fn respond<H: HandlerFactory>(
    worker: &Rc<Worker<H>>,
    request: &HttpRequest,
    payload: web::Payload,
) -> HttpResponse {
    let is_upgrade = is_upgrade(request);
    let pairs = web::Query::<Vec<(String, String)>>::from_query(request.query_string());
    let query = Query::from_pairs(pairs.map(web::Query::into_inner).unwrap_or_default());
    let is_base64 = query.is_base64();
    let kind = RequestKind { is_get: request.method() == Method::GET, is_upgrade };
    match query.check(kind, &worker.config) {
        Ok(HandshakeRequest::Open(transport)) => open(worker, request, payload, transport, is_base64).await,
        Ok(HandshakeRequest::Use { sid, transport, is_current_version }) => {
            let owner = worker.factory.owner(request);
            let session = match worker.registry.find(&sid, owner.as_deref()) {
                Ok(session) => session,
                Err(LookupError::NotFound) => {
                    return refuse_handshake(HandshakeError::SessionUnknown, is_upgrade);
                }
                Err(LookupError::OtherOwner) => {
                    return refuse_handshake(HandshakeError::Forbidden, is_upgrade);
                }
            };
            let is_probe = transport == Transport::WebSocket;
            match *request.method() {
                _ if !is_current_version || is_probe != is_upgrade => {
                    refuse_handshake(HandshakeError::BadRequest, is_upgrade)
                }
                Method::GET if is_probe => ws::probe(worker, request, payload, session, is_base64).await,
                Method::GET => {
                    let limit = polling::limit(request, &worker.config);
                    polling::get(session, RequestHead::of(request, &worker.config), limit).await
                }
                Method::POST => polling::post(worker, request, session, payload).await,
                _ => refuse_handshake(HandshakeError::BadRequest, is_upgrade),
            }
        }
        Err(error) => refuse_handshake(error, is_upgrade),
    }
}

async fn open<H: HandlerFactory>(
    worker: &Rc<Worker<H>>,
    request: &HttpRequest,
    payload: web::Payload,
    transport: Transport,
    is_base64: bool,
) -> HttpResponse {
    let admission = match worker.factory.admit(request) {
        Ok(admission) => admission,
        Err(refusal) => {
            let is_upgrade = transport == Transport::WebSocket;
            return refuse(HandshakeError::Forbidden, &refusal.message, is_upgrade);
        }
    };
    let Ok(sid) = worker.new_sid() else {
        let body = ErrorBody { code: HandshakeError::BadRequest.code(), message: "Unavailable, try again" };
        return HttpResponse::ServiceUnavailable().force_close().json(body);
    };
    let head = RequestHead::of(request, &worker.config);
    let admitted = Admitted { sid, admission, owner: worker.factory.owner(request), head };
    let mut response = match transport {
        Transport::Polling => polling::open(worker, admitted).await,
        Transport::WebSocket => match ws::open(worker, request, payload, admitted, is_base64) {
            Ok(response) => response,
            Err(error) => return refuse_handshake(error, true),
        },
    };
    for (name, value) in worker.factory.headers(request) {
        response.headers_mut().append(name, value);
    }
    response
}

fn is_upgrade(request: &HttpRequest) -> bool {
    let upgrade = request.headers().get(header::UPGRADE).and_then(|value| value.to_str().ok());
    upgrade.is_some_and(|value| value.eq_ignore_ascii_case("websocket"))
}

fn refuse_handshake(error: HandshakeError, is_upgrade: bool) -> HttpResponse {
    let mut response = refuse(error, &error.to_string(), is_upgrade);
    if error == HandshakeError::WebSocketVersion {
        // RFC 6455 §4.4, RFC 9110 §15.5.22.
        *response.status_mut() = StatusCode::UPGRADE_REQUIRED;
        let headers = response.headers_mut();
        headers.insert(header::SEC_WEBSOCKET_VERSION, header::HeaderValue::from_static("13"));
        headers.insert(header::UPGRADE, header::HeaderValue::from_static("websocket"));
    }
    response
}

/// The response for `error` with another message: JSON; for a WebSocket request the plain message with status
/// 400, and the connection is closed.
fn refuse(error: HandshakeError, message: &str, is_upgrade: bool) -> HttpResponse {
    if is_upgrade {
        let mut response: HttpResponseBuilder = HttpResponse::BadRequest();
        return response.force_close().content_type("text/html").body(message.to_owned());
    }
    let status = match error {
        HandshakeError::Forbidden => StatusCode::FORBIDDEN,
        _ => StatusCode::BAD_REQUEST,
    };
    HttpResponse::build(status).json(ErrorBody { code: error.code(), message })
}
