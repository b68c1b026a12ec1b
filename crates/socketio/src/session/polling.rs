//! The session's part of long-polling (Engine.IO protocol 4, "HTTP long-polling"). `transport::polling` handles
//! the HTTP requests, on any worker.

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
    request::RequestHead,
};

/// A GET, with its head if heads are kept: waits until packets are queued.
#[derive(Message)]
#[rtype(result = "Result<PollBody, TransportConflict>")]
pub(crate) struct Get(pub(crate) Option<Arc<RequestHead>>);

/// Resolves to the body of a GET's response, or to the conflict that prevents one. Fails if the session ends
/// without a response.
pub(crate) type PollBody = oneshot::Receiver<Result<String, TransportConflict>>;

/// How long a GET that arrives during an upgrade waits. The client may have completed the upgrade already:
/// messages over two connections may arrive in either order.
const UPGRADE_GRACE: Duration = Duration::from_millis(20);

/// Time that a session waits for the next GET after an aborted one. A client that half-closes its connections sends the next GET at
/// once.
const ABSENCE: Duration = Duration::from_secs(2);

/// The client has aborted its GET.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct GetAborted;

/// A POST begins, with its head if heads are kept; its body is not read yet. Returns the client's send queue.
#[derive(Message)]
#[rtype(result = "Result<Arc<SendQueue>, TransportConflict>")]
pub(crate) struct PostStart(pub(crate) Option<Arc<RequestHead>>);

/// The last part of a POST's body.
#[derive(Message)]
#[rtype(result = "Result<(), CloseReason>")]
pub(crate) struct Post(pub(crate) ByteString);

/// A part of a POST's body that is not the last.
#[derive(Message)]
#[rtype(result = "Result<(), CloseReason>")]
pub(crate) struct PostPart(pub(crate) ByteString);

/// The POST failed: the client has aborted it, or it was refused.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct PostAborted {
    /// The reason to end the session, if any.
    pub(crate) fatal: Option<CloseReason>,
}

/// A pending GET.
pub(super) struct PendingGet {
    answer: oneshot::Sender<Result<String, TransportConflict>>,
    /// The future that watches the send queue.
    watch: SpawnHandle,
    /// Whether it arrived after a WebSocket began to probe.
    is_late: bool,
    /// The timer that releases it for the upgrade.
    release: Option<SpawnHandle>,
}

