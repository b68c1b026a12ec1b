//! The WebSocket transport: a pipe between one WebSocket and its session. The only code that uses
//! `actix-web-actors`.
//!
//! The pipe actor is part of the response body, which the HTTP server does not poll while the client does not
//! read. So it holds no state that must make progress then. The session's frames are merged into the same
//! body.

use std::{
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use actix::{Actor, Addr, StreamHandler};
use actix_http::ws::{Codec, Item, ProtocolError};
use actix_web::{
    HttpRequest, HttpResponse, HttpResponseBuilder,
    http::{Version, header},
    web,
};
use actix_web_actors::ws::{self, Message, WebsocketContext};
use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{
    fragments::Fragments,
    guard::Violation,
    guarded_stream::{FlowControl, GuardedStream},
    refuse_handshake,
    response_body::{PipeHandles, ResponseBody},
};
use crate::{
    Config,
    close::CloseReason,
    connection::send_queue::SendQueue,
    engine::{frame, handshake::HandshakeError},
    request::RequestHead,
    session::{
        Admitted, Inbound, PipeInput, Session,
        handler::SessionHandler,
        rate::{MAX_HEARTBEATS_PER_SECOND, RateLimit},
        transport_state::{PipeId, TransportState},
        upgrade::Probe,
        worker::{HandlerFactory, Worker},
    },
    tcp::{Descriptor, TcpHandle},
};

/// Opens a session over the WebSocket of `request`.
pub(super) fn open<H: HandlerFactory>(
    worker: &Worker<H>,
    request: &HttpRequest,
    payload: web::Payload,
    admitted: Admitted<H::Admission>,
    is_base64: bool,
) -> Result<HttpResponse, HandshakeError> {
    let response = handshake(request)?;
    let (id, tcp) = (next_id(), TcpHandle::new(request.conn_data::<Descriptor>().copied()));
    let (session, connection) = Session::open(worker, TransportState::WebSocket(id), tcp.clone(), admitted);
    let end = PipeHandles { id, session, tcp, send_queue: connection.send_queue.clone() };
    Ok(stream(response, end, payload, &worker.config, is_base64))
}

/// Starts to probe for an upgrade of a long-polling session to the WebSocket of `request`.
pub(super) async fn probe<H: HandlerFactory>(
    worker: &Worker<H>,
    request: &HttpRequest,
    payload: web::Payload,
    session: Addr<Session<H::Handler>>,
    is_base64: bool,
) -> HttpResponse {
    let response = match handshake(request) {
        Ok(response) => response,
        Err(error) => return refuse_handshake(error, true),
    };
    let (id, tcp) = (next_id(), TcpHandle::new(request.conn_data::<Descriptor>().copied()));
    let send_queue = Arc::new(SendQueue::new(worker.limits.clone()));
    let head = RequestHead::of(request, &worker.config);
    match session.send(Probe { pipe: id, send_queue: send_queue.clone(), tcp: tcp.clone(), head }).await {
        Ok(Ok(())) => {}
        Ok(Err(_)) => {
            // As in the reference implementation: stock clients treat a refused upgrade as a failure of the
            // whole connection.
            send_queue
                .finish(frame::close(CloseReason::ServerClose.code(), CloseReason::ServerClose.in_frame()));
        }
        Err(_) => return refuse_handshake(HandshakeError::SessionUnknown, true),
    }
    let end = PipeHandles { id, session, tcp, send_queue };
    stream(response, end, payload, &worker.config, is_base64)
}

fn stream<T: SessionHandler>(
    mut response: HttpResponseBuilder,
    end: PipeHandles<T>,
    payload: web::Payload,
    config: &Config,
    is_base64: bool,
) -> HttpResponse {
    let flow = Rc::new(FlowControl::default());
    let guarded = GuardedStream::new(payload, config.max_payload, config.body_timeout, flow.clone());
    let pipe = Pipe {
        id: end.id,
        session: end.session.clone(),
        flow,
        message: None,
        heartbeat_rate: RateLimit::new(MAX_HEARTBEATS_PER_SECOND),
        is_over: false,
    };
    let codec = Codec::new().max_size(config.max_payload);
    let inner = Box::pin(WebsocketContext::with_codec(pipe, guarded, codec));
    response.streaming(ResponseBody::new(inner, end, is_base64))
}

fn next_id() -> PipeId {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    PipeId(NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The longest list of subprotocols that is accepted, in bytes.
const MAX_PROTOCOLS_LENGTH: usize = 1024;

/// Validates the upgrade by RFC 6455 §4.2.1. Stricter than the library, which accepts drafts and HTTP/1.0.
fn handshake(request: &HttpRequest) -> Result<HttpResponseBuilder, HandshakeError> {
    let has_body = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING]
        .iter()
        .any(|name| request.headers().get(name).is_some_and(|value| value != "0"));
    let invalid = HandshakeError::InvalidUpgrade;
    if request.version() != Version::HTTP_11 {
        return Err(invalid("A WebSocket upgrade needs HTTP/1.1"));
    }
    if has_body {
        return Err(invalid("A WebSocket upgrade has no body"));
    }
    if only(request, header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(HandshakeError::WebSocketVersion);
    }
    if !has_good_key(request) {
        return Err(invalid("Missing or invalid Sec-WebSocket-Key header"));
    }
    if !has_good_protocols(request) {
        return Err(invalid("Invalid Sec-WebSocket-Protocol header"));
    }
    let mut response = ws::handshake(request).map_err(|_| invalid("Missing or invalid Connection header"))?;
    // Like Node's `ws`: browsers and other clients fail when they offer subprotocols and the server selects no subprotocol.
    if let Some(first) = protocols(request).next() {
        response.insert_header((header::SEC_WEBSOCKET_PROTOCOL, first));
    }
    Ok(response)
}

/// The value of a header that occurs once.
fn only(request: &HttpRequest, name: header::HeaderName) -> Option<&header::HeaderValue> {
    let mut all = request.headers().get_all(name);
    all.next().filter(|_| all.next().is_none())
}

/// The key must be sixteen bytes in base64. The library accepts anything.
fn has_good_key(request: &HttpRequest) -> bool {
    let key = only(request, header::SEC_WEBSOCKET_KEY);
    key.is_some_and(|key| STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 16))
}

/// No subprotocols, or tokens separated by commas (RFC 6455 §11.3.4) within the length limit. Empty elements are ignored (RFC 9110
/// §5.6.1).
fn has_good_protocols(request: &HttpRequest) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let mut lines = request.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL);
    lines.all(|line| line.to_str().is_ok_and(|line| line.len() <= MAX_PROTOCOLS_LENGTH))
        && protocols(request).all(|protocol| protocol.bytes().all(allowed))
}

