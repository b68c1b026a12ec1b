//! A question to an actor with an answer that may come later. Unlike actix's own request it is sent by `try_send`: a full
//! mailbox refuses at once, and nobody waits in line. Clients and HTTP ask, [`crate::room`] answers.

use std::time::Instant;

use actix::{
    Actor, Addr, Context, Handler, Message,
    dev::{ToEnvelope, channel},
    prelude::SendError,
};
use tokio::{sync::oneshot, time::timeout_at};

use crate::Error;

/// How many messages may wait in a mailbox.
pub const MAILBOX: usize = 1024;

/// Something that can be asked.
pub trait Question: Send + 'static {
    /// What a good answer is.
    type Answer: Send + 'static;
}

/// A question on its way, and where its answer goes.
pub struct Ask<Q: Question> {
    /// What is asked.
    pub question: Q,
    /// Takes the answer; dropped, it says that there is none.
    pub reply: Reply<Q::Answer>,
    /// Whether it is asked for the second time, of an actor that has made sure of what it knows.
    pub again: bool,
}

/// The way back.
pub struct Reply<T>(oneshot::Sender<Result<T, Error>>);

/// An answer to come.
pub struct Pending<T>(oneshot::Receiver<Result<T, Error>>);

/// Why a question did not even reach its actor.
pub enum Unasked<Q> {
    /// Its mailbox is full.
    Full,
    /// It has ended; the question comes back.
    Gone(Q),
}

impl<Q: Question> Message for Ask<Q> {
    type Result = ();
}

impl<T> Reply<T> {
    /// Answers.
    pub fn send(self, answer: Result<T, Error>) {
        // Whoever asked may have given up.
        let _ = self.0.send(answer);
    }

    /// Whether nobody waits any more.
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

impl<T> Pending<T> {
    /// Waits for the answer, until `deadline` at most.
    ///
    /// # Errors
    /// The actor's own, or [`Error::Unavailable`] when there is none in time.
    pub async fn until(self, deadline: Instant) -> Result<T, Error> {
        timeout_at(deadline.into(), self.answer()).await.unwrap_or_else(|_| Err(Error::late()))
    }

    /// Waits for the answer, however long it takes: for those whose caller keeps the time.
    ///
    /// # Errors
    /// The actor's own, or [`Error::Unavailable`] when it ends without one.
    pub async fn answer(self) -> Result<T, Error> {
        self.0.await.unwrap_or_else(|_| Err(Error::gone()))
    }
}

/// Asks `question`; the answer comes later.
pub fn ask<A, Q>(addr: &Addr<A>, question: Q) -> Result<Pending<Q::Answer>, Unasked<Q>>
where
    A: Actor + Handler<Ask<Q>>,
    A::Context: ToEnvelope<A, Ask<Q>>,
    Q: Question,
{
    let (reply, answer) = oneshot::channel();
    match addr.try_send(Ask { question, reply: Reply(reply), again: false }) {
        Ok(()) => Ok(Pending(answer)),
        Err(SendError::Full(_)) => Err(Unasked::Full),
        Err(SendError::Closed(ask)) => Err(Unasked::Gone(ask.question)),
    }
}

/// Starts an actor whose mailbox is [`MAILBOX`] long from the first message on (actix's own starts with 16).
pub fn start<A: Actor<Context = Context<A>>>(make: impl FnOnce(&mut Context<A>) -> A) -> Addr<A> {
    let (_, mailbox) = channel::channel(MAILBOX);
    let mut context = Context::with_receiver(mailbox);
    let actor = make(&mut context);
    context.run(actor)
}
