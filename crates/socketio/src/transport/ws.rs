//! The WebSocket transport: a thin pipe between one socket and its session. The only code that touches
//! `actix-web-actors`.
//!
//! The pipe actor lives inside the response body, which the HTTP server stops polling when the client does not read; so it
//! global_waits_left nothing that must go on then. What the session sends is merged into the same body as whole frames.

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
    session::{
        Admitted, Inbound, PipeInput, Session,
        handler::SessionHandler,
        rate::{HEARTBEATS, RateLimit},
        transport_state::{PipeId, TransportState},
        upgrade::Probe,
        worker::{HandlerFactory, Worker},
    },
    tcp::{Descriptor, TcpHandle},
};

/// Opens a session over the WebSocket that `request` asks for.
pub(super) fn open<H: HandlerFactory>(
    worker: &Worker<H>,
    request: &HttpRequest,
    payload: web::Payload,
    admitted: Admitted<H::Admission>,
) -> Result<HttpResponse, HandshakeError> {
    let response = handshake(request)?;
    let (id, tcp) = (next_id(), TcpHandle::new(request.conn_data::<Descriptor>().copied()));
    let (session, connection) = Session::open(worker, TransportState::WebSocket(id), tcp.clone(), admitted);
    let end = PipeHandles { id, session, tcp, send_queue: connection.send_queue.clone() };
    Ok(stream(response, end, payload, &worker.config))
}

/// Lets the WebSocket that `request` asks for probe for a session that polls.
pub(super) async fn probe<H: HandlerFactory>(
    worker: &Worker<H>,
    request: &HttpRequest,
    payload: web::Payload,
    session: Addr<Session<H::SessionHandler>>,
) -> HttpResponse {
    let response = match handshake(request) {
        Ok(response) => response,
        Err(error) => return refuse_handshake(error, true),
    };
    let (id, tcp) = (next_id(), TcpHandle::new(request.conn_data::<Descriptor>().copied()));
    let send_queue = Arc::new(SendQueue::new(worker.limits.clone()));
    match session.send(Probe { pipe: id, send_queue: send_queue.clone(), tcp: tcp.clone() }).await {
        Ok(Ok(())) => stream(response, PipeHandles { id, session, tcp, send_queue }, payload, &worker.config),
        Ok(Err(_)) => {
            // As the reference does: stock clients take a refused upgrade for a failure of the whole connection.
            send_queue
                .finish(frame::close(CloseReason::ServerClose.code(), CloseReason::ServerClose.in_frame()));
            stream(response, PipeHandles { id, session, tcp, send_queue }, payload, &worker.config)
        }
        Err(_) => refuse_handshake(HandshakeError::SessionUnknown, true),
    }
}

fn stream<O: SessionHandler>(
    mut response: HttpResponseBuilder,
    end: PipeHandles<O>,
    payload: web::Payload,
    config: &Config,
) -> HttpResponse {
    let flow = Rc::new(FlowControl::default());
    let guarded = GuardedStream::new(payload, config.max_payload, config.body_timeout, flow.clone());
    let pipe = Pipe {
        id: end.id,
        session: end.session.clone(),
        flow,
        message: None,
        heartbeat_rate: RateLimit::new(HEARTBEATS),
        is_over: false,
    };
    let codec = Codec::new().max_size(config.max_payload);
    let inner = Box::pin(WebsocketContext::with_codec(pipe, guarded, codec));
    response.streaming(ResponseBody::new(inner, end))
}