impl<T: SessionHandler> Session<T> {
    /// A request was received. The shard checks the timer only in steps, so an overdue session ends here.
    /// Returns whether the session is open.
    fn is_within_deadline(&mut self, ctx: &mut Context<Self>) -> bool {
        let action = match self.connection.is_over() {
            true => HeartbeatAction::Wait,
            false => self.connection.timer.borrow_mut().tick(self.now()),
        };
        match action {
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

    /// Answers the pending GET with the queued packets, if there are any.
    fn serve_get(&mut self, ctx: &mut Context<Self>) {
        let Some(answer) = self.take_pending_get(ctx) else { return };
        let mut body = payload::Body::default();
        while let Some(frames) = self.connection.send_queue.take_if(|frames| body.fits(frames)) {
            body.add_frames(frames);
            self.connection.set_unconfirmed(true);
        }
        // The request may be aborted. Then its `GetAborted` message ends the session.
        let _ = answer.send(Ok(body.into_text()));
        if self.connection.is_over() && self.connection.send_queue.is_empty() {
            ctx.stop();
        }
    }

    /// Answers the pending GET with one Engine.IO packet.
    pub(super) fn release_get(&mut self, packet: &str, ctx: &mut Context<Self>) {
        let Some(answer) = self.take_pending_get(ctx) else { return };
        let _ = answer.send(Ok(packet.to_owned()));
    }

    /// An upgrade is about to complete: releases the pending GET, at once if it arrived before the probe.
    pub(super) fn prepare_upgrade(&mut self, ctx: &mut Context<Self>) {
        match &mut self.pending_get {
            Some(pending_get) if pending_get.is_late => {
                let release = ctx.run_later(UPGRADE_GRACE, |session, ctx| session.release_get("6", ctx));
                pending_get.release = Some(release);
            }
            _ => self.release_get("6", ctx),
        }
    }

    /// An upgrade is complete. A pending GET that arrived after the probe gets an error: it used the wrong
    /// transport.
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

    /// The session has ended on long-polling. Its last packets are sent with the pending GET, or with the
    /// next one if the server has ended it, or `waits_for_poll`.
    pub(super) fn end_polling(&mut self, reason: CloseReason, waits_for_poll: bool, ctx: &mut Context<Self>) {
        if self.pending_get.is_some() {
            match reason {
                CloseReason::TransportClose => self.release_get("6", ctx),
                _ => self.serve_get(ctx),
            }
        }
        if reason.is_caused_by_client() && !waits_for_poll {
            ctx.stop();
        } else {
            ctx.run_later(CLOSE_TIMEOUT, |_, ctx| ctx.stop());
        }
    }
}

impl<T: SessionHandler> Handler<Get> for Session<T> {
    type Result = Result<PollBody, TransportConflict>;

    fn handle(&mut self, Get(head): Get, ctx: &mut Context<Self>) -> Self::Result {
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
        if let Some(absence) = self.absence.take() {
            ctx.cancel_future(absence);
        }
        self.connection.set_unconfirmed(false);
        self.connection.set_request(head);
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

impl<T: SessionHandler> Handler<GetAborted> for Session<T> {
    type Result = ();

    fn handle(&mut self, _: GetAborted, ctx: &mut Context<Self>) {
        if !matches!(self.transport, TransportState::Polling { .. }) {
            return;
        }
        // What an answer has taken is lost with its request.
        let is_lost = self.take_pending_get(ctx).is_none();
        if is_lost || self.connection.is_over() {
            return self.end(CloseReason::TransportClose, ctx);
        }
        self.absence = Some(ctx.run_later(ABSENCE, |session, ctx| {
            session.absence = None;
            if matches!(session.transport, TransportState::Polling { .. }) {
                session.end(CloseReason::TransportClose, ctx);
            }
        }));
    }
}

impl<T: SessionHandler> Handler<PostStart> for Session<T> {
    type Result = Result<Arc<SendQueue>, TransportConflict>;

    fn handle(&mut self, PostStart(head): PostStart, ctx: &mut Context<Self>) -> Self::Result {
        let started = self.transport.start_post();
        if started == Err(TransportConflict::Overlap) {
            self.end(CloseReason::TransportError, ctx);
        }
        started.map(|()| {
            self.post_head = head;
            self.connection.send_queue.clone()
        })
    }
}

impl<T: SessionHandler> Handler<Post> for Session<T> {
    type Result = Result<(), CloseReason>;

    fn handle(&mut self, Post(body): Post, ctx: &mut Context<Self>) -> Self::Result {
        self.transport.end_post();
        self.receive_body(&body, ctx)
    }
}

impl<T: SessionHandler> Handler<PostPart> for Session<T> {
    type Result = Result<(), CloseReason>;

    fn handle(&mut self, PostPart(body): PostPart, ctx: &mut Context<Self>) -> Self::Result {
        self.receive_body(&body, ctx)
    }
}

impl<T: SessionHandler> Session<T> {
    fn receive_body(&mut self, body: &str, ctx: &mut Context<Self>) -> Result<(), CloseReason> {
        // A GET may have arrived after the POST began.
        self.connection.set_request(self.post_head.clone());
        let packets = payload::split(body).map_err(|_| CloseReason::TooLarge.into());
        let received = packets.and_then(|mut packets| {
            packets.try_for_each(|packet| {
                if self.connection.is_over() { Ok(()) } else { self.receive_text(packet, ctx) }
            })
        });
        match received {
            Ok(()) => Ok(()),
            Err(violation) => {
                self.end(violation, ctx);
                // The POST itself is valid. A client that receives an error for it would not poll again.
                let is_answered = violation.is_of_message || violation.reason == CloseReason::TransportClose;
                if is_answered { Ok(()) } else { Err(violation.reason) }
            }
        }
    }
}

impl<T: SessionHandler> Handler<PostAborted> for Session<T> {
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
