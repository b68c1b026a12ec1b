//! The presence client: tells the presence service who is connected to this node, and hears from it who is here at all.
//! Clients call [`Presence`], which never waits; a task keeps the stream to the service ([`stream`]); what it hears goes to
//! the receiver given at the start, in order, and is mirrored for whoever asks.

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

/// This node's word to and from the presence service. Cheap to clone; when the last clone is dropped the stream ends and
/// the service takes the node's users offline.
#[derive(Debug, Clone)]
pub struct Presence {
    shared: Arc<Shared>,
    _task: Arc<Task>,
}

/// Who reports.
#[derive(Debug, Clone)]
pub struct Node {
    /// The name of the node.
    pub name: String,
    /// The name of its deployment; empty for the default. Each has a roster of its own.
    pub deployment: String,
}

/// What was heard from the presence service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PresenceUpdate {
    /// Who is here is known, from the beginning or again: everybody online, and how that differs from what was last heard
    /// (from nobody, the first time).
    Online {
        /// Everybody.
        presence: event::Presence,
        /// The difference; both lists may be empty.
        diff: PresenceDiff,
    },
    /// Who came and went.
    Diff(PresenceDiff),
    /// Who types in a room now; nobody when the last one stopped or a new stream began.
    Typing(event::Typing),
    /// Nothing was heard for two seconds: who is here is not known. Told once, until [`PresenceUpdate::Online`] comes.
    Unknown,
}

/// How patient the client is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// How long a connection may take to be made.
    connect: Duration,
    /// How long the service may take to answer a new stream.
    open: Duration,
    /// How often this node says that it is alive; a fraction of the service's lease.
    heartbeat: Duration,
    /// How long nothing may be heard before who is here is unknown; the service says something twice a second.
    unknown: Duration,
    /// How long nothing may be heard before the stream is given up.
    silence: Duration,
    /// How long to wait after the first failure; doubles with each.
    least_wait: Duration,
    /// How long to wait at most.
    most_wait: Duration,
}

/// What clients, the task and the HTTP handlers share. Both locks are held for a look or a change, never across an await.
#[derive(Debug, Default)]
struct Shared {
    own: Mutex<LocalConnections>,
    /// There is something to report.
    changed: Notify,
    mirror: Mutex<Mirror>,
    /// The service may end at any time from now on.
    ends: AtomicBool,
}

/// Ends the client's task when nobody needs it any more.
#[derive(Debug)]
struct Task(AbortHandle);

impl Presence {
    /// Starts the client of the service at `url` (`http://host:port`) for the node of that name, on the current tokio
    /// runtime: call it from a thread that is no chat worker. What is heard is sent to `heard` and waits when that is
    /// full; when its receiver is gone the client ends.
    ///
    /// Fails if `url` is none. The service need not be there: the client tries until it is.
    pub fn start(
        url: &str,
        node: Node,
        heard: mpsc::Sender<PresenceUpdate>,
    ) -> Result<Self, tonic::transport::Error> {
        Self::with_patience(url, node, heard, Patience::default())
    }

    pub(crate) fn with_patience(
        url: &str,
        node: Node,
        heard: mpsc::Sender<PresenceUpdate>,
        patience: Patience,
    ) -> Result<Self, tonic::transport::Error> {
        let shared = Arc::new(Shared::default());
        let client = Arc::new(Client::new(url, node, Arc::clone(&shared), heard, patience)?);
        let task = tokio::spawn(supervision::restart("presence client", move || client.clone().run()));
        Ok(Self { shared, _task: Arc::new(Task(task.abort_handle())) })
    }

    /// The process ends: from now on the loss of the stream is not a warning.
    pub(crate) fn expect_end(&self) {
        self.shared.ends.store(true, Ordering::Relaxed);
    }

    /// `user` has one connection more on this node.
    pub fn connected(&self, user: &Username) {
        self.shared.own().connected(user);
        self.shared.changed.notify_one();
    }

    /// `user` has one connection fewer on this node. To be called once for each [`Presence::connected`].
    pub fn disconnected(&self, user: &Username) {
        self.shared.own().disconnected(user);
        self.shared.changed.notify_one();
    }

    /// `user` types in `room`, or has stopped. Lost while the service is away: typing is not worth remembering.
    pub fn typing(&self, user: &Username, room: &RoomName, is_typing: bool) {
        self.shared.own().typing(user, room, is_typing);
        self.shared.changed.notify_one();
    }

    /// Everybody online, sorted; none while that is unknown.
    pub fn online(&self) -> Option<Vec<String>> {
        self.shared.mirror().online()
    }

    /// Who types in each of `rooms` in which anybody does; none while that is unknown.
    pub fn typists<'a>(
        &self,
        rooms: impl Iterator<Item = &'a RoomName>,
    ) -> Option<Vec<(RoomName, Vec<String>)>> {
        self.shared.mirror().typists(rooms)
    }

    #[cfg(test)]
    pub(crate) fn typing_users(&self) -> Option<Vec<String>> {
        self.shared.mirror().typing_users()
    }

    /// Whether who is here is known now.
    pub fn is_known(&self) -> bool {
        self.shared.mirror().is_known()
    }
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_millis(500),
            open: Duration::from_secs(2),
            heartbeat: Duration::from_secs(3),
            unknown: Duration::from_secs(2),
            silence: Duration::from_secs(5),
            least_wait: Duration::from_millis(100),
            most_wait: Duration::from_secs(2),
        }
    }
}

impl Shared {
    fn own(&self) -> MutexGuard<'_, LocalConnections> {
        // Every change is one step, so the value is whole even if a thread panicked while it held the lock.
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mirror(&self) -> MutexGuard<'_, Mirror> {
        self.mirror.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}
