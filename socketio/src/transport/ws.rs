//! The WebSocket transport: a thin pipe between one socket and its session. The only code that touches
//! `actix-web-actors`.
//!
//! The pipe actor lives inside the response body, which the HTTP server stops polling when the client does not read; so it
//! holds nothing that must go on then. What the session sends is merged into the same body as whole frames.

use std::{
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use actix::{Actor, Addr, StreamHandler};
use actix_http::ws::{Codec, Item, ProtocolError};
use actix_web::{
    Error, HttpRequest, HttpResponse, HttpResponseBuilder,
    http::{Version, header},
    web,
};
use actix_web_actors::ws::{self, Message, WebsocketContext};
use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use futures_util::Stream;

use super::{
    guard::{Flow, Guarded, Violation},
    refuse_handshake,
};
use crate::{
    close::CloseReason,
    engine::handshake::HandshakeError,
    link::outbox::{Limits, Outbox, Taken},
    session::{
        Admitted, Inbound, Said, Session,
        carrier::{Carrier, PipeId},
        host::{Host, Worker},
        occupant::Occupant,
        upgrade::Probe,
    },
    wire::{Descriptor, Wire},
};

/// So many frames leave in a row before the client is listened to again.
const TURN: usize = 64;

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
    Ok(stream(response, end, payload, worker.config.max_payload))
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
    let outbox = Arc::new(Outbox::new(Limits::from(&*worker.config)));
    match session.send(Probe { pipe: id, outbox: outbox.clone(), wire: wire.clone() }).await {
        Ok(Ok(())) => {
            stream(response, PipeEnd { id, session, wire, outbox }, payload, worker.config.max_payload)
        }
        Ok(Err(_)) => refuse_handshake(HandshakeError::BadRequest, true),
        Err(_) => refuse_handshake(HandshakeError::SessionUnknown, true),
    }
}

/// Everything of a pipe that outlives one poll of it.
struct PipeEnd<O: Occupant> {
    id: PipeId,
    session: Addr<Session<O>>,
    wire: Arc<Wire>,
    outbox: Arc<Outbox>,
}

fn stream<O: Occupant>(
    mut response: HttpResponseBuilder,
    end: PipeEnd<O>,
    payload: web::Payload,
    max_payload: usize,
) -> HttpResponse {
    let flow = Rc::new(Flow::default());
    let guarded = Guarded::new(payload, max_payload, flow.clone());
    let pipe = Pipe { id: end.id, session: end.session.clone(), flow, message: None };
    let codec = Codec::new().max_size(max_payload);
    let inner = Box::pin(WebsocketContext::with_codec(pipe, guarded, codec));
    response.streaming(Merged { inner: Some(inner), end, in_a_row: 0, ending: false })
}

