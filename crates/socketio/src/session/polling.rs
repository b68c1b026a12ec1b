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
    carrier::{Carrier, Misfit},
    occupant::Occupant,
};
use crate::{
    close::CloseReason,
    engine::payload,
    link::{clock::Beat, outbox::Outbox},
    pulse::LAST_WORDS,
};

/// A GET waits until there is something to send.
#[derive(Message)]
#[rtype(result = "Result<Body, Misfit>")]
pub(crate) struct Get;

/// Brings the body of the answer to a GET, or why there is none after all; fails if the session ends without a word.
pub(crate) type Body = oneshot::Receiver<Result<String, Misfit>>;

/// How long a GET waits that comes while a WebSocket is about to take over. The client may have said so already: what it
/// sends over two connections may arrive in either order.
const OVERTAKING: Duration = Duration::from_millis(20);

/// The client has given up its GET.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct GetGone;

/// A POST begins; its body is still to be read. Answers with what waits for the client.
#[derive(Message)]
#[rtype(result = "Result<Arc<Outbox>, Misfit>")]
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
pub(crate) struct PostGone {
    /// Whether that ends the session.
    pub(crate) fatal: Option<CloseReason>,
}

/// A GET that waits.
pub(super) struct Waiting {
    answer: oneshot::Sender<Result<String, Misfit>>,
    /// The future that watches the outbox for it.
    watch: SpawnHandle,
    /// It came after a WebSocket that probes.
    is_late: bool,
    /// What lets it go, so that the WebSocket can take over.
    release: Option<SpawnHandle>,
}

impl<O: Occupant> Session<O> {
    /// A request came. The shard looks at the clock in steps; a session that is overdue in between ends now. Answers whether
    /// it lives.
    fn has_time_left(&mut self, ctx: &mut Context<Self>) -> bool {
        let beat = match self.link.is_over() {
            true => Beat::Rest,
            false => self.link.clock.borrow_mut().tick(self.now()),
        };
        match beat {
            Beat::Rest => true,
            Beat::Ping => {
                self.push_engine("2");
                true
            }
            Beat::Dead(reason) => {
                self.end(reason, ctx);
                false
            }
        }
    }

    /// Answers the GET that waits with what is queued, if there is anything.
    fn serve_get(&mut self, ctx: &mut Context<Self>) {
        let Some(answer) = self.stop_waiting(ctx) else { return };
        let mut body = payload::Body::default();
        while let Some(frames) = self.link.outbox.take_if(|frames| body.has_room_for(frames)) {
            body.add_frames(frames);
            self.link.set_unheard(true);
        }
        // The request may be gone; then its own end is on the way here and ends the session.
        let _ = answer.send(Ok(body.into_text()));
        if self.link.is_over() && self.link.outbox.is_empty() {
            ctx.stop();
        }
    }

    /// Answers the GET that waits with one packet of the engine's own.
    pub(super) fn release_get(&mut self, packet: &str, ctx: &mut Context<Self>) {
        let Some(answer) = self.stop_waiting(ctx) else { return };
        let _ = answer.send(Ok(packet.to_owned()));
    }

    /// A WebSocket is about to take over: the GET that waits must go, at once if it was there before.
    pub(super) fn prepare_to_leave(&mut self, ctx: &mut Context<Self>) {
        match &mut self.waiting {
            Some(waiting) if waiting.is_late => {
                let release = ctx.run_later(OVERTAKING, |session, ctx| session.release_get("6", ctx));
                waiting.release = Some(release);
            }
            _ => self.release_get("6", ctx),
        }
    }

    /// A WebSocket takes over. A GET that came when that was already under way has come to the wrong transport.
    pub(super) fn leave_polling(&mut self, ctx: &mut Context<Self>) {
        if self.waiting.as_ref().is_none_or(|waiting| !waiting.is_late) {
            return self.release_get("6", ctx);
        }
        let Some(answer) = self.stop_waiting(ctx) else { return };
        let _ = answer.send(Err(Misfit::Transport));
    }

    fn stop_waiting(&mut self, ctx: &mut Context<Self>) -> Option<oneshot::Sender<Result<String, Misfit>>> {
        let Waiting { answer, watch, release, .. } = self.waiting.take()?;
        ctx.cancel_future(watch);
        if let Some(release) = release {
            ctx.cancel_future(release);
        }
        self.carrier.end_get();
        Some(answer)
    }

