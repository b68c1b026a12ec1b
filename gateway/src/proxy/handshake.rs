//! Proxies WebSocket handshakes. The gateway validates the client's handshake and sends a canonical one to the node. Only
//! when the node accepts it as RFC 6455 requires are the two connections joined. Until then no bytes of the client are
//! forwarded.

use std::time::Duration;

use actix_http::ws;
use actix_web::{
    HttpRequest, HttpResponse,
    body::BoxBody,
    http::header::{self as own},
    web,
};
use bytes::Bytes;
use cluster::Backend;
use hyper::{
    Response, StatusCode,
    body::Incoming,
    header::{self, HeaderMap},
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

use super::{
    Worker,
    failover::Attempt,
    headers, incoming,
    outgoing::Outgoing,
    splice::{Descriptor, Splice},
    upstream::is_final,
};
use crate::{error::Error, handshake_issue::HandshakeIssue};

/// The timeout of a handshake with a node.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_millis(4_500);

/// Joins the client with the first candidate that responds, or relays the refusal of that candidate.
pub(super) async fn join(
    worker: &Worker,
    request: &HttpRequest,
    payload: web::Payload,
    mut outgoing: Outgoing,
    candidates: Vec<Backend>,
) -> Result<HttpResponse, Error> {
    let key = key(request)?;
    headers::add_handshake(request.headers(), &mut outgoing.headers);
    let socket = worker.shared.in_flight.socket();
    let (response, backend) = first_response(worker, &outgoing, candidates).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return incoming::relay_refusal(response).await;
    }
    if !is_valid_acceptance(response.headers(), &key, &offered(request)) {
        tracing::warn!(%backend, "invalid response of a node to a WebSocket handshake: refused with 502");
        return Err(Error::InvalidResponse);
    }
    let (node, ahead, mut response) = take_connection(response).await?;
    let client = request.conn_data::<Descriptor>().copied();
    let shared = worker.shared.clone();
    let unresponsive = async move { shared.health.unresponsive(&backend).await };
    let splice = Splice::new(payload, node, ahead, client, socket, unresponsive);
    Ok(response.body(BoxBody::new(splice)))
}

/// The key of a valid handshake (RFC 6455 §4.2.1).
fn key(request: &HttpRequest) -> Result<Vec<u8>, Error> {
    let unique = [own::SEC_WEBSOCKET_KEY, own::SEC_WEBSOCKET_VERSION];
    let is_repeated = unique.iter().any(|name| request.headers().get_all(name).count() > 1);
    let is_invalid = ws::verify_handshake(request.head()).is_err();
    match request.headers().get(own::SEC_WEBSOCKET_KEY) {
        Some(key) if !is_repeated && !is_invalid => Ok(key.as_bytes().to_vec()),
        _ => Err(Error::Upgrade(HandshakeIssue::Key)),
    }
}

async fn first_response(
    worker: &Worker,
    outgoing: &Outgoing,
    candidates: Vec<Backend>,
) -> Result<(Response<Incoming>, Backend), Error> {
    let attempt = async |backend: &Backend, within, is_last| {
        let response = worker.upstream.handshake(outgoing, backend, within).await;
        worker.note_refusal(outgoing, backend, &response);
        match is_final(&response, is_last) {
            true => Attempt::Final(response.map(|response| (response, backend.clone()))),
            false => Attempt::Failed(response.err().unwrap_or(Error::Unavailable)),
        }
    };
    worker.first_final(outgoing, candidates, HANDSHAKE_TIMEOUT, attempt).await
}

/// Whether a node's 101 response belongs to the handshake with this key (RFC 6455 §4.1, requirements of the client),
/// without anything that was not offered.
fn is_valid_acceptance(response_headers: &HeaderMap, key: &[u8], offered: &[&str]) -> bool {
    let only = |name| {
        let mut all = response_headers.get_all(name).iter();
        all.next().filter(|_| all.next().is_none()).map(|value| value.as_bytes())
    };
    let is_accepted = only(header::SEC_WEBSOCKET_ACCEPT).is_some_and(|accept| accept == ws::hash_key(key));
    let is_upgraded = only(header::UPGRADE).is_some_and(|to| to.eq_ignore_ascii_case(b"websocket"));
    let chosen = response_headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let mut are_offered =
        chosen.map(|chosen| chosen.to_str().is_ok_and(|chosen| offered.contains(&chosen.trim())));
    is_accepted
        && is_upgraded
        && are_offered.next().unwrap_or(true)
        && are_offered.next().is_none()
        && !response_headers.contains_key(header::SEC_WEBSOCKET_EXTENSIONS)
}

/// The subprotocols that the client offers.
fn offered(request: &HttpRequest) -> Vec<&str> {
    let lines = request.headers().get_all(own::SEC_WEBSOCKET_PROTOCOL);
    lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(',')).map(str::trim).collect()
}

/// The connection to the node, the bytes received after its response, and the response for the client.
async fn take_connection(
    mut response: Response<Incoming>,
) -> Result<(TcpStream, Bytes, actix_web::HttpResponseBuilder), Error> {
    let upgraded = timeout(HANDSHAKE_TIMEOUT, hyper::upgrade::on(&mut response))
        .await
        .map_err(|_| Error::UpstreamTimeout)?;
    let upgraded = upgraded.map_err(|_| Error::InvalidResponse)?;
    let parts = upgraded.downcast::<TokioIo<TcpStream>>().map_err(|_| Error::InvalidResponse)?;
    let (head, _) = response.into_parts();
    let mut response = incoming::response_builder(&head)?;
    response.upgrade("websocket");
    // An empty remainder would keep its buffer allocated.
    let ahead = if parts.read_buf.is_empty() { Bytes::new() } else { parts.read_buf };
    Ok((parts.io.into_inner(), ahead, response))
}
