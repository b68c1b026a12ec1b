//! A WebSocket handshake through the gateway: the client's is checked, a canonical one is sent to the node, and only when the node has
//! agreed as RFC 6455 wants it are the two connections joined. Until then nothing of what the client sends goes anywhere.

use std::time::Duration;

use actix_http::ws;
use actix_web::{
    HttpRequest, HttpResponse,
    body::BoxBody,
    http::header::{self as own},
    web,
};
use bytes::Bytes;
use hyper::{
    Response, StatusCode,
    body::Incoming,
    header::{self, HeaderMap},
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

use super::{
    FIRST, Worker,
    backend::Backend,
    headers, incoming,
    outgoing::Outgoing,
    splice::{Descriptor, Splice},
    upstream::is_settled,
};
use crate::error::Error;

/// How long a node may take for its part.
const SHAKE: Duration = Duration::from_millis(4_500);

/// Joins the client with the first of `candidates` that can be reached, or answers as that one does.
pub(super) async fn join(
    worker: &Worker,
    request: &HttpRequest,
    payload: web::Payload,
    mut outgoing: Outgoing,
    candidates: Vec<Backend>,
) -> Result<HttpResponse, Error> {
    let key = key(request)?;
    headers::handshake(request.headers(), &mut outgoing.headers);
    let socket = worker.shared.traffic.socket();
    let (answer, backend) = first(worker, &outgoing, candidates).await?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return incoming::refusal(answer).await;
    }
    if !agrees(answer.headers(), &key, &offered(request)) {
        tracing::warn!("a node's answer to a WebSocket handshake makes no sense");
        return Err(Error::Garbled);
    }
    let (node, ahead, mut answer) = taken_over(answer).await?;
    let client = request.conn_data::<Descriptor>().copied();
    let shared = worker.shared.clone();
    let silence = async move { shared.pulse.silence(&backend).await };
    let splice = Splice::new(payload, node, ahead, client, socket, silence);
    Ok(answer.body(BoxBody::new(splice)))
}

/// The key of a handshake as RFC 6455 §4.2.1 wants it.
fn key(request: &HttpRequest) -> Result<Vec<u8>, Error> {
    let once = [own::SEC_WEBSOCKET_KEY, own::SEC_WEBSOCKET_VERSION];
    let repeated = once.iter().any(|name| request.headers().get_all(name).count() > 1);
    let refused = ws::verify_handshake(request.head()).is_err();
    match request.headers().get(own::SEC_WEBSOCKET_KEY) {
        Some(key) if !repeated && !refused => Ok(key.as_bytes().to_vec()),
        _ => Err(Error::Upgrade("this is no WebSocket handshake")),
    }
}

async fn first(
    worker: &Worker,
    outgoing: &Outgoing,
    candidates: Vec<Backend>,
) -> Result<(Response<Incoming>, Backend), Error> {
    let mut outcome = Err(Error::Away);
    let count = candidates.len();
    for (index, backend) in candidates.into_iter().enumerate() {
        let is_last = index + 1 == count;
        let answer =
            worker.upstream.shake_hands(outgoing, &backend, if is_last { SHAKE } else { FIRST }).await;
        if is_settled(&answer, is_last) {
            outcome = answer.map(|answer| (answer, backend));
            break;
        }
        worker.shared.doubts.note(&backend);
        outcome = answer.and(Err(Error::Away));
    }
    outcome
}

/// Whether a node's 101 belongs to the handshake with this key (RFC 6455 §4.1, the client's part), without anything that was
/// not offered.
fn agrees(answered: &HeaderMap, key: &[u8], offered: &[&str]) -> bool {
    let only = |name| {
        let mut all = answered.get_all(name).iter();
        all.next().filter(|_| all.next().is_none()).map(|value| value.as_bytes())
    };
    let accepted = only(header::SEC_WEBSOCKET_ACCEPT).is_some_and(|accept| accept == ws::hash_key(key));
    let upgraded = only(header::UPGRADE).is_some_and(|to| to.eq_ignore_ascii_case(b"websocket"));
    let chosen = answered.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let mut was_offered =
        chosen.map(|chosen| chosen.to_str().is_ok_and(|chosen| offered.contains(&chosen.trim())));
    accepted
        && upgraded
        && was_offered.next().unwrap_or(true)
        && was_offered.next().is_none()
        && !answered.contains_key(header::SEC_WEBSOCKET_EXTENSIONS)
}

/// The subprotocols that the client offers.
fn offered(request: &HttpRequest) -> Vec<&str> {
    let lines = request.headers().get_all(own::SEC_WEBSOCKET_PROTOCOL);
    lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(',')).map(str::trim).collect()
}

/// The connection itself, what has come on it behind the answer, and the answer for the client.
async fn taken_over(
    mut answer: Response<Incoming>,
) -> Result<(TcpStream, Bytes, actix_web::HttpResponseBuilder), Error> {
    let upgraded = timeout(SHAKE, hyper::upgrade::on(&mut answer)).await.map_err(|_| Error::Late)?;
    let upgraded = upgraded.map_err(|_| Error::Garbled)?;
    let parts = upgraded.downcast::<TokioIo<TcpStream>>().map_err(|_| Error::Garbled)?;
    let (head, _) = answer.into_parts();
    let mut answer = incoming::started(&head)?;
    answer.upgrade("websocket");
    // An empty rest would keep its buffer.
    let ahead = if parts.read_buf.is_empty() { Bytes::new() } else { parts.read_buf };
    Ok((parts.io.into_inner(), ahead, answer))
}