fn next_id() -> PipeId {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    PipeId(NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The upgrade as RFC 6455 §4.2.1 wants it; stricter than the library, which takes drafts and HTTP/1.0.
fn handshake(request: &HttpRequest) -> Result<HttpResponseBuilder, HandshakeError> {
    let version = request.headers().get(header::SEC_WEBSOCKET_VERSION);
    if request.version() != Version::HTTP_11 || version.is_none_or(|version| version != "13") {
        return Err(HandshakeError::BadRequest);
    }
    ws::handshake(request).map_err(|_| HandshakeError::BadRequest)
}

/// Reads what the client says and hands it to the session.
struct Pipe<O: Occupant> {
    id: PipeId,
    session: Addr<Session<O>>,
    flow: Rc<Flow>,
    /// A fragmented message under way; the guard bounds it.
    message: Option<Fragments>,
}

struct Fragments {
    is_text: bool,
    bytes: BytesMut,
}

impl<O: Occupant> Pipe<O> {
    fn understand(&mut self, message: Message) -> Option<Said> {
        match message {
            Message::Text(text) => Some(Said::Text(text)),
            Message::Binary(data) => Some(Said::Binary(data)),
            Message::Continuation(item) => self.join_fragments(item),
            Message::Close(_) => Some(Said::Failed(CloseReason::TransportClose)),
            Message::Ping(_) | Message::Pong(_) | Message::Nop => None,
        }
    }

    fn join_fragments(&mut self, item: Item) -> Option<Said> {
        let (data, is_last) = match item {
            Item::FirstText(data) => return self.start_fragments(true, &data),
            Item::FirstBinary(data) => return self.start_fragments(false, &data),
            Item::Continue(data) => (data, false),
            Item::Last(data) => (data, true),
        };
        self.message.as_mut()?.bytes.extend_from_slice(&data);
        if !is_last {
            return None;
        }
        let Fragments { is_text, bytes } = self.message.take()?;
        if !is_text {
            return Some(Said::Binary(bytes.freeze()));
        }
        let text = ByteString::try_from(bytes.freeze());
        Some(text.map_or(Said::Failed(CloseReason::InvalidText), Said::Text))
    }

    fn start_fragments(&mut self, is_text: bool, data: &[u8]) -> Option<Said> {
        self.message = Some(Fragments { is_text, bytes: BytesMut::from(data) });
        None
    }

    /// Why the client's bytes ended or made no sense.
    fn failure(&self, error: Option<&ProtocolError>) -> CloseReason {
        match (self.flow.violation(), error) {
            (Some(Violation::TooLarge), _) => CloseReason::TooLarge,
            (Some(Violation::Protocol), _) => CloseReason::TransportError,
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
        let said = match message {
            Ok(Message::Ping(data)) => {
                ctx.pong(&data);
                None
            }
            Ok(message) => self.understand(message),
            Err(error) => Some(Said::Failed(self.failure(Some(&error)))),
        };
        if let Some(said) = said {
            self.session.do_send(Inbound { pipe: self.id, said });
        }
    }

    /// No more bytes from the client. The session decides when the transport ends.
    fn finished(&mut self, _: &mut Self::Context) {
        self.session.do_send(Inbound { pipe: self.id, said: Said::Failed(self.failure(None)) });
    }
}

/// The response body: what the session sends, and the pipe's own frames (pongs). Every item is whole frames, so the two may
/// alternate freely. Dropped, it tells the session that the transport is gone.
struct Merged<S, O: Occupant> {
    inner: Option<Pin<Box<S>>>,
    end: PipeEnd<O>,
    in_a_row: usize,
    /// Everything was given to the HTTP server, which writes it once this is polled again.
    ending: bool,
}

impl<S: Stream<Item = Result<Bytes, Error>>, O: Occupant> Merged<S, O> {
    fn poll_inner(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, Error>> {
        let Some(inner) = &mut self.inner else { return Poll::Pending };
        match inner.as_mut().poll_next(cx) {
            Poll::Ready(Some(item)) => Poll::Ready(item),
            Poll::Ready(None) => {
                self.inner = None;
                Poll::Pending
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// The session has ended. The server closes TCP first (RFC 6455 §7.1.1), at once, where the HTTP server would linger; but
    /// only after it has had a turn to write the close frame.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        if std::mem::replace(&mut self.ending, true) {
            self.end.wire.finish_writing();
            return Poll::Ready(None);
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<S: Stream<Item = Result<Bytes, Error>>, O: Occupant> Stream for Merged<S, O> {
    type Item = Result<Bytes, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.in_a_row == TURN {
            this.in_a_row = 0;
            if let Poll::Ready(item) = this.poll_inner(cx) {
                return Poll::Ready(Some(item));
            }
        }
        loop {
            match this.end.outbox.poll_take(cx) {
                Poll::Ready(Taken::Frame(frame)) => {
                    this.in_a_row += 1;
                    return Poll::Ready(Some(Ok(frame)));
                }
                Poll::Ready(Taken::Moved(other)) => this.end.outbox = other,
                Poll::Ready(Taken::Ended) => return this.poll_end(cx),
                Poll::Pending => {
                    this.in_a_row = 0;
                    return this.poll_inner(cx).map(Some);
                }
            }
        }
    }
}

impl<S, O: Occupant> Drop for Merged<S, O> {
    fn drop(&mut self) {
        self.end.wire.release();
        let said = Said::Failed(CloseReason::TransportClose);
        self.end.session.do_send(Inbound { pipe: self.end.id, said });
    }
}
