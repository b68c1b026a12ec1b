//! Long-polling (Engine.IO protocol 4, "HTTP long-polling") as the session sees it. The requests themselves, which may run on
//! any worker, are in [`crate::transport::polling`].

use std::{sync::Arc, time::Duration};

use actix::{
    ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, SpawnHandle, fut::wrap_future,
};
use bytestring::ByteString;
use futures_util::future::poll_fn;
use tokio::sync::oneshot;

use super::{
    Session,
    handler::SessionHandler,
    transport_state::{TransportConflict, TransportState},
};
use crate::{
    close::CloseReason,
    connection::{heartbeat_timer::HeartbeatAction, send_queue::SendQueue},
    engine::payload,
    heartbeat::CLOSE_TIMEOUT,
};

/// A GET waits until there is something to send.
#[derive(Message)]
#[rtype(result = "Result<Body, TransportConflict>")]
pub(crate) struct Get;

/// Brings the body of the answer to a GET, or why there is none after all; fails if the session ends without a word.
pub(crate) type Body = oneshot::Receiver<Result<String, TransportConflict>>;

/// How long a GET waits that comes while a WebSocket is about to take over. The client may have input so already: what it
/// sends over two connections may arrive in either order.
const UPGRADE_GRACE: Duration = Duration::from_millis(20);

/// The client has given up its GET.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct GetAborted;

/// A POST begins; its body is still to be read. Responses with what waits for the client.
#[derive(Message)]
#[rtype(result = "Result<Arc<SendQueue>, TransportConflict>")]
pub(crate) struct PostStart;

/// The body of the POST is here, or what is left of it.
#[derive(Message)]
#[rtype(result = "Result<(), CloseReason>")]
pub(crate) struct Post(pub(crate) ByteString);

/// The first or the next packets of a body that has more.
#[derive(Message)]
#[rtype(result = "Result<(), CloseReason>")]
pub(crate) struct PostPart(pub(crate) ByteString);

/// The POST came to nothing: the client has broken it off, or it was refused.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct PostAborted {
    /// Whether that ends the session.
    pub(crate) fatal: Option<CloseReason>,
}

/// A GET that waits.
pub(super) struct PendingGet {
    answer: oneshot::Sender<Result<String, TransportConflict>>,
    /// The future that watches the send_queue for it.
    watch: SpawnHandle,
    /// It came after a WebSocket that probes.
    is_late: bool,
    /// What lets it go, so that the WebSocket can take over.
    release: Option<SpawnHandle>,
}

impl<O: SessionHandler> Session<O> {
    /// A request came. The shard looks at the timer in steps; a session that is overdue in between ends now. Responses whether
    /// it lives.
    fn is_within_deadline(&mut self, ctx: &mut Context<Self>) -> bool {
        let beat = match self.connection.is_over() {
            true => HeartbeatAction::Wait,
            false => self.connection.timer.borrow_mut().tick(self.now()),
        };
        match beat {
            HeartbeatAction::Wait => true,
            HeartbeatAction::Ping => {
                self.push_engine("2");
                true
            }
            HeartbeatAction::Close(reason) => {
                self.end(reason, ctx);
                false
            }
        }
    }

    /// Responses the GET that waits with what is queued, if there is anything.
    fn serve_get(&mut self, ctx: &mut Context<Self>) {
        let Some(answer) = self.take_pending_get(ctx) else { return };
        let mut body = payload::Body::default();
        while let Some(frames) = self.connection.send_queue.take_if(|frames| body.fits(frames)) {
            body.add_frames(frames);
            self.connection.set_unconfirmed(true);
        }
        // The request may be gone; then its own end is on the way here and ends the session.
        let _ = answer.send(Ok(body.into_text()));
        if self.connection.is_over() && self.connection.send_queue.is_empty() {
            ctx.stop();
        }
    }

    /// Responses the GET that waits with one packet of the engine's own.
    pub(super) fn release_get(&mut self, packet: &str, ctx: &mut Context<Self>) {
        let Some(answer) = self.take_pending_get(ctx) else { return };
        let _ = answer.send(Ok(packet.to_owned()));
    }

    /// A WebSocket is about to take over: the GET that waits must go, at once if it was there before.
    pub(super) fn prepare_upgrade(&mut self, ctx: &mut Context<Self>) {
        match &mut self.pending_get {
            Some(pending_get) if pending_get.is_late => {
                let release = ctx.run_later(UPGRADE_GRACE, |session, ctx| session.release_get("6", ctx));
                pending_get.release = Some(release);
            }
            _ => self.release_get("6", ctx),
        }
    }

    /// A WebSocket takes over. A GET that came when that was already under way has come to the wrong transport.
    pub(super) fn finish_upgrade(&mut self, ctx: &mut Context<Self>) {
        if self.pending_get.as_ref().is_none_or(|pending_get| !pending_get.is_late) {
            return self.release_get("6", ctx);
        }
        let Some(answer) = self.take_pending_get(ctx) else { return };
        let _ = answer.send(Err(TransportConflict::WrongTransport));
    }

