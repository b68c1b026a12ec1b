//! The state of one worker. Single-threaded: sessions call it directly, the [`super::Shard`] actor on behalf of everybody else.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::{Rc, Weak},
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{table::Table, wheel::Wheel};
use crate::{
    Config, Room,
    bus::{Broadcast, Fanout},
    close::CloseReason,
    encoded::Encoded,
    query::Selection,
    session::{clock::Beat, link::Link},
    socket::Socket,
};

/// How long a connection may take to send its last frames.
pub(crate) const LAST_WORDS: Duration = Duration::from_secs(5);

/// A turn that comes later than this after the one before means that the whole process stood still.
const STANDSTILL: Duration = Duration::from_secs(2);

/// See the module.
pub(crate) struct Local {
    namespaces: RefCell<HashMap<Rc<str>, Table<Socket>>>,
    wheel: RefCell<Wheel<Weak<Link>>>,
    step: Duration,
    turned: Cell<Instant>,
    /// How long the process stood still so far: time that no client is held to.
    stood_still: Cell<Duration>,
    ping: Bytes,
}

impl Local {
    /// An empty worker.
    pub(crate) fn new(config: &Config) -> Self {
        let shortest = config.ping_interval.min(config.ping_timeout).min(config.connect_timeout);
        let step = (shortest / 10).clamp(Duration::from_millis(10), Duration::from_secs(1));
        let now = Instant::now();
        Self {
            namespaces: RefCell::default(),
            wheel: RefCell::new(Wheel::new(step, now)),
            step,
            turned: Cell::new(now),
            stood_still: Cell::default(),
            ping: Encoded::from_engine("2").frames(),
        }
    }

    /// Time as the sessions know it: it stands still while the process does.
    pub(crate) fn now(&self) -> Instant {
        let now = Instant::now();
        now.checked_sub(self.stood_still.get()).unwrap_or(now)
    }

    /// How often [`Local::turn`] wants to be called.
    pub(crate) fn step(&self) -> Duration {
        self.step
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

    fn table<T>(&self, namespace: &str, act: impl FnOnce(&mut Table<Socket>) -> T) -> Option<T> {
        self.namespaces.borrow_mut().get_mut(namespace).map(act)
    }

    /// How many sockets are here, in all namespaces.
    pub(crate) fn count(&self) -> usize {
        self.namespaces.borrow().values().map(Table::len).sum()
    }

    /// Does what the batch says.
    pub(crate) fn carry(&self, fanout: &Fanout) {
        match fanout {
            Fanout::Emit(broadcast) => self.emit(broadcast),
            Fanout::Join { of, room } => self.each(of, |socket| socket.join(room)),
            Fanout::Leave { of, room } => self.each(of, |socket| socket.leave(room)),
            Fanout::Close { of, reason } => self.each(of, |socket| socket.close(*reason)),
            Fanout::Send { to, packet, volatile } => self.send(to, packet, *volatile),
            Fanout::Dismiss { of } => self.each(of, Socket::disconnect),
            Fanout::Disconnect { of, reason } => self.each(of, |socket| socket.expel(*reason)),
        }
    }

    fn emit(&self, broadcast: &Broadcast) {
        let packet = broadcast.packet.unshared();
        let mut sent = 0;
        self.table(&broadcast.namespace, |table| {
            table.select(&broadcast.rooms, |_, socket| {
                if broadcast.except.is_none() || broadcast.except != Some(socket.id()) {
                    socket.deliver(&packet, broadcast.volatile);
                    sent += 1;
                }
            });
        });
        metrics::counter!("socketio_deliveries_total").increment(sent);
    }

    fn send(&self, to: &Selection, packet: &Encoded, volatile: bool) {
        let packet = packet.unshared();
        let mut sent = 0;
        self.table(&to.namespace, |table| {
            table.select_except(&to.rooms, &to.except, |_, socket| {
                socket.deliver(&packet, volatile);
                sent += 1;
            });
        });
        metrics::counter!("socketio_deliveries_total").increment(sent);
    }

    /// The sockets of a selection that are here.
    pub(super) fn selected(&self, selection: &Selection) -> Vec<Socket> {
        let mut sockets = Vec::new();
        self.table(&selection.namespace, |table| {
            table.select_except(&selection.rooms, &selection.except, |_, socket| {
                sockets.push(socket.clone());
            });
        });
        sockets
    }

    /// Acts on every socket in `room`, in any namespace, none of them borrowed meanwhile.
    pub(super) fn each(&self, room: &Room, mut act: impl FnMut(&Socket)) {
        let mut sockets = Vec::new();
        for table in self.namespaces.borrow_mut().values_mut() {
            table.select(std::slice::from_ref(room), |_, socket| sockets.push(socket.clone()));
        }
        sockets.iter().for_each(&mut act);
    }

    /// Closes one of every `of` sockets.
    pub(crate) fn close_some(&self, reason: CloseReason, of: usize) {
        let mut sockets = Vec::new();
        for table in self.namespaces.borrow_mut().values_mut() {
            table.select(&[], |_, socket| sockets.push(socket.clone()));
        }
        sockets.iter().step_by(of.max(1)).for_each(|socket| socket.close(reason));
    }

    /// Watches over the heartbeat of a session from now on.
    pub(crate) fn watch(&self, link: &Rc<Link>) {
        let due = link.clock.borrow().due(self.now());
        self.wheel.borrow_mut().insert(due, Rc::downgrade(link));
    }

    /// Watches over the end of a session: a transport that does not get its last frames out is cut.
    pub(crate) fn watch_end(&self, link: &Rc<Link>) {
        self.wheel.borrow_mut().insert(self.now() + LAST_WORDS, Rc::downgrade(link));
    }

    /// Looks after every session that is due.
    pub(crate) fn turn(&self) {
        let now = Instant::now();
        let since = now.duration_since(self.turned.replace(now));
        if since > self.step + STANDSTILL {
            self.stood_still.set(self.stood_still.get() + since - self.step);
        }
        let due = self.wheel.borrow_mut().turn(self.now());
        due.iter().filter_map(Weak::upgrade).for_each(|link| self.look_after(&link));
    }

    fn look_after(&self, link: &Rc<Link>) {
        let now = self.now();
        if let Some(ended) = link.ended_at() {
            if now >= ended + LAST_WORDS {
                link.cut();
            }
            return;
        }
        if link.outbox.is_stalled(now) {
            return link.end(CloseReason::Slow);
        }
        let beat = link.clock.borrow_mut().tick(now);
        match beat {
            Beat::Rest => {}
            Beat::Ping => link.push(self.ping.clone(), false, now),
            Beat::Dead(reason) => return link.end(reason),
        }
        self.watch(link);
    }
}
