//! One CONNECT, from the packet to its answer: recovery, the application's decision, the answer, and the events
//! that the client has sent before it.

use actix::{ActorFutureExt, AsyncContext, fut::wrap_future};
use serde_json::Value;

use super::{NamespaceSlot, Namespaces, machine::Effect, recovery::Start};
use crate::{
    app::{Accepted, App, Connect, Peer, Refusal, Resume},
    close::CloseReason,
    packet,
    session::{Session, handler::SessionContext},
    socket::{Socket, SocketId},
};

/// The application's answer, and the session of the client with [`crate::Config::recovery`].
type Answer<P> = Result<(Accepted<P>, Option<Start>), Refusal>;

impl<A: App> Namespaces<A> {
    /// The client requests to join `namespace`.
    pub(super) fn connect(&mut self, namespace: &str, auth: Value, ctx: &mut SessionContext<Self>) {
        // After a lost connection stock clients try again, after a refusal they do not.
        let Ok(id) = SocketId::random() else { return self.connection.end(CloseReason::ServerClose) };
        let socket = Socket::new(id, namespace, self.connection.clone(), self.local.clone(), &self.config);
        self.slots.push(NamespaceSlot { socket: socket.clone(), peer: None });
        let connect = Connect {
            socket: socket.clone(),
            namespace: namespace.into(),
            resume: Resume::from_auth(&auth),
            auth,
            admission: self.admission.clone(),
        };
        self.pending_connects += 1;
        let answer = wrap_future::<_, Session<Self>>(self.decide(connect));
        ctx.spawn(
            answer.map(move |answer, session, _| session.handler_mut().complete_connect(&socket, answer)),
        );
    }

    /// Recovers the session of the client if the configuration requests it, and asks the application.
    fn decide(&self, connect: Connect<A::Admission>) -> impl Future<Output = Answer<A::Peer>> + use<A> {
        let (app, recovery) = (self.app.clone(), self.recovery.clone());
        let applied = self.local.applied();
        let recovery = recovery.map(|recovery| (recovery.log.position(applied), recovery));
        async move {
            let start = match &recovery {
                Some((since, io)) => {
                    let start = Start::begin(io, &connect.socket, connect.resume.as_ref(), *since).await;
                    Some(start.map_err(|error| Refusal::new(error.to_string()))?)
                }
                None => None,
            };
            Ok((app.connect(connect).await?, start))
        }
    }

    /// The application has answered a CONNECT. The client may have left in the meantime.
    fn complete_connect(&mut self, socket: &Socket, answer: Answer<A::Peer>) {
        self.pending_connects -= 1;
        let is_pending = self.machine.is_joining(socket.namespace())
            && self.slots.iter().any(|slot| slot.socket.is(socket));
        match answer {
            Ok((mut accepted, _)) if !is_pending => accepted.peer.closed(CloseReason::ClientDisconnect),
            Err(_) if !is_pending => {}
            Ok((accepted, start)) => self.accept(socket, accepted, start),
            Err(refusal) => self.reject(socket, &refusal),
        }
    }

    fn accept(&mut self, socket: &Socket, accepted: Accepted<A::Peer>, start: Option<Start>) {
        let Accepted { mut peer, pid, recovered } = accepted;
        // An application that returns a private id recovers its clients itself.
        let (pid, recovered) = match start {
            Some(start) if pid.is_none() => {
                let (pid, recovered) = start.accept(socket);
                (Some(pid), recovered)
            }
            _ => (pid, recovered),
        };
        let namespace = socket.namespace();
        let early = self.machine.joined(namespace);
        self.connection.timer.borrow_mut().on_join();
        self.send(&packet::connect_text(namespace, socket.id().as_str(), pid.as_deref()));
        socket.open(|| peer.connected(), recovered);
        if let Some(slot) = self.slot(namespace) {
            slot.peer = Some(peer);
        }
        for effect in early {
            match effect {
                Effect::Event { namespace, id, args, attachments } => {
                    self.event(&namespace, id, args, attachments);
                }
                Effect::Unreadable { namespace, id, name } => self.unreadable(&namespace, id, &name),
                _ => {}
            }
        }
    }

    fn reject(&mut self, socket: &Socket, refusal: &Refusal) {
        let namespace = socket.namespace();
        self.send(&packet::connect_error_text(namespace, &refusal.message, refusal.data.as_ref()));
        self.machine.refused(namespace);
        self.slots.retain(|slot| !slot.socket.is(socket));
        socket.retire();
    }
}
