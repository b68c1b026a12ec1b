//! The requests of long-polling (Engine.IO protocol 4, "HTTP long-polling"). They may run on another worker
//! than their session, so they communicate with it only by messages. A request that is aborted notifies its
//! session.

use std::{sync::Arc, time::Duration};

use actix::{Addr, MailboxError};
use actix_web::{HttpRequest, HttpResponse, http::StatusCode, http::header, web};
use bytes::BytesMut;
use bytestring::ByteString;
use futures_util::StreamExt;
use tokio::{
    sync::oneshot::error::RecvError,
    time::{sleep, timeout},
};

use crate::{
    Config,
    close::CloseReason,
    connection::send_queue::SendQueue,
    engine::{handshake::HandshakeError, payload},
    request::RequestHead,
    session::{
        Admitted, Session,
        handler::SessionHandler,
        poll_limit::ReleaseGet,
        polling::{Get, GetAborted, PollBody, Post, PostAborted, PostPart, PostStart},
        transport_state::{TransportConflict, TransportState},
        worker::{HandlerFactory, Worker},
    },
    tcp::TcpHandle,
    transport::refuse_handshake,
};

/// The longest time that a part of a body waits for the client to receive the answers to earlier parts.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// The interval between two checks of the send queue.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Opens a session. The response contains its open packet.
pub(super) async fn open<H: HandlerFactory>(
    worker: &Worker<H>,
    admitted: Admitted<H::Admission>,
) -> HttpResponse {
    let (session, _) = Session::open(worker, TransportState::POLLING, TcpHandle::new(None), admitted);
    get(session, None, None).await
}

/// The longest time that a GET waits, if a header of the request limits it ([`Config::poll_limit_header`]).
pub(super) fn limit(request: &HttpRequest, config: &Config) -> Option<Duration> {
    let limit = request.headers().get(config.poll_limit_header.as_ref()?)?;
    limit.to_str().ok()?.parse().ok().map(Duration::from_millis)
}

/// Answers a GET when packets are queued, or when it has waited for `limit`.
pub(super) async fn get<T: SessionHandler>(
    session: Addr<Session<T>>,
    head: Option<Arc<RequestHead>>,
    limit: Option<Duration>,
) -> HttpResponse {
    let guard = AbortGuard::new(&session, true);
    let body = match session.send(Get(head)).await {
        Ok(Ok(body)) => body,
        result => {
            guard.disarm();
            return refuse(result);
        }
    };
    let body = match limit {
        Some(limit) => within(limit, body, &session).await,
        None => body.await,
    };
    fault!("poll");
    guard.disarm();
    match body {
        Ok(Ok(body)) => HttpResponse::Ok()
            .insert_header((header::CONTENT_TYPE, "text/plain; charset=UTF-8"))
            .insert_header((header::CACHE_CONTROL, "no-store"))
            .body(body),
        Ok(Err(conflict)) => refuse::<()>(Ok(Err(conflict))),
        Err(_) => refuse_handshake(HandshakeError::SessionUnknown, false),
    }
}

/// The body of a GET that waits at most `limit`. The session itself ends the wait, so that no packet is taken for a GET that
/// has ended.
async fn within<T: SessionHandler>(
    limit: Duration,
    mut body: PollBody,
    session: &Addr<Session<T>>,
) -> Result<Result<String, TransportConflict>, RecvError> {
    if let Ok(body) = timeout(limit, &mut body).await {
        return body;
    }
    session.do_send(ReleaseGet);
    body.await
}