    /// The session has ended while polling carries it. Its last packets go with the GET that waits or, if the client is to
    /// hear of it at all, or has words to hear, with the next one.
    pub(super) fn end_polling(&mut self, reason: CloseReason, has_words: bool, ctx: &mut Context<Self>) {
        if self.waiting.is_some() {
            match reason {
                CloseReason::TransportClose => self.release_get("6", ctx),
                _ => self.serve_get(ctx),
            }
        }
        if reason.is_from_client() && !has_words {
            ctx.stop();
        } else {
            ctx.run_later(LAST_WORDS, |_, ctx| ctx.stop());
        }
    }
}

impl<O: Occupant> Handler<Get> for Session<O> {
    type Result = Result<Body, Misfit>;

    fn handle(&mut self, _: Get, ctx: &mut Context<Self>) -> Self::Result {
        let (answer, body) = oneshot::channel();
        if !self.has_time_left(ctx) {
            return Ok(body);
        }
        if let Err(misfit) = self.carrier.start_get() {
            if misfit == Misfit::Overlap {
                self.release_get("1", ctx);
                self.end(CloseReason::TransportError, ctx);
            }
            return Err(misfit);
        }
        self.link.set_unheard(false);
        let link = self.link.clone();
        let ready = wrap_future::<_, Self>(poll_fn(move |cx| link.outbox.poll_ready(cx)));
        let watch = ctx.spawn(ready.map(|(), session, ctx| session.serve_get(ctx)));
        self.waiting = Some(Waiting { answer, watch, is_late: self.prober.is_some(), release: None });
        if !self.link.outbox.is_empty() {
            self.serve_get(ctx);
        } else if self.carrier.must_release() {
            self.prepare_to_leave(ctx);
        }
        Ok(body)
    }
}

impl<O: Occupant> Handler<GetGone> for Session<O> {
    type Result = ();

    fn handle(&mut self, _: GetGone, ctx: &mut Context<Self>) {
        if matches!(self.carrier, Carrier::Polling { .. }) {
            self.waiting = None;
            self.end(CloseReason::TransportClose, ctx);
        }
    }
}

impl<O: Occupant> Handler<PostStart> for Session<O> {
    type Result = Result<Arc<Outbox>, Misfit>;

    fn handle(&mut self, _: PostStart, ctx: &mut Context<Self>) -> Self::Result {
        let started = self.carrier.start_post();
        if started == Err(Misfit::Overlap) {
            self.end(CloseReason::TransportError, ctx);
        }
        started.map(|()| self.link.outbox.clone())
    }
}

impl<O: Occupant> Handler<Post> for Session<O> {
    type Result = Result<(), CloseReason>;

    fn handle(&mut self, Post(body): Post, ctx: &mut Context<Self>) -> Self::Result {
        self.carrier.end_post();
        self.hear_body(&body, ctx)
    }
}

impl<O: Occupant> Handler<PostPart> for Session<O> {
    type Result = Result<(), CloseReason>;

    fn handle(&mut self, PostPart(body): PostPart, ctx: &mut Context<Self>) -> Self::Result {
        self.hear_body(&body, ctx)
    }
}

impl<O: Occupant> Session<O> {
    fn hear_body(&mut self, body: &str, ctx: &mut Context<Self>) -> Result<(), CloseReason> {
        let packets = payload::split(body).map_err(|_| CloseReason::TooLarge);
        let heard = packets.and_then(|mut packets| {
            packets
                .try_for_each(|packet| if self.link.is_over() { Ok(()) } else { self.hear_text(packet, ctx) })
        });
        match heard {
            Ok(()) => Ok(()),
            Err(reason) => {
                self.end(reason, ctx);
                if reason == CloseReason::TransportClose { Ok(()) } else { Err(reason) }
            }
        }
    }
}

impl<O: Occupant> Handler<PostGone> for Session<O> {
    type Result = ();

    fn handle(&mut self, PostGone { fatal }: PostGone, ctx: &mut Context<Self>) {
        self.carrier.end_post();
        if let Some(reason) = fatal
            && matches!(self.carrier, Carrier::Polling { .. })
        {
            self.end(reason, ctx);
        }
    }
}

#[cfg(test)]
#[path = "polling_tests.rs"]
mod tests;
