//! The WebSocket transport: a thin pipe between one socket and its session. The only code that touches
//! `actix-web-actors`.
//!
//! The pipe actor lives inside the response body, which the HTTP server stops polling when the client does not read; so it
//! holds nothing that must go on then. What the session sends is merged into the same body as whole frames.

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
    guarded::{Flow, Guarded},
    merged::{Merged, PipeEnd},
    refuse_handshake,
};
use crate::{
    Config,
    close::CloseReason,
    engine::{frame, handshake::HandshakeError},
    link::outbox::Outbox,
    session::{
        Admitted, Inbound, Said, Session,
        carrier::{Carrier, PipeId},
        host::{Host, Worker},
        occupant::Occupant,
        pace::{HEARTBEATS, Pace},
        upgrade::Probe,
    },
    wire::{Descriptor, Wire},
};

/// Opens a session over the WebSocket that `request` asks for.
pub(super) fn open<H: Host>(
    worker: &Worker<H>,
    request: &HttpRequest,
    payload: web::Payload,
    admitted: Admitted<H::Admission>,
) -> Result<HttpResponse, HandshakeError> {
    let response = handshake(request)?;
    let (id, wire) = (next_id(), Wire::new(request.conn_data::<Descriptor>().copied()));
    let (session, link) = Session::open(worker, Carrier::WebSocket(id), wire.clone(), admitted);
    let end = PipeEnd { id, session, wire, outbox: link.outbox.clone() };
    Ok(stream(response, end, payload, &worker.config))
}

/// Lets the WebSocket that `request` asks for probe for a session that polls.
pub(super) async fn probe<H: Host>(
    worker: &Worker<H>,
    request: &HttpRequest,
    payload: web::Payload,
    session: Addr<Session<H::Occupant>>,
) -> HttpResponse {
    let response = match handshake(request) {
        Ok(response) => response,
        Err(error) => return refuse_handshake(error, true),
    };
    let (id, wire) = (next_id(), Wire::new(request.conn_data::<Descriptor>().copied()));
    let outbox = Arc::new(Outbox::new(worker.limits.clone()));
    match session.send(Probe { pipe: id, outbox: outbox.clone(), wire: wire.clone() }).await {
        Ok(Ok(())) => stream(response, PipeEnd { id, session, wire, outbox }, payload, &worker.config),
        Ok(Err(_)) => {
            // As the reference does: stock clients take a refused upgrade for a failure of the whole connection.
            outbox.finish(frame::close(CloseReason::ServerClose.code(), CloseReason::ServerClose.in_frame()));
            stream(response, PipeEnd { id, session, wire, outbox }, payload, &worker.config)
        }
        Err(_) => refuse_handshake(HandshakeError::SessionUnknown, true),
    }
}

fn stream<O: Occupant>(
    mut response: HttpResponseBuilder,
    end: PipeEnd<O>,
    payload: web::Payload,
    config: &Config,
) -> HttpResponse {
    let flow = Rc::new(Flow::default());
    let guarded = Guarded::new(payload, config.max_payload, config.body_timeout, flow.clone());
    let pipe = Pipe {
        id: end.id,
        session: end.session.clone(),
        flow,
        message: None,
        beats: Pace::new(HEARTBEATS),
        is_over: false,
    };
    let codec = Codec::new().max_size(config.max_payload);
    let inner = Box::pin(WebsocketContext::with_codec(pipe, guarded, codec));
    response.streaming(Merged::new(inner, end))
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
    let mut answer = ws::handshake(request).map_err(|_| HandshakeError::BadRequest)?;
    // As Node's `ws`: browsers and other clients fail when they have offered some and none is chosen.
    if let Some(first) = protocols(request).next() {
        answer.insert_header((header::SEC_WEBSOCKET_PROTOCOL, first));
    }
    Ok(answer)
}

/// Sixteen bytes in base64; the library takes anything.
fn has_good_key(request: &HttpRequest) -> bool {
    let key = request.headers().get(header::SEC_WEBSOCKET_KEY);
    key.is_some_and(|key| STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 16))
}

/// None, or tokens with commas between them (RFC 6455 §11.3.4), in no more bytes than anybody needs. Empty elements are ignored (RFC
/// 9110 §5.6.1).
fn has_good_protocols(request: &HttpRequest) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let mut lines = request.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL);
    lines.all(|line| line.to_str().is_ok_and(|line| line.len() <= PROTOCOLS))
        && protocols(request).all(|protocol| protocol.bytes().all(allowed))
}

/// The subprotocols that the client offers.
fn protocols(request: &HttpRequest) -> impl Iterator<Item = &str> {
    let lines = request.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL);
    let elements = lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(','));
    elements.map(str::trim).filter(|protocol| !protocol.is_empty())
}

/// Reads what the client says and hands it to the session.
struct Pipe<O: Occupant> {
    id: PipeId,
    session: Addr<Session<O>>,
    flow: Rc<Flow>,
    /// A fragmented message under way; the guard bounds it.
    message: Option<Fragments>,
    /// The client's pings and pongs.
    beats: Pace,
    /// The client has said goodbye or something forbidden: what follows is not looked at.
    is_over: bool,
}

impl<O: Occupant> Pipe<O> {
    fn understand(&mut self, message: Message) -> Option<Said> {
        match message {
            Message::Text(text) => {
                if text.starts_with('4') {
                    fault!("pipe");
                }
                Some(Said::Text(text))
            }
            Message::Binary(data) => Some(Said::Binary(data)),
            Message::Continuation(item) => self.join_fragments(item),
            Message::Close(reason) => Some(Said::Closed(reason.map(|reason| reason.code.into()))),
            Message::Ping(_) | Message::Pong(_) | Message::Nop => None,
        }
    }

    fn join_fragments(&mut self, item: Item) -> Option<Said> {
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
            (false, _) => Some(Said::Failed(CloseReason::InvalidText)),
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

impl<O: Occupant> Actor for Pipe<O> {
    type Context = WebsocketContext<Self>;
}

impl<O: Occupant> StreamHandler<Result<Message, ProtocolError>> for Pipe<O> {
    fn handle(&mut self, message: Result<Message, ProtocolError>, ctx: &mut Self::Context) {
        self.flow.seen();
        if self.is_over {
            return;
        }
        let said = match message {
            Ok(Message::Ping(_) | Message::Pong(_)) if !self.beats.allows(Instant::now()) => {
                Some(Said::Failed(CloseReason::Flood))
            }
            Ok(Message::Ping(data)) => {
                ctx.pong(&data);
                None
            }
            Ok(message) => self.understand(message),
            Err(error) => Some(Said::Failed(self.failure(Some(&error)))),
        };
        if let Some(said) = said {
            self.is_over = matches!(said, Said::Closed(_) | Said::Failed(_));
            let counted = Some(self.flow.backlog.count(said.length()));
            self.session.do_send(Inbound { pipe: self.id, said, counted });
        }
    }

    /// No more bytes from the client. The session decides when the transport ends.
    fn finished(&mut self, _: &mut Self::Context) {
        let said = Said::Failed(self.failure(None));
        self.session.do_send(Inbound { pipe: self.id, said, counted: None });
    }
}