/// The subprotocols offered by the client.
fn protocols(request: &HttpRequest) -> impl Iterator<Item = &str> {
    let lines = request.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL);
    let elements = lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(','));
    elements.map(str::trim).filter(|protocol| !protocol.is_empty())
}

/// Reads the client's messages and forwards them to the session.
struct Pipe<T: SessionHandler> {
    id: PipeId,
    session: Addr<Session<T>>,
    flow: Rc<FlowControl>,
    /// An incomplete fragmented message. The guard bounds its size.
    message: Option<Fragments>,
    /// The rate of the client's pings and pongs.
    heartbeat_rate: RateLimit,
    /// The client has closed or violated the protocol. Further messages are ignored.
    is_over: bool,
}

impl<T: SessionHandler> Pipe<T> {
    fn parse_message(&mut self, message: Message) -> Option<PipeInput> {
        match message {
            Message::Text(text) => {
                if text.starts_with('4') {
                    fault!("pipe");
                }
                Some(PipeInput::Text(text))
            }
            Message::Binary(data) => Some(PipeInput::Binary(data)),
            Message::Continuation(item) => self.join_fragments(item),
            Message::Close(reason) => Some(PipeInput::Closed(reason.map(|reason| reason.code.into()))),
            Message::Ping(_) | Message::Pong(_) | Message::Nop => None,
        }
    }

    fn join_fragments(&mut self, item: Item) -> Option<PipeInput> {
        let (data, is_last) = match item {
            Item::FirstText(data) => {
                self.message = Some(Fragments::text());
                (data, false)
            }
            Item::FirstBinary(data) => {
                self.message = Some(Fragments::binary());
                (data, false)
            }
            Item::Continue(data) => (data, false),
            Item::Last(data) => (data, true),
        };
        let is_valid = self.message.as_mut()?.add(&data);
        match (is_valid, is_last) {
            (false, _) => Some(PipeInput::Failed(CloseReason::InvalidText)),
            (true, false) => None,
            (true, true) => Some(self.message.take()?.join()),
        }
    }

    /// Why the client's byte stream ended or is invalid.
    fn failure(&self, error: Option<&ProtocolError>) -> CloseReason {
        match (self.flow.violation(), error) {
            (Some(Violation::TooLarge), _) => CloseReason::TooLarge,
            (Some(Violation::Protocol), _) => CloseReason::TransportError,
            (Some(Violation::InvalidText), _) => CloseReason::InvalidText,
            (Some(Violation::TooSlow), _) => CloseReason::MessageTimeout,
            // The library reports invalid UTF-8 as an IO error, and a lost connection as the end of the
            // stream.
            (None, Some(ProtocolError::Io(_))) => CloseReason::InvalidText,
            (None, Some(_)) => CloseReason::TransportError,
            (None, None) => CloseReason::TransportClose,
        }
    }
}

impl<T: SessionHandler> Actor for Pipe<T> {
    type Context = WebsocketContext<Self>;
}

impl<T: SessionHandler> StreamHandler<Result<Message, ProtocolError>> for Pipe<T> {
    fn handle(&mut self, message: Result<Message, ProtocolError>, ctx: &mut Self::Context) {
        self.flow.frame_consumed();
        if self.is_over {
            return;
        }
        let input = match message {
            Ok(Message::Ping(_) | Message::Pong(_)) if !self.heartbeat_rate.allows(Instant::now()) => {
                Some(PipeInput::Failed(CloseReason::Flood))
            }
            Ok(Message::Ping(data)) => {
                ctx.pong(&data);
                None
            }
            Ok(message) => self.parse_message(message),
            Err(error) => Some(PipeInput::Failed(self.failure(Some(&error)))),
        };
        if let Some(input) = input {
            self.is_over = matches!(input, PipeInput::Closed(_) | PipeInput::Failed(_));
            let permit = Some(self.flow.backlog.count(input.length()));
            self.session.do_send(Inbound { pipe: self.id, input, permit });
        }
    }

    /// The client's byte stream has ended. The session decides when the transport is closed.
    fn finished(&mut self, _: &mut Self::Context) {
        let input = PipeInput::Failed(self.failure(None));
        self.session.do_send(Inbound { pipe: self.id, input, permit: None });
    }
}
