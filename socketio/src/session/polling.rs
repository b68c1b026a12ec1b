//! Long-polling (Engine.IO protocol 4, "HTTP long-polling") as the session sees it. The requests themselves, which may run on
//! any worker, are in [`crate::transport::polling`].

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
use crate::{close::CloseReason, engine::payload, pulse::LAST_WORDS};

/// The most packets in one answer: some clients refuse more.
const MAX_PACKETS: usize = 16;

/// A GET waits until there is something to send; the body comes through the receiver, which fails if nothing ever will.
#[derive(Message)]
#[rtype(result = "Result<oneshot::Receiver<String>, Misfit>")]
pub(crate) struct Get;

/// The client has given up its GET.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct GetGone;

/// A POST begins; its body is still to be read.
#[derive(Message)]
#[rtype(result = "Result<(), Misfit>")]
pub(crate) struct PostStart;

/// The body of the POST is here.
#[derive(Message)]
#[rtype(result = "Result<(), CloseReason>")]
pub(crate) struct Post(pub(crate) ByteString);

/// The POST came to nothing: the client has broken it off, or it was refused.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct PostGone {
    /// Whether that ends the session.
    pub(crate) fatal: Option<CloseReason>,
}

/// A GET that waits.
pub(super) struct Waiting {
    answer: oneshot::Sender<String>,
    /// The future that watches the outbox for it.
    watch: SpawnHandle,
}

impl<O: Occupant> Session<O> {
    /// Answers the GET that waits with what is queued, if there is anything.
    fn serve_get(&mut self, ctx: &mut Context<Self>) {
        let Some(Waiting { answer, watch }) = self.waiting.take() else { return };
        ctx.cancel_future(watch);
        let mut body = payload::Body::default();
        while body.packets() < MAX_PACKETS
            && let Some(frames) = self.link.outbox.take()
        {
            body.add_frames(frames);
        }
        self.carrier.end_get();
        // The request may be gone; then its own end is on the way here and ends the session.
        let _ = answer.send(body.into_text());
        if self.link.is_over() && self.link.outbox.is_empty() {
            ctx.stop();
        }
    }

    /// Answers the GET that waits with one packet of the engine's own.
    pub(super) fn release_get(&mut self, packet: &str, ctx: &mut Context<Self>) {
        let Some(Waiting { answer, watch }) = self.waiting.take() else { return };
        ctx.cancel_future(watch);
        self.carrier.end_get();
        let _ = answer.send(packet.to_owned());
    }

    /// The session has ended while polling carries it. Its last packets go with the GET that waits or, if the client is to
    /// hear of it at all, with the next one.
    pub(super) fn end_polling(&mut self, reason: CloseReason, ctx: &mut Context<Self>) {
        if self.waiting.is_some() {
            match reason {
                CloseReason::TransportClose => self.release_get("6", ctx),
                _ => return self.serve_get(ctx),
            }
        }
        if reason.is_from_client() {
            ctx.stop();
        } else {
            ctx.run_later(LAST_WORDS, |_, ctx| ctx.stop());
        }
    }
}

impl<O: Occupant> Handler<Get> for Session<O> {
    type Result = Result<oneshot::Receiver<String>, Misfit>;

    fn handle(&mut self, _: Get, ctx: &mut Context<Self>) -> Self::Result {
        if let Err(misfit) = self.carrier.start_get() {
            if misfit == Misfit::Overlap {
                self.release_get("1", ctx);
                self.end(CloseReason::TransportError, ctx);
            }
            return Err(misfit);
        }
        let (answer, body) = oneshot::channel();
        let link = self.link.clone();
        let ready = wrap_future::<_, Self>(poll_fn(move |cx| link.outbox.poll_ready(cx)));
        let watch = ctx.spawn(ready.map(|(), session, ctx| session.serve_get(ctx)));
        self.waiting = Some(Waiting { answer, watch });
        if !self.link.outbox.is_empty() {
            self.serve_get(ctx);
        } else if self.carrier.must_release() {
            self.release_get("6", ctx);
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
    type Result = Result<(), Misfit>;

    fn handle(&mut self, _: PostStart, ctx: &mut Context<Self>) -> Self::Result {
        let started = self.carrier.start_post();
        if started == Err(Misfit::Overlap) {
            self.end(CloseReason::TransportError, ctx);
        }
        started
    }
}

impl<O: Occupant> Handler<Post> for Session<O> {
    type Result = Result<(), CloseReason>;

    fn handle(&mut self, Post(body): Post, ctx: &mut Context<Self>) -> Self::Result {
        self.carrier.end_post();
        let packets = payload::split(&body).map_err(|_| CloseReason::TooLarge);
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
        if let Some(reason) = fatal {
            self.end(reason, ctx);
        }
    }
}
