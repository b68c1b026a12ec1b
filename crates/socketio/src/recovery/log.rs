//! The log of a process: numbers the broadcasts of an [`Io`], stores events and sessions. Shared by all workers.
//!
//! A broadcast gets its number and enters the mailboxes of all shards under one lock, so that every worker
//! applies the broadcasts in the order of their numbers.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tokio::sync::Notify;

use super::{
    ClientOffset,
    events::{Events, Recipient, Recipients},
    session::{Disconnected, SessionState, Sessions},
};
use crate::{
    Encoded, Recovery, Room,
    app::Resume,
    engine::handshake::{NoEntropy, new_id},
    operation::{Emit, Operation, Target},
    socket::{Leaving, Position, Recovered, SocketId},
};

/// The log of a process. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Log(Arc<Inner>);

struct Inner {
    limits: Recovery,
    /// The most bytes that one client may have missed.
    max_missed: usize,
    /// Distinguishes the offsets of this log from those of another one.
    epoch: String,
    state: Mutex<State>,
    /// Notified when a client has disconnected.
    disconnected: Notify,
}

#[derive(Default)]
struct State {
    /// The number of the last broadcast.
    last: u64,
    /// The number of the last event to one socket.
    directs: u64,
    events: Events,
    sessions: Sessions,
}

/// A session while a client resumes it. Dropping this value before the end makes the session available again.
pub(crate) struct Resuming {
    log: Log,
    pub(crate) pid: String,
    pub(crate) sid: SocketId,
    /// The session's state before. `None` once it was resumed.
    disconnected: Option<Disconnected>,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").finish_non_exhaustive()
    }
}