    fn take_pending_get(
        &mut self,
        ctx: &mut Context<Self>,
    ) -> Option<oneshot::Sender<Result<String, TransportConflict>>> {
        let PendingGet { answer, watch, release, .. } = self.pending_get.take()?;
        ctx.cancel_future(watch);
        if let Some(release) = release {
            ctx.cancel_future(release);
        }
        self.transport.end_get();
        Some(answer)
    }

    /// The session has ended while polling carries it. Its last packets go with the GET that waits or, if the client is to
    /// hear of it at all, or has words to hear, with the next one.
    pub(super) fn end_polling(
        &mut self,
        reason: CloseReason,
        has_queued_frames: bool,
        ctx: &mut Context<Self>,
    ) {
        if self.pending_get.is_some() {
            match reason {
                CloseReason::TransportClose => self.release_get("6", ctx),
                _ => self.serve_get(ctx),
            }
        }
        if reason.is_from_client() && !has_queued_frames {
            ctx.stop();
        } else {
            ctx.run_later(CLOSE_TIMEOUT, |_, ctx| ctx.stop());
        }
    }
}

impl<O: SessionHandler> Handler<Get> for Session<O> {
    type Result = Result<Body, TransportConflict>;

    fn handle(&mut self, _: Get, ctx: &mut Context<Self>) -> Self::Result {
        let (answer, body) = oneshot::channel();
        if !self.is_within_deadline(ctx) {
            return Ok(body);
        }
        if let Err(conflict) = self.transport.start_get() {
            if conflict == TransportConflict::Overlap {
                self.release_get("1", ctx);
                self.end(CloseReason::TransportError, ctx);
            }
            return Err(conflict);
        }
        self.connection.set_unconfirmed(false);
        let connection = self.connection.clone();
        let ready = wrap_future::<_, Self>(poll_fn(move |cx| connection.send_queue.poll_ready(cx)));
        let watch = ctx.spawn(ready.map(|(), session, ctx| session.serve_get(ctx)));
        self.pending_get =
            Some(PendingGet { answer, watch, is_late: self.probing_pipe.is_some(), release: None });
        if !self.connection.send_queue.is_empty() {
            self.serve_get(ctx);
        } else if self.transport.must_release_get() {
            self.prepare_upgrade(ctx);
        }
        Ok(body)
    }
}

impl<O: SessionHandler> Handler<GetAborted> for Session<O> {
    type Result = ();

    fn handle(&mut self, _: GetAborted, ctx: &mut Context<Self>) {
        if matches!(self.transport, TransportState::Polling { .. }) {
            self.pending_get = None;
            self.end(CloseReason::TransportClose, ctx);
        }
    }
}

impl<O: SessionHandler> Handler<PostStart> for Session<O> {
    type Result = Result<Arc<SendQueue>, TransportConflict>;

    fn handle(&mut self, _: PostStart, ctx: &mut Context<Self>) -> Self::Result {
        let started = self.transport.start_post();
        if started == Err(TransportConflict::Overlap) {
            self.end(CloseReason::TransportError, ctx);
        }
        started.map(|()| self.connection.send_queue.clone())
    }
}

impl<O: SessionHandler> Handler<Post> for Session<O> {
    type Result = Result<(), CloseReason>;

    fn handle(&mut self, Post(body): Post, ctx: &mut Context<Self>) -> Self::Result {
        self.transport.end_post();
        self.receive_body(&body, ctx)
    }
}

impl<O: SessionHandler> Handler<PostPart> for Session<O> {
    type Result = Result<(), CloseReason>;

    fn handle(&mut self, PostPart(body): PostPart, ctx: &mut Context<Self>) -> Self::Result {
        self.receive_body(&body, ctx)
    }
}

impl<O: SessionHandler> Session<O> {
    fn receive_body(&mut self, body: &str, ctx: &mut Context<Self>) -> Result<(), CloseReason> {
        let packets = payload::split(body).map_err(|_| CloseReason::TooLarge);
        let received = packets.and_then(|mut packets| {
            packets.try_for_each(|packet| {
                if self.connection.is_over() { Ok(()) } else { self.receive_text(packet, ctx) }
            })
        });
        match received {
            Ok(()) => Ok(()),
            Err(reason) => {
                self.end(reason, ctx);
                if reason == CloseReason::TransportClose { Ok(()) } else { Err(reason) }
            }
        }
    }
}

impl<O: SessionHandler> Handler<PostAborted> for Session<O> {
    type Result = ();

    fn handle(&mut self, PostAborted { fatal }: PostAborted, ctx: &mut Context<Self>) {
        self.transport.end_post();
        if let Some(reason) = fatal
            && matches!(self.transport, TransportState::Polling { .. })
        {
            self.end(reason, ctx);
        }
    }
}

#[cfg(test)]
#[path = "polling_tests.rs"]
mod tests;
