//! The client of the presence service: reports the users who are connected to this node, and receives the users who are online on any
//! node. Chat code calls [`Presence`], which never blocks. A task keeps the stream to the service open ([`stream`]). Received updates go
//! to the channel given at the start, in order, and into a local copy for queries ([`mirror`]).

mod local_connections;
mod mirror;
mod stream;

#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use proto::{
    RoomName, Username,
    event::{self, PresenceDiff},
};
use tokio::{
    sync::{Notify, mpsc},
    task::AbortHandle,
};

use self::{local_connections::LocalConnections, mirror::Mirror, stream::Client};

/// A handle of the presence client. Cheap to clone. When the last clone is dropped, the stream ends and the service takes this node's
/// users offline.
#[derive(Debug, Clone)]
pub struct Presence {
    shared: Arc<Shared>,
    /// Host and port of the service.
    address: Arc<str>,
    _task: Arc<Task>,
}

/// The node that reports.
#[derive(Debug, Clone)]
pub struct Node {
    /// The name of the node.
    pub name: String,
    /// The name of its deployment; empty for the default. Each deployment has its own roster.
    pub deployment: String,
    /// The id of the database of MongoDB that the node uses. `None` in a process that uses the embedded store.
    pub database: Option<String>,
}

/// An update from the presence service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PresenceUpdate {
    /// The list of online users is available, for the first time or again. It may differ from the last received list.
    Online(event::Presence),
    /// Users came online or went offline.
    Diff(PresenceDiff),
    /// The users who type in a room now. Empty when the last one stopped or a new stream began.
    Typing(event::Typing),
    /// No update was received for two seconds: the online users are unknown. Sent once until [`PresenceUpdate::Online`].
    Unknown,
}

/// The timeouts of the client.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timeouts {
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
    /// The backoff after the first failure. It doubles with every failure.
    min_backoff: Duration,
    /// The maximum backoff.
    max_backoff: Duration,
}

/// The state shared by chat code, the task and the HTTP handlers. Both locks are held for one read or change, never across an await.
#[derive(Debug, Default)]
struct Shared {
    local: Mutex<LocalConnections>,
    /// Notified when `local` has unreported changes.
    changed: Notify,
    mirror: Mutex<Mirror>,
    /// Why the last stream ended or could not be opened. `None` while a stream is open.
    lost: Mutex<Option<String>>,
    /// The id of the service process of the open stream. `None` without a stream, and for a service of an older release.
    service_id: Mutex<Option<String>>,
    /// The process is shutting down, so the loss of the stream is expected.
    is_ending: AtomicBool,
}

/// Aborts the client's task when the last [`Presence`] is dropped.
#[derive(Debug)]
struct Task(AbortHandle);

impl Presence {
    /// Starts the client of the service at `url` (`http://host:port`) on the current tokio runtime. Call it from a thread that runs no
    /// chat worker. Updates are sent to `updates`. The client waits while that channel is full, and ends when its receiver is dropped.
    ///
    /// The service does not have to be reachable: the client retries until it is.
    ///
    /// # Errors
    /// When `url` is invalid.
    pub fn start(
        url: &str,
        node: Node,
        updates: mpsc::Sender<PresenceUpdate>,
    ) -> Result<Self, tonic::transport::Error> {
        Self::with_timeouts(url, node, updates, Timeouts::default())
    }

    pub(crate) fn with_timeouts(
        url: &str,
        node: Node,
        updates: mpsc::Sender<PresenceUpdate>,
        timeouts: Timeouts,
    ) -> Result<Self, tonic::transport::Error> {
        let shared = Arc::new(Shared::default());
        let client = Arc::new(Client::new(url, node, Arc::clone(&shared), updates, timeouts)?);
        let address = client.address().into();
        let task = tokio::spawn(supervision::restart("presence client", move || client.clone().run()));
        Ok(Self { shared, address, _task: Arc::new(Task(task.abort_handle())) })
    }

    /// The process is shutting down: from now on the loss of the stream is not logged as a warning.
    pub(crate) fn expect_end(&self) {
        self.shared.is_ending.store(true, Ordering::Relaxed);
    }

    /// Counts one more connection of `user` on this node.
    pub fn connected(&self, user: &Username) {
        self.shared.local().connected(user);
        self.shared.changed.notify_one();
    }

    /// Counts one connection less of `user` on this node. Call it once for each [`Presence::connected`].
    pub fn disconnected(&self, user: &Username) {
        self.shared.local().disconnected(user);
        self.shared.changed.notify_one();
    }

    /// Reports that `user` types in `room` or has stopped. The report is dropped while no stream is open, because typing is short-lived.
    pub fn typing(&self, user: &Username, room: &RoomName, is_typing: bool) {
        self.shared.local().typing(user, room, is_typing);
        self.shared.changed.notify_one();
    }

    /// All online users, sorted. `None` while they are unknown.
    pub fn online(&self) -> Option<Vec<String>> {
        self.shared.mirror().online()
    }

    /// The users who type, for each of `rooms` in which a user types. `None` while they are unknown.
    pub fn typing_by_room<'a>(
        &self,
        rooms: impl Iterator<Item = &'a RoomName>,
    ) -> Option<Vec<(RoomName, Vec<String>)>> {
        self.shared.mirror().typing_by_room(rooms)
    }

    #[cfg(test)]
    pub(crate) fn typing_users(&self) -> Option<Vec<String>> {
        self.shared.mirror().typing_users()
    }

    /// Why the online users are unknown, as text that follows "presence". `None` while they are available, and at first, for as long as
    /// a silence of the service is accepted.
    pub fn degradation(&self) -> Option<String> {
        let is_unknown = self.shared.mirror().is_unknown();
        let lost = || self.shared.lost().clone().unwrap_or_else(|| "no answer in time".to_owned());
        is_unknown.then(|| format!("at {}: {}; the online users are unknown", self.address, lost()))
    }

    /// The id of the service process to which this node reports. Nodes with different ids do not share the online users. `None` while no
    /// stream is open.
    pub fn service_id(&self) -> Option<String> {
        self.shared.service_id().clone()
    }

    /// Whether the online users are available.
    pub fn is_available(&self) -> bool {
        self.shared.mirror().is_available()
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
            min_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(2),
        }
    }
}

impl Shared {
    fn local(&self) -> MutexGuard<'_, LocalConnections> {
        // Every change is one step, so the value is consistent even if a thread panicked while it held the lock.
        self.local.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mirror(&self) -> MutexGuard<'_, Mirror> {
        self.mirror.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn service_id(&self) -> MutexGuard<'_, Option<String>> {
        self.service_id.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lost(&self) -> MutexGuard<'_, Option<String>> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}