impl Log {
    /// An empty log.
    ///
    /// # Errors
    /// [`NoEntropy`].
    pub(crate) fn new(limits: Recovery, max_missed: usize) -> Result<Self, NoEntropy> {
        let (state, disconnected) = Default::default();
        Ok(Self(Arc::new(Inner { limits, max_missed, epoch: new_id()?, state, disconnected })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Numbers and stores the events of a batch, and passes the batch on with the number of the last broadcast.
    /// No other batch is numbered before `pass_on` has returned.
    pub(crate) fn publish<T>(
        &self,
        batch: Vec<Operation>,
        pass_on: impl FnOnce(Vec<Operation>, u64) -> T,
    ) -> T {
        let mut state = self.state();
        let batch = batch.into_iter().map(|operation| self.number(&mut state, operation)).collect();
        pass_on(batch, state.last)
    }

    fn number(&self, state: &mut State, operation: Operation) -> Operation {
        match operation {
            Operation::Emit(emit) => {
                let target = || Target {
                    namespace: emit.namespace.clone(),
                    rooms: emit.rooms.clone(),
                    except: emit.except.iter().map(SocketId::room).collect(),
                    within: None,
                };
                let packet = self.broadcast(state, &emit.packet, emit.volatile, target);
                Operation::Emit(Emit { packet, ..emit })
            }
            Operation::Send { to, packet, volatile } => {
                let packet = self.broadcast(state, &packet, volatile, || to.clone());
                Operation::Send { to, packet, volatile }
            }
            other => other,
        }
    }

    /// Adds the offset to a packet and stores it. A volatile event is not stored. It has an offset only if its
    /// last argument is a string, because stock clients would store this string as offset. An event with a
    /// position of its own belongs to a log of the application.
    fn broadcast(
        &self,
        state: &mut State,
        packet: &Encoded,
        volatile: bool,
        target: impl FnOnce() -> Target,
    ) -> Encoded {
        if packet.position().is_some() || (volatile && !packet.ends_with_string()) {
            return packet.clone();
        }
        let position = Position::broadcast(state.last + 1);
        let Some(numbered) = packet.with_offset(&position.offset(&self.0.epoch)) else {
            return packet.clone();
        };
        let numbered = numbered.at(position.broadcast);
        state.last = position.broadcast;
        if !volatile {
            let recipients = Recipients::Target(target());
            state.events.store(position, state.last, recipients, numbered.clone(), &self.0.limits);
        }
        numbered
    }

    /// Adds the offset to an event to one socket and stores it. `applied` is the number of the last broadcast
    /// before it.
    pub(crate) fn direct(
        &self,
        sid: &SocketId,
        packet: &Encoded,
        applied: u64,
    ) -> Option<(Encoded, Position)> {
        let mut state = self.state();
        let position = Position { broadcast: applied, direct: state.directs + 1 };
        let numbered = packet.with_offset(&position.offset(&self.0.epoch))?;
        state.directs = position.direct;
        let (last, recipients) = (state.last, Recipients::Socket(sid.clone()));
        state.events.store(position, last, recipients, numbered.clone(), &self.0.limits);
        Some((numbered, position))
    }

    /// The position after all events of a socket whose worker has applied the broadcasts up to `applied`.
    pub(crate) fn position(&self, applied: u64) -> Position {
        Position { broadcast: applied, direct: self.state().directs }
    }

    /// Calls `add` with the number of the last broadcast. Broadcasts with later numbers wait until it returns.
    pub(crate) fn at_rest<T>(&self, add: impl FnOnce(u64) -> T) -> T {
        let state = self.state();
        add(state.last)
    }

    /// Adds a session whose client is connected.
    pub(crate) fn add(&self, pid: &str, sid: SocketId, namespace: &str, since: Position) {
        self.state().sessions.add(pid.into(), sid, namespace.into(), since);
    }

    /// Whether the session can still be resumed, or its client is connected.
    pub(crate) fn contains(&self, pid: &str) -> bool {
        self.state().sessions.get(pid).is_some()
    }

    /// A client has disconnected for a recoverable reason.
    pub(crate) fn disconnect(&self, pid: &str, leaving: Leaving) {
        let disconnected = Disconnected { at: Instant::now(), leaving };
        self.state().sessions.disconnect(pid, disconnected, &self.0.limits);
        self.0.disconnected.notify_waiters();
    }

    /// A client has disconnected for a reason that is not recoverable.
    pub(crate) fn remove(&self, pid: &str) {
        self.state().sessions.remove(pid);
        self.0.disconnected.notify_waiters();
    }

    /// Drops what is older than the window.
    pub(crate) fn expire(&self) {
        let (mut state, now) = (self.state(), Instant::now());
        state.events.expire(now, &self.0.limits);
        state.sessions.expire(now, &self.0.limits);
    }

    /// The socket of a session that is still connected, as far as the server has noticed.
    pub(crate) fn connected_socket(&self, pid: &str, namespace: &str) -> Option<SocketId> {
        let state = self.state();
        let session = state.sessions.get(pid).filter(|session| *session.namespace == *namespace)?;
        state.sessions.is_connected(pid).then(|| session.sid.clone())
    }

    /// Resolves when the client of a session is not connected.
    pub(crate) async fn until_disconnected(&self, pid: &str) {
        loop {
            // Registered before the check, so that a disconnect between the two is not missed.
            let mut disconnected = std::pin::pin!(self.0.disconnected.notified());
            disconnected.as_mut().enable();
            if !self.state().sessions.is_connected(pid) {
                return;
            }
            disconnected.await;
        }
    }

    /// Begins to resume a session of `namespace`.
    ///
    /// # Errors
    /// Why it cannot be recovered.
    pub(crate) fn resume(
        &self,
        resume: &Resume,
        namespace: &str,
    ) -> Result<(Resuming, Recovered, Position), &'static str> {
        let state = &mut *self.state();
        state.sessions.expire(Instant::now(), &self.0.limits);
        let session = state.sessions.get(&resume.pid).ok_or("the session is unknown")?;
        if *session.namespace != *namespace {
            return Err("the session belongs to another namespace");
        }
        let SessionState::Disconnected(Disconnected { leaving, .. }) = &session.state else {
            return Err("the session is in use");
        };
        let offset = resume.offset.as_deref().map(|offset| Position::parse(offset, &self.0.epoch));
        let start = ClientOffset::replay_start(offset, session.since, leaving.read)?;
        // Stock clients keep the offset of an earlier session until they receive an event.
        let mut start = start.max(session.since);
        if start == leaving.sent {
            // The client has received everything that was sent to it.
            start = start.max(leaving.through);
        }
        if start > (Position { broadcast: state.last, direct: state.directs }) {
            return Err("the offset is beyond the end of the log");
        }
        let recipient = Recipient { sid: &session.sid, namespace, rooms: &leaving.rooms };
        let missed = state.events.missed(start, &recipient, self.0.max_missed);
        let (missed, last) = missed.ok_or("the log does not contain all missed events")?;
        let sid = session.sid.clone();
        let disconnected = state.sessions.begin_resume(&resume.pid);
        let resuming = Resuming { log: self.clone(), pid: resume.pid.clone(), sid, disconnected };
        Ok((resuming, Recovered { missed, reached: state.last }, last.unwrap_or(start)))
    }
}

#[cfg(test)]
impl Log {
    pub(super) fn event_count(&self) -> usize {
        self.state().events.len()
    }

    pub(super) fn session_counts(&self) -> (usize, usize) {
        self.state().sessions.counts()
    }
}

impl Resuming {
    /// The rooms of the session.
    pub(crate) fn rooms(&self) -> &[Room] {
        self.disconnected.as_ref().map_or(&[], |disconnected| &disconnected.leaving.rooms)
    }

    /// The session was resumed.
    pub(crate) fn finish(mut self) {
        self.disconnected = None;
        self.log.state().sessions.finish_resume(&self.pid);
    }
}

impl Drop for Resuming {
    fn drop(&mut self) {
        if let Some(disconnected) = self.disconnected.take() {
            self.log.state().sessions.disconnect(&self.pid, disconnected, &self.log.0.limits);
        }
    }
}
