//! Requests to actors whose answers may come later. Unlike actix's own requests they are sent by `try_send`: a full mailbox refuses at
//! once, and callers do not queue. Called by clients and HTTP; answered by [`crate::room`].

use std::time::Instant;

use actix::{
    Actor, Addr, Context, Handler, Message,
    dev::{ToEnvelope, channel},
    prelude::SendError,
};
use tokio::{sync::oneshot, time::timeout_at};

use crate::Error;

/// Capacity of a mailbox in messages.
pub const MAILBOX: usize = 1024;

/// A request to an actor.
pub trait Question: Send + 'static {
    /// The type of a successful answer.
    type Answer: Send + 'static;
}

/// A request with the sender of its answer.
pub struct Ask<Q: Question> {
    /// The request.
    pub question: Q,
    /// Receives the answer. If it is dropped, the caller receives an error.
    pub reply: Reply<Q::Answer>,
    /// Whether this is the second attempt, after the actor has revalidated its state.
    pub again: bool,
}

/// The sender of an answer.
pub struct Reply<T>(oneshot::Sender<Result<T, Error>>);

/// The receiver of an answer.
pub struct Pending<T>(oneshot::Receiver<Result<T, Error>>);

/// The error of a request that could not be sent.
pub enum AskError<Q> {
    /// The actor's mailbox is full.
    Full,
    /// The actor has ended. Contains the request.
    Gone(Q),
}

impl<Q: Question> Message for Ask<Q> {
    type Result = ();
}

impl<T> Reply<T> {
    /// Sends the answer.
    pub fn send(self, answer: Result<T, Error>) {
        // The caller may have timed out.
        let _ = self.0.send(answer);
    }

    /// Whether the caller no longer waits.
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

impl<T> Pending<T> {
    /// Waits for the answer until `deadline`.
    ///
    /// # Errors
    /// The actor's error, or [`Error::Unavailable`] when the deadline expires.
    pub async fn until(self, deadline: Instant) -> Result<T, Error> {
        timeout_at(deadline.into(), self.answer()).await.unwrap_or_else(|_| Err(Error::late()))
    }

    /// Waits for the answer without a deadline. The caller sets a timeout.
    ///
    /// # Errors
    /// The actor's error, or [`Error::Unavailable`] when it ends without an answer.
    pub async fn answer(self) -> Result<T, Error> {
        self.0.await.unwrap_or_else(|_| Err(Error::gone()))
    }
}

/// Sends `question` to the actor.
pub fn ask<A, Q>(addr: &Addr<A>, question: Q) -> Result<Pending<Q::Answer>, AskError<Q>>
where
    A: Actor + Handler<Ask<Q>>,
    A::Context: ToEnvelope<A, Ask<Q>>,
    Q: Question,
{
    let (reply, answer) = oneshot::channel();
    match addr.try_send(Ask { question, reply: Reply(reply), again: false }) {
        Ok(()) => Ok(Pending(answer)),
        Err(SendError::Full(_)) => Err(AskError::Full),
        Err(SendError::Closed(ask)) => Err(AskError::Gone(ask.question)),
    }
}

/// Starts an actor with a mailbox of [`MAILBOX`] messages from the first message on. A mailbox of actix starts with 16.
pub fn start<A: Actor<Context = Context<A>>>(make: impl FnOnce(&mut Context<A>) -> A) -> Addr<A> {
    let (_, mailbox) = channel::channel(MAILBOX);
    let mut context = Context::with_receiver(mailbox);
    let actor = make(&mut context);
    context.run(actor)
}