/// Reads the body of a POST and forwards its packets to the session.
pub(super) async fn post<H: HandlerFactory>(
    worker: &Worker<H>,
    request: &HttpRequest,
    session: Addr<Session<H::Handler>>,
    payload: web::Payload,
) -> HttpResponse {
    let max = worker.config.max_payload;
    let guard = AbortGuard::new(&session, false);
    let send_queue = match session.send(PostStart(RequestHead::of(request, &worker.config))).await {
        Ok(Ok(send_queue)) => send_queue,
        result => {
            guard.disarm();
            return refuse(result);
        }
    };
    if is_binary(request) {
        return HttpResponse::BadRequest().force_close().finish();
    }
    let body = match content_length(request) {
        Some(length) if length > max => Ok(Err(BodyError::TooLarge)),
        _ => timeout(worker.config.body_timeout, read_body(payload, max)).await,
    };
    match body {
        Ok(Ok(body)) => {
            let received = forward_body(&session, &send_queue, &body).await;
            guard.disarm();
            respond_to_post(received)
        }
        Ok(Err(BodyError::TooLarge)) => {
            guard.disarm();
            session.do_send(PostAborted { fatal: None });
            HttpResponse::PayloadTooLarge().force_close().finish()
        }
        Ok(Err(BodyError::NotText)) => HttpResponse::BadRequest().finish(),
        Ok(Err(BodyError::Incomplete)) | Err(_) => {
            HttpResponse::build(StatusCode::REQUEST_TIMEOUT).force_close().finish()
        }
    }
}

/// Forwards a body in parts. Before each next part it waits, for a bounded time, until the send queue is at
/// most half full. Otherwise the answers to one large body could exceed the queue.
async fn forward_body<T: SessionHandler>(
    session: &Addr<Session<T>>,
    send_queue: &SendQueue,
    body: &ByteString,
) -> Option<Result<(), CloseReason>> {
    let parts = payload::parts(body);
    let (last, first) = parts.split_last()?;
    for part in first {
        match session.send(PostPart(body.slice_ref(part))).await.ok()? {
            Ok(()) => {}
            ended => return Some(ended),
        }
        let drained = async {
            while send_queue.is_half_full() {
                sleep(POLL_INTERVAL).await;
            }
        };
        // A client that receives nothing is closed as slow eventually.
        let _ = timeout(DRAIN_TIMEOUT, drained).await;
    }
    session.send(Post(body.slice_ref(last))).await.ok()
}

/// Protocol 4 has no binary bodies.
fn is_binary(request: &HttpRequest) -> bool {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next());
    kind.is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/octet-stream"))
}

/// The declared length of the body.
fn content_length(request: &HttpRequest) -> Option<usize> {
    request.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn respond_to_post(received: Option<Result<(), CloseReason>>) -> HttpResponse {
    match received {
        Some(Ok(())) => HttpResponse::Ok()
            .insert_header((header::CONTENT_TYPE, "text/html"))
            .insert_header((header::CACHE_CONTROL, "no-store"))
            .body("ok"),
        Some(Err(_)) => HttpResponse::BadRequest().finish(),
        None => refuse_handshake(HandshakeError::SessionUnknown, false),
    }
}

/// The response to a request that the session refused, or that it did not receive because it has ended.
fn refuse<T>(result: Result<Result<T, TransportConflict>, MailboxError>) -> HttpResponse {
    match result {
        Ok(Err(TransportConflict::WrongTransport)) => refuse_handshake(HandshakeError::BadRequest, false),
        Ok(_) => HttpResponse::BadRequest().finish(),
        Err(_) => refuse_handshake(HandshakeError::SessionUnknown, false),
    }
}

/// Why a body is refused.
enum BodyError {
    TooLarge,
    NotText,
    Incomplete,
}

async fn read_body(mut payload: web::Payload, max: usize) -> Result<ByteString, BodyError> {
    let mut body = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|_| BodyError::Incomplete)?;
        if body.len() + chunk.len() > max {
            return Err(BodyError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    ByteString::try_from(body.freeze()).map_err(|_| BodyError::NotText)
}

/// Notifies the session that a request was aborted, if it is dropped before the request is answered.
struct AbortGuard<T: SessionHandler> {
    session: Option<Addr<Session<T>>>,
    is_get: bool,
}

impl<T: SessionHandler> AbortGuard<T> {
    fn new(session: &Addr<Session<T>>, is_get: bool) -> Self {
        Self { session: Some(session.clone()), is_get }
    }

    fn disarm(mut self) {
        self.session = None;
    }
}

impl<T: SessionHandler> Drop for AbortGuard<T> {
    fn drop(&mut self) {
        match self.session.take() {
            Some(session) if self.is_get => session.do_send(GetAborted),
            Some(session) => session.do_send(PostAborted { fatal: Some(CloseReason::TransportError) }),
            None => {}
        }
    }
}
