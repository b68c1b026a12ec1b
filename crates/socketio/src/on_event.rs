//! The smallest application: one function handles every event of every client. Built on [`App`] and [`Peer`].

use std::sync::Arc;

use actix_web::HttpRequest;
use futures_util::future::LocalBoxFuture;

use crate::{
    app::{Accepted, App, Connect, Event, Peer, Refusal},
    close::CloseReason,
    socket::{Reply, Socket},
};

/// The application that [`on_event`] returns.
pub struct OnEvent<F>(Arc<F>);

/// The handler of one client of [`OnEvent`].
pub struct Listener<F> {
    handler: Arc<F>,
    socket: Socket,
}

/// An application that accepts every client in `/` and calls `handler` for every event, in the order in which
/// the client sent them. Without a reply the client requests no ack. An application that must handle connects
/// and disconnects implements [`App`] itself.
pub fn on_event<F>(handler: F) -> OnEvent<F>
where
    F: Fn(&Socket, Event, Option<Reply>) + Send + Sync + 'static,
{
    OnEvent(Arc::new(handler))
}

impl<F: Fn(&Socket, Event, Option<Reply>) + Send + Sync + 'static> App for OnEvent<F> {
    type Admission = ();
    type Peer = Listener<F>;

    fn admit(&self, _: &HttpRequest) -> Result<(), Refusal> {
        Ok(())
    }

    fn connect(
        &self,
        connect: Connect<()>,
    ) -> LocalBoxFuture<'static, Result<Accepted<Listener<F>>, Refusal>> {
        let listener = Listener { handler: self.0.clone(), socket: connect.socket };
        Box::pin(async move {
            match &*connect.namespace {
                "/" => Ok(Accepted::new(listener)),
                _ => Err(Refusal::new("Invalid namespace")),
            }
        })
    }
}

impl<F: Fn(&Socket, Event, Option<Reply>) + 'static> Peer for Listener<F> {
    fn event(&mut self, event: Event, reply: Option<Reply>) {
        (self.handler)(&self.socket, event, reply);
    }

    fn closed(&mut self, _: CloseReason) {}
}