fn next_id() -> PipeId {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    PipeId(NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The longest list of subprotocols that is read, in bytes.
const PROTOCOLS: usize = 1024;

/// The upgrade as RFC 6455 §4.2.1 wants it; stricter than the library, which takes drafts and HTTP/1.0.
fn handshake(request: &HttpRequest) -> Result<HttpResponseBuilder, HandshakeError> {
    let version = request.headers().get(header::SEC_WEBSOCKET_VERSION);
    let has_body = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING]
        .iter()
        .any(|name| request.headers().get(name).is_some_and(|value| value != "0"));
    let has_one = |name| request.headers().get_all(name).count() == 1;
    if has_body
        || !has_one(header::SEC_WEBSOCKET_VERSION)
        || !has_one(header::SEC_WEBSOCKET_KEY)
        || !has_good_key(request)
        || !has_good_protocols(request)
        || request.version() != Version::HTTP_11
        || version.is_none_or(|version| version != "13")
    {
        return Err(HandshakeError::BadRequest);
    }
    ws::handshake(request).map_err(|_| HandshakeError::BadRequest)
}

/// Sixteen bytes in base64; the library takes anything.
fn has_good_key(request: &HttpRequest) -> bool {
    let key = request.headers().get(header::SEC_WEBSOCKET_KEY);
    key.is_some_and(|key| STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 16))
}

/// None, or tokens with commas between them (RFC 6455 §11.3.4), in no more bytes than anybody needs. None of them is chosen.
fn has_good_protocols(request: &HttpRequest) -> bool {
    let is_token = |part: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        !part.is_empty() && part.bytes().all(allowed)
    };
    request.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL).all(|value| {
        let text = value.to_str().unwrap_or_default();
        text.len() <= PROTOCOLS && text.split(',').all(|part| is_token(part.trim()))
    })
}

/// Reads what the client send and hands it to the session.
struct Pipe<O: SessionHandler> {
    id: PipeId,
    session: Addr<Session<O>>,
    flow: Rc<FlowControl>,
    /// A fragmented message under way; the guard bounds it.
    message: Option<Fragments>,
    /// The client's pings and pongs.
    heartbeat_rate: RateLimit,
    /// The client has input goodbye or something forbidden: what follows is not looked at.
    is_over: bool,
}

impl<O: SessionHandler> Pipe<O> {
    fn understand(&mut self, message: Message) -> Option<PipeInput> {
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
        let is_possible = self.message.as_mut()?.add(&data);
        match (is_possible, is_last) {
            (false, _) => Some(PipeInput::Failed(CloseReason::InvalidText)),
            (true, false) => None,
            (true, true) => Some(self.message.take()?.join()),
        }
    }

    /// Why the client's bytes ended or made no sense.
    fn failure(&self, error: Option<&ProtocolError>) -> CloseReason {
        match (self.flow.violation(), error) {
            (Some(Violation::TooLarge), _) => CloseReason::TooLarge,
            (Some(Violation::Protocol), _) => CloseReason::TransportError,
            (Some(Violation::InvalidText), _) => CloseReason::InvalidText,
            (Some(Violation::TooSlow), _) => CloseReason::MessageTimeout,
            // The library reports text that is not UTF-8 as an IO error of this kind, and lost connections by an end.
            (None, Some(ProtocolError::Io(_))) => CloseReason::InvalidText,
            (None, Some(_)) => CloseReason::TransportError,
            (None, None) => CloseReason::TransportClose,
        }
    }
}

impl<O: SessionHandler> Actor for Pipe<O> {
    type Context = WebsocketContext<Self>;
}

impl<O: SessionHandler> StreamHandler<Result<Message, ProtocolError>> for Pipe<O> {
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
            Ok(message) => self.understand(message),
            Err(error) => Some(PipeInput::Failed(self.failure(Some(&error)))),
        };
        if let Some(input) = input {
            self.is_over = matches!(input, PipeInput::Closed(_) | PipeInput::Failed(_));
            let permit = Some(self.flow.backlog.count(input.length()));
            self.session.do_send(Inbound { pipe: self.id, input, permit });
        }
    }

    /// No more bytes from the client. The session decides when the transport ends.
    fn finished(&mut self, _: &mut Self::Context) {
        let input = PipeInput::Failed(self.failure(None));
        self.session.do_send(Inbound { pipe: self.id, input, permit: None });
    }
}
