//! The client of the presence service: reports the users who are connected to this node, and receives the users who are online on any
//! node. Chat code calls [`Presence`], which never blocks. A task keeps the stream to the service open ([`stream`]) and sends what clients
//! must know to the channel given at the start. [`online`] is the received state, [`local_connections`] what this node reports.

mod local_connections;
mod online;
mod stream;

#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use proto::{RoomName, Username};
use socketio::Encoded;
use tokio::{
    sync::{Notify, mpsc},
    task::AbortHandle,
    time::Instant,
};

use self::{local_connections::LocalConnections, online::Online, stream::Client};
use crate::broker::Signal;

/// A handle of the presence client. Cheap to clone. When the last clone is dropped, the stream ends and the service takes this node's
/// users offline.
#[derive(Debug, Clone)]
pub struct Presence {
    shared: Arc<Shared>,
    _task: Arc<Task>,
}

/// The timeouts of the client.
#[derive(Debug, Clone, Copy)]
struct Timeouts {
    /// The timeout of connecting.
    connect: Duration,
    /// The timeout of the service's response to a new stream.
    open: Duration,
    /// The interval of this node's heartbeats; a fraction of the service's lease.
    heartbeat: Duration,
    /// How long the stream may be silent before the online users are unknown. The service sends at least two updates per second.
    unknown: Duration,
    /// How long the stream may be silent before it is closed.
    silence: Duration,
    /// The first and the maximum backoff after a failure.
    backoff: (Duration, Duration),
}

/// The state shared by chat code, the task and the HTTP handlers. A lock is held for one read or change, never across an await.
#[derive(Debug)]
struct Shared {
    local: Mutex<LocalConnections>,
    /// Notified when `local` has unreported changes.
    changed: Notify,
    online: Mutex<Online>,
    /// Where the service is, and why the last stream ended or could not be opened.
    lost: Mutex<String>,
}

/// Aborts the client's task when the last [`Presence`] is dropped.
#[derive(Debug)]
struct Task(AbortHandle);

impl Presence {
    /// Starts the client of the service at `url` (`http://host:port`) for the node of this name on the current tokio runtime. Call it from a
    /// thread that runs no chat worker. The client waits while the channel `signals` is full, and ends when its receiver is dropped.
    ///
    /// The service does not have to be reachable: the client retries until it is.
    ///
    /// # Errors
    /// When `url` is invalid.
    pub(crate) fn start(
        url: &str,
        node: String,
        signals: mpsc::Sender<Signal>,
    ) -> Result<Self, tonic::transport::Error> {
        Self::with_timeouts(url, node, signals, Timeouts::default())
    }

    fn with_timeouts(
        url: &str,
        node: String,
        signals: mpsc::Sender<Signal>,
        timeouts: Timeouts,
    ) -> Result<Self, tonic::transport::Error> {
        let shared = Arc::new(Shared {
            local: Mutex::default(),
            changed: Notify::new(),
            online: Mutex::new(Online::new(Instant::now())),
            lost: Mutex::default(),
        });
        let client = Arc::new(Client::new(url, node, Arc::clone(&shared), signals, timeouts)?);
        let task = tokio::spawn(supervision::restart("presence client", move || client.clone().run()));
        Ok(Self { shared, _task: Arc::new(Task(task.abort_handle())) })
    }

    /// Counts one more connection of `user` on this node.
    pub(crate) fn connected(&self, user: &Username) {
        self.shared.local().connected(user);
        self.shared.changed.notify_one();
    }

    /// Counts one connection less of `user` on this node. Call it once for each [`Presence::connected`].
    pub(crate) fn disconnected(&self, user: &Username) {
        self.shared.local().disconnected(user);
        self.shared.changed.notify_one();
    }

    /// Reports that `user` types in `room` or has stopped. The report is dropped while no stream is open, because typing is short-lived.
    pub(crate) fn typing(&self, user: &Username, room: &RoomName, is_typing: bool) {
        self.shared.local().typing(user, room, is_typing);
        self.shared.changed.notify_one();
    }

    /// All online users, sorted. `None` while they are unknown.
    pub(crate) fn online(&self) -> Option<Vec<String>> {
        self.shared.online().users().map(|users| users.iter().cloned().collect())
    }

    /// The users who type, for each of `rooms` in which a user types. `None` while they are unknown.
    pub(crate) fn typing_by_room<'a>(
        &self,
        rooms: impl Iterator<Item = &'a RoomName>,
    ) -> Option<Vec<(RoomName, Vec<String>)>> {
        self.shared.online().typing_by_room(rooms)
    }

    /// The event `presence` for a user that connects. `None` when the users are too many for a list.
    pub(crate) fn list_for(&self, user: &Username) -> Option<Encoded> {
        self.shared.online().list_for(user)
    }

    /// Why the online users are unknown, as text that follows "presence". `None` while they are available, and at first, for as long as
    /// a silence of the service is accepted.
    pub(crate) fn degradation(&self) -> Option<String> {
        let is_unknown = self.shared.online().is_unknown();
        is_unknown.then(|| format!("{}; the online users are unknown", self.shared.lost()))
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_millis(500),
            open: Duration::from_secs(2),
            heartbeat: Duration::from_secs(3),
            unknown: Duration::from_secs(2),
            silence: Duration::from_secs(5),
            backoff: (Duration::from_millis(100), Duration::from_secs(2)),
        }
    }
}

impl Shared {
    fn local(&self) -> MutexGuard<'_, LocalConnections> {
        lock(&self.local)
    }

    fn online(&self) -> MutexGuard<'_, Online> {
        lock(&self.online)
    }

    fn lost(&self) -> MutexGuard<'_, String> {
        lock(&self.lost)
    }
}

/// A stream that begins replaces the state, so a value is used even if a thread panicked while it held the lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}
