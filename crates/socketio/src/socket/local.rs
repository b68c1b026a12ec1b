//! The sockets of one worker and their rooms. Single-threaded: sockets call it directly, the shard on behalf of everybody else.

use std::{cell::RefCell, collections::HashMap, rc::Rc};

use futures_util::future::join_all;

use super::{Socket, room_table::RoomTable};
use crate::{Config, Room, close::CloseReason, heartbeat::Heartbeats};

/// See the module.
pub(crate) struct LocalSockets {
    namespaces: RefCell<HashMap<Rc<str>, RoomTable<Socket>>>,
    /// The heartbeats of the sessions under the sockets.
    pub(crate) heartbeats: Heartbeats,
}

impl LocalSockets {
    /// An empty worker.
    pub(crate) fn new(config: &Config) -> Self {
        Self { namespaces: RefCell::default(), heartbeats: Heartbeats::new(config) }
    }

    /// Adds a socket to its namespace.
    pub(crate) fn enter(&self, socket: &Socket) -> usize {
        let mut namespaces = self.namespaces.borrow_mut();
        match namespaces.get_mut(socket.namespace()) {
            Some(table) => table.add(socket.clone()),
            None => namespaces.entry(socket.namespace().into()).or_default().add(socket.clone()),
        }
    }

    /// Removes a socket from its namespace.
    pub(crate) fn exit(&self, namespace: &str, key: usize) {
        self.table(namespace, |table| table.remove(key));
    }

    /// Puts a socket into a room.
    pub(crate) fn join(&self, namespace: &str, key: usize, room: &Room) {
        self.table(namespace, |table| table.join(key, room));
    }

    /// Takes a socket out of a room.
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

    /// Acts on the sockets of a namespace.
    pub(crate) fn table<T>(
        &self,
        namespace: &str,
        act: impl FnOnce(&mut RoomTable<Socket>) -> T,
    ) -> Option<T> {
        self.namespaces.borrow_mut().get_mut(namespace).map(act)
    }

    /// How many sockets are here, in all namespaces.
    pub(crate) fn count(&self) -> usize {
        self.namespaces.borrow().values().map(RoomTable::len).sum()
    }

    /// Acts on every socket in `room`, in any namespace, none of them borrowed meanwhile.
    pub(crate) fn each(&self, room: &Room, mut act: impl FnMut(&Socket)) {
        let mut sockets = Vec::new();
        for table in self.namespaces.borrow_mut().values_mut() {
            table.select(std::slice::from_ref(room), |_, socket| sockets.push(socket.clone()));
        }
        sockets.iter().for_each(&mut act);
    }

    /// Closes one of every `of` sockets that are not closing yet; resolves when they have the acks they have asked for and are
    /// closed.
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
