//! The roster that all calls and streams share: [`State`] behind a lock, and the streams that receive its diffs. [`Roster::run`] publishes
//! the diffs and ends leases and typing entries that are not renewed.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use proto::{
    Username,
    presence::{Heartbeat, OnlineDiff, OnlineUsersResponse, RoomTyping, RosterUpdate, roster_update::Update},
};
use tokio::{sync::mpsc, time::interval};

use crate::{
    Config, Error,
    state::{Connections, Diff, Lease, Limits, Millis, State},
};

/// Capacity of a stream's queue of updates. A stream that exceeds it is ended.
const QUEUE: usize = 256;
/// Maximum number of users of one node.
pub(crate) const MAX_USERS: usize = 100_000;
/// Maximum number of typing entries in all rooms.
const MAX_TYPING: usize = 100_000;
/// Maximum number of names in one update: 20,000 names of 34 bytes are well below the 1 MiB of a message.
const NAMES: usize = 20_000;
/// Interval of sweeps of leases and typing entries, and of heartbeats to streams.
const SWEEP: Duration = Duration::from_millis(500);

/// A handle of the roster. Cheap to clone. The lock is held for one call, never across an await.
#[derive(Debug, Clone)]
pub(crate) struct Roster(Arc<Mutex<Shared>>);

#[derive(Debug)]
struct Shared {
    state: State,
    /// Streams that receive updates. A stream that lagged is removed, although its lease may still be valid.
    streams: HashMap<Lease, mpsc::Sender<RosterUpdate>>,
    /// Origin of [`Millis`].
    start: Instant,
    /// Whether new streams are refused.
    is_stopping: bool,
}

/// A new stream.
#[derive(Debug)]
pub(crate) struct Opened {
    /// The right to report.
    pub lease: Lease,
    /// The whole roster. It is sent before `updates`.
    pub first: Vec<RosterUpdate>,
    /// Later changes. The channel closes when the stream must end.
    pub updates: mpsc::Receiver<RosterUpdate>,
}

impl Roster {
    /// An empty roster.
    pub fn new(config: &Config) -> Self {
        let state = State::new(Limits {
            lease: millis(config.presence_lease),
            typing: millis(config.typing_expiry),
            users: MAX_USERS,
            typing_entries: MAX_TYPING,
        });
        let shared = Shared { state, streams: HashMap::new(), start: Instant::now(), is_stopping: false };
        Self(Arc::new(Mutex::new(shared)))
    }

    /// Publishes diffs once per `flush`, and sweeps. Returns when a call has panicked while it changed the roster: the state may be
    /// inconsistent then, and the caller ends the process.
    pub async fn run(self, flush: Duration) {
        let (mut flush, mut sweep) = (interval(flush), interval(SWEEP));
        while !self.0.is_poisoned() {
            tokio::select! {
                _ = flush.tick() => self.lock().flush(),
                _ = sweep.tick() => self.lock().sweep(),
            }
        }
    }

    /// Runs `change` on the state, with the present time.
    pub fn with<T>(&self, change: impl FnOnce(&mut State, Millis) -> T) -> T {
        let mut shared = self.lock();
        let now = shared.now();
        change(&mut shared.state, now)
    }

    /// Opens a stream of a node with all its users.
    ///
    /// # Errors
    /// When the name is invalid, the users are too many, or the service is stopping.
    pub fn open(&self, node: &str, users: Connections) -> Result<Opened, Error> {
        self.lock().open(node, users)
    }

    /// The stream of `lease` has ended.
    pub fn end(&self, lease: &Lease) {
        let mut shared = self.lock();
        shared.streams.remove(lease);
        if shared.state.close(lease) {
            tracing::info!(node = lease.node(), "node disconnected");
        }
    }

    /// Ends all streams. Later ones are refused.
    pub fn stop(&self) {
        let mut shared = self.lock();
        shared.is_stopping = true;
        shared.streams.clear();
    }

    /// All users online, sorted.
    pub fn online(&self) -> Vec<String> {
        self.with(|state, _| state.online().map(ToString::to_string).collect())
    }

