//! The WebSocket transport: a thin pipe between one socket and its session. The only code that touches
//! `actix-web-actors`.
//!
//! The pipe actor lives inside the response body, which the HTTP server stops polling when the client does not read; so it
//! holds nothing that must go on then. What the session sends is merged into the same body as whole frames.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use actix::{Actor, Addr, StreamHandler};
use actix_http::ws::{Codec, Item, ProtocolError};
use actix_web::{
    Error, HttpRequest, HttpResponse,
    http::{Version, header},
    web,
};
use actix_web_actors::ws::{self, Message, WebsocketContext};
use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use futures_util::Stream;

use super::{
    guard::{Flow, Guarded, Violation},
    wire::Wire,
};
use crate::{
    app::App,
    close::CloseReason,
    engine::handshake::HandshakeError,
    server::Worker,
    session::{Inbound, Session, link::Link},
    shard::Local,
};

/// So many frames leave in a row before the client is listened to again.
const TURN: usize = 64;

/// Opens a session over the WebSocket that `request` asks for.
pub(crate) fn open<A: App>(
    worker: Rc<Worker<A>>,
    request: &HttpRequest,
    payload: web::Payload,
    admission: A::Admission,
) -> Result<HttpResponse, HandshakeError> {
    let mut response = handshake(request)?;
    let wire = request.conn_data::<Wire>().copied();
    let (session, link) = Session::open(&worker, wire, admission);
    let flow = Rc::new(Flow::default());
    let guarded = Guarded::new(payload, worker.config.max_payload, flow.clone());
    let codec = Codec::new().max_size(worker.config.max_payload);
    let pipe = Pipe { session, flow, message: None };
    let inner = Box::pin(WebsocketContext::with_codec(pipe, guarded, codec));
    Ok(response.streaming(Merged {
        inner: Some(inner),
        link,
        local: worker.local.clone(),
        in_a_row: 0,
        ending: false,
    }))
}

/// The upgrade as RFC 6455 §4.2.1 wants it; stricter than the library, which takes drafts and HTTP/1.0.
fn handshake(request: &HttpRequest) -> Result<actix_web::HttpResponseBuilder, HandshakeError> {
    let version = request.headers().get(header::SEC_WEBSOCKET_VERSION);
    if request.version() != Version::HTTP_11 || version.is_none_or(|version| version != "13") {
        return Err(HandshakeError::BadRequest);
    }
    ws::handshake(request).map_err(|_| HandshakeError::BadRequest)
}

/// Reads what the client says and hands it to the session.
struct Pipe<A: App> {
    session: Addr<Session<A>>,
    flow: Rc<Flow>,
    /// A fragmented message under way; the guard bounds it.
    message: Option<Fragments>,
}

struct Fragments {
    is_text: bool,
    bytes: BytesMut,
}

impl<A: App> Pipe<A> {
    fn understand(&mut self, message: Message) -> Option<Inbound> {
        match message {
            Message::Text(text) => Some(Inbound::Text(text)),
            Message::Binary(data) => Some(Inbound::Binary(data)),
            Message::Continuation(item) => self.join_fragments(item),
            Message::Close(_) => Some(Inbound::Failed(CloseReason::TransportClose)),
            Message::Ping(_) | Message::Pong(_) | Message::Nop => None,
        }
    }

    fn join_fragments(&mut self, item: Item) -> Option<Inbound> {
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
            return Some(Inbound::Binary(bytes.freeze()));
        }
        let text = ByteString::try_from(bytes.freeze());
        Some(text.map_or(Inbound::Failed(CloseReason::InvalidText), Inbound::Text))
    }

    fn start_fragments(&mut self, is_text: bool, data: &[u8]) -> Option<Inbound> {
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

impl<A: App> Actor for Pipe<A> {
    type Context = WebsocketContext<Self>;
}

impl<A: App> StreamHandler<Result<Message, ProtocolError>> for Pipe<A> {
    fn handle(&mut self, message: Result<Message, ProtocolError>, ctx: &mut Self::Context) {
        self.flow.seen();
        let inbound = match message {
            Ok(Message::Ping(data)) => {
                ctx.pong(&data);
                None
            }
            Ok(message) => self.understand(message),
            Err(error) => Some(Inbound::Failed(self.failure(Some(&error)))),
        };
        if let Some(inbound) = inbound {
            self.session.do_send(inbound);
        }
    }

    /// No more bytes from the client. The session decides when the transport ends.
    fn finished(&mut self, _: &mut Self::Context) {
        self.session.do_send(Inbound::Failed(self.failure(None)));
    }
}

/// The response body: what the session sends, and the pipe's own frames (pongs). Every item is whole frames, so the two may
/// alternate freely. Dropped, it tells the session that the transport is gone.
struct Merged<S> {
    inner: Option<Pin<Box<S>>>,
    link: Rc<Link>,
    local: Rc<Local>,
    in_a_row: usize,
    /// Everything was given to the HTTP server, which writes it once this is polled again.
    ending: bool,
}

impl<S: Stream<Item = Result<Bytes, Error>>> Merged<S> {
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
            self.link.finish_writing();
            return Poll::Ready(None);
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<S: Stream<Item = Result<Bytes, Error>>> Stream for Merged<S> {
    type Item = Result<Bytes, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.in_a_row == TURN {
            this.in_a_row = 0;
            if let Poll::Ready(item) = this.poll_inner(cx) {
                return Poll::Ready(Some(item));
            }
        }
        match this.link.outbox.poll_take(cx, this.local.now()) {
            Poll::Ready(Some(frame)) => {
                this.in_a_row += 1;
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => this.poll_end(cx),
            Poll::Pending => {
                this.in_a_row = 0;
                this.poll_inner(cx).map(Some)
            }
        }
    }
}

impl<S> Drop for Merged<S> {
    fn drop(&mut self) {
        self.link.transport_gone();
    }
}
