//! Proxies WebSocket handshakes, which the middleware has checked. Only when the node accepts the handshake as RFC 6455
//! requires are the two connections joined. Until then no bytes of the client are forwarded.

use std::time::Duration;

use actix_http::ws;
use actix_web::{HttpRequest, HttpResponse, body::BoxBody, http::header as own, web};
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
    Worker, headers,
    request::Outgoing,
    response,
    splice::{Descriptor, Splice},
};
use crate::error::Error;

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
    headers::add_handshake(request.headers(), &mut outgoing.headers);
    let socket = worker.shared.in_flight.socket();
    let attempt =
        async |backend: &Backend, within| worker.upstream.handshake(&outgoing, backend, within).await;
    let (response, backend) =
        worker.first_response(&outgoing, candidates, HANDSHAKE_TIMEOUT, attempt).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return response::relay_refusal(response).await;
    }
    if !is_valid_acceptance(response.headers(), request) {
        tracing::warn!(%backend, "invalid response of a node to a WebSocket handshake: refused with 502");
        return Err(Error::InvalidResponse);
    }
    let (node, ahead, mut response) = take_connection(response).await?;
    let client = request.conn_data::<Descriptor>().copied();
    Ok(response.body(BoxBody::new(Splice::new(payload, node, ahead, client, socket))))
}

/// Whether a node's 101 response belongs to the handshake of `request` (RFC 6455 §4.1, requirements of the client), without
/// anything that was not offered.
fn is_valid_acceptance(accepted: &HeaderMap, request: &HttpRequest) -> bool {
    let only = |name| {
        let mut all = accepted.get_all(name).iter();
        all.next().filter(|_| all.next().is_none()).map(|value| value.as_bytes())
    };
    let key = request.headers().get(own::SEC_WEBSOCKET_KEY).map(|key| ws::hash_key(key.as_bytes()));
    let is_accepted = key.is_some_and(|key| only(header::SEC_WEBSOCKET_ACCEPT) == Some(key.as_slice()));
    let is_upgraded = only(header::UPGRADE).is_some_and(|to| to.eq_ignore_ascii_case(b"websocket"));
    let mut offered = request.headers().get_all(own::SEC_WEBSOCKET_PROTOCOL).flat_map(|line| {
        line.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii).collect::<Vec<_>>()
    });
    let is_offered = !accepted.contains_key(header::SEC_WEBSOCKET_PROTOCOL)
        || only(header::SEC_WEBSOCKET_PROTOCOL).is_some_and(|chosen| offered.any(|one| one == chosen));
    is_accepted && is_upgraded && is_offered && !accepted.contains_key(header::SEC_WEBSOCKET_EXTENSIONS)
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
    let mut response = response::builder(&head)?;
    response.upgrade("websocket");
    // An empty remainder would keep its buffer allocated.
    let ahead = if parts.read_buf.is_empty() { Bytes::new() } else { parts.read_buf };
    Ok((parts.io.into_inner(), ahead, response))
}