    /// All users that type in any room, sorted, without duplicates.
    pub fn typing_users(&self) -> Vec<String> {
        self.with(|state, _| {
            let users: BTreeSet<&Username> = state.typing().flat_map(|(_, users)| users).collect();
            users.into_iter().map(ToString::to_string).collect()
        })
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // `run` ends the process after a panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn now(&self) -> Millis {
        millis(self.start.elapsed())
    }

    fn open(&mut self, node: &str, users: Connections) -> Result<Opened, Error> {
        if self.is_stopping {
            return Err(Error::Unavailable);
        }
        let lease = self.state.open(node, users, self.now())?;
        self.streams.retain(|earlier, _| earlier.node() != lease.node());
        // Other streams receive the change first, so that the new stream's list and its diffs do not overlap.
        self.flush();
        let (sender, updates) = mpsc::channel(QUEUE);
        self.streams.insert(lease.clone(), sender);
        tracing::info!(node, online = self.state.online().len(), "node connected");
        Ok(Opened { lease, first: full(&self.state), updates })
    }

    /// Publishes the changes since the last flush to all streams.
    fn flush(&mut self) {
        let Some(diff) = self.state.take_diff() else { return };
        for update in from_diff(&diff) {
            self.publish(&update);
        }
        metrics::gauge!("godzilla_presence_online").set(diff.count as f64);
    }

    fn sweep(&mut self) {
        for lease in self.state.sweep(self.now()) {
            tracing::warn!(node = lease.node(), "lease expired, the node's users are offline");
            metrics::counter!("godzilla_presence_leases_lost_total").increment(1);
            self.streams.remove(&lease);
        }
        self.publish(&update(Update::Heartbeat(Heartbeat {})));
        metrics::gauge!("godzilla_presence_streams").set(self.streams.len() as f64);
    }

    /// Queues `update` for all streams. A stream whose queue is full would miss the update, so it is ended. Its node reconnects
    /// and receives the whole roster.
    fn publish(&mut self, update: &RosterUpdate) {
        self.streams.retain(|lease, stream| {
            let sent = stream.try_send(update.clone());
            if matches!(sent, Err(mpsc::error::TrySendError::Full(_))) {
                tracing::warn!(node = lease.node(), "stream lags, closing it");
                metrics::counter!("godzilla_presence_streams_lagged_total").increment(1);
            }
            sent.is_ok()
        });
    }
}

fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}

fn update(update: Update) -> RosterUpdate {
    RosterUpdate { update: Some(update) }
}

/// The whole roster for a new stream: users online, then the typing users of each room. A list that is too long for one update
/// continues in diffs.
fn full(state: &State) -> Vec<RosterUpdate> {
    let mut names = state.online().map(ToString::to_string);
    let usernames: Vec<String> = names.by_ref().take(NAMES).collect();
    let mut count = usernames.len();
    let mut updates = vec![update(Update::Online(OnlineUsersResponse { usernames }))];
    while names.len() > 0 {
        let joined: Vec<String> = names.by_ref().take(NAMES).collect();
        count += joined.len();
        updates.push(online_diff(joined, Vec::new(), count));
    }
    updates.extend(state.typing().map(|(room, users)| room_typing(room.to_string(), users)));
    updates
}

/// The updates of a diff.
fn from_diff(diff: &Diff) -> Vec<RosterUpdate> {
    let mut updates = Vec::new();
    let mut joined = diff.joined.iter().map(ToString::to_string);
    let mut left = diff.left.iter().map(ToString::to_string);
    while joined.len() + left.len() > 0 {
        let joined: Vec<String> = joined.by_ref().take(NAMES).collect();
        let room = NAMES - joined.len();
        updates.push(online_diff(joined, left.by_ref().take(room).collect(), diff.count));
    }
    updates.extend(diff.typing.iter().map(|(room, users)| room_typing(room.to_string(), users)));
    updates
}

fn online_diff(joined: Vec<String>, left: Vec<String>, count: usize) -> RosterUpdate {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    update(Update::Diff(OnlineDiff { joined, left, count }))
}

fn room_typing<'a>(room: String, users: impl IntoIterator<Item = &'a Username>) -> RosterUpdate {
    let usernames = users.into_iter().take(NAMES).map(ToString::to_string).collect();
    update(Update::Typing(RoomTyping { room, usernames }))
}
