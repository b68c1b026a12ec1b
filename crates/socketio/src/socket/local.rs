//! The sockets of one worker, their rooms and the heartbeats of their sessions. Single-threaded: sockets call
//! it directly, other workers through the shard.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
};

use futures_util::future::join_all;

use super::{Socket, SocketLog, room_table::RoomTable};
use crate::{Config, Room, close::CloseReason, heartbeat::Heartbeats};

/// The sockets of one worker.
pub(crate) struct LocalSockets {
    namespaces: RefCell<HashMap<Rc<str>, RoomTable<Socket>>>,
    /// The heartbeats of the worker's sessions.
    pub(crate) heartbeats: Heartbeats,
    /// The log for connection state recovery.
    log: Option<Rc<dyn SocketLog>>,
    /// The number of the last broadcast of the log that this worker has applied.
    applied: Cell<u64>,
}

impl LocalSockets {
    /// A worker without sockets.
    pub(crate) fn new(config: &Config, log: Option<Rc<dyn SocketLog>>) -> Self {
        Self {
            namespaces: RefCell::default(),
            heartbeats: Heartbeats::new(config),
            log,
            applied: Cell::default(),
        }
    }

    /// The log for connection state recovery.
    pub(super) fn log(&self) -> Option<&dyn SocketLog> {
        self.log.as_deref()
    }

    /// The number of the last broadcast of the log that this worker has applied.
    pub(crate) fn applied(&self) -> u64 {
        self.applied.get()
    }

    /// This worker has applied the broadcasts of the log up to `number`.
    pub(crate) fn set_applied(&self, number: u64) {
        self.applied.set(number);
    }

    /// Advances the heartbeats, and drops what is too old for recovery.
    pub(crate) fn advance(&self) {
        self.heartbeats.advance();
        if let Some(log) = &self.log {
            log.expire();
        }
    }

    /// Adds a socket to its namespace. Returns its key.
    pub(crate) fn add(&self, socket: &Socket) -> usize {
        let mut namespaces = self.namespaces.borrow_mut();
        match namespaces.get_mut(socket.namespace()) {
            Some(table) => table.add(socket.clone()),
            None => namespaces.entry(socket.namespace().into()).or_default().add(socket.clone()),
        }
    }

    /// Removes a socket from its namespace.
    pub(crate) fn remove(&self, namespace: &str, key: usize) {
        self.table(namespace, |table| table.remove(key));
    }

    /// Adds a socket to a room.
    pub(crate) fn join(&self, namespace: &str, key: usize, room: &Room) {
        self.table(namespace, |table| table.join(key, room));
    }

    /// Removes a socket from a room.
    pub(crate) fn leave(&self, namespace: &str, key: usize, room: &Room) {
        self.table(namespace, |table| table.leave(key, room));
    }

    /// Whether a socket is in a room.
    pub(crate) fn is_in(&self, namespace: &str, key: usize, room: &Room) -> bool {
        self.table(namespace, |table| table.is_in(key, room)).unwrap_or(false)
    }

    /// The rooms a socket is in.
    pub(crate) fn rooms_of(&self, namespace: &str, key: usize) -> Vec<Room> {
        self.table(namespace, |table| table.rooms_of(key)).unwrap_or_default()
    }

    /// Applies `apply` to the sockets of a namespace. `None` if the namespace has no sockets.
    pub(crate) fn table<T>(
        &self,
        namespace: &str,
        apply: impl FnOnce(&mut RoomTable<Socket>) -> T,
    ) -> Option<T> {
        self.namespaces.borrow_mut().get_mut(namespace).map(apply)
    }

    /// The number of sockets in all namespaces.
    pub(crate) fn count(&self) -> usize {
        self.namespaces.borrow().values().map(RoomTable::len).sum()
    }

    /// Applies `apply` to every socket in `room`, in any namespace. The tables are not borrowed during the
    /// calls.
    pub(crate) fn each(&self, room: &Room, mut apply: impl FnMut(&Socket)) {
        let mut sockets = Vec::new();
        for table in self.namespaces.borrow_mut().values_mut() {
            table.select(std::slice::from_ref(room), |_, socket| sockets.push(socket.clone()));
        }
        sockets.iter().for_each(&mut apply);
    }

    /// Closes one of every `of` sockets that are not closing yet. Resolves when their acks are sent and they
    /// are closed.
    pub(crate) fn close_some(&self, reason: CloseReason, of: usize) -> impl Future<Output = ()> + use<> {
        let mut sockets = Vec::new();
        for table in self.namespaces.borrow_mut().values_mut() {
            table.select(&[], |_, socket| sockets.push(socket.clone()));
        }
        sockets.retain(|socket| !socket.is_closing());
        let closing: Vec<_> =
            sockets.iter().step_by(of.max(1)).map(|socket| socket.close_after_acks(reason)).collect();
        async { drop(join_all(closing).await) }
    }
}
