//! The roster actor, which all calls and streams share. It owns [`State`] and the streams that receive its diffs, publishes the diffs, and
//! ends leases and typing entries that are not renewed.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, Instant},
};

use actix::prelude::*;
use proto::{
    RoomName, Username,
    presence::{Heartbeat, OnlineDiff, OnlineUsersResponse, RoomTyping, RosterUpdate, roster_update::Update},
};
use supervision::Part;
use tokio::sync::mpsc;

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

/// Capacity of the actor's mailbox. Senders wait while it is full.
const MAILBOX: usize = 256;

/// The actor that owns the state of presence.
#[derive(Debug)]
pub(crate) struct Roster {
    state: State,
    /// Streams that receive updates. A stream that lagged is removed, although its lease may still be valid.
    streams: HashMap<Lease, mpsc::Sender<RosterUpdate>>,
    /// Interval in which changes are collected and then published.
    flush: Duration,
    /// Origin of [`Millis`].
    start: Instant,
    /// Whether new streams are refused.
    is_stopping: bool,
    _alive: Part,
}

/// A node opens a stream with all its users.
#[derive(Debug, Message)]
#[rtype(result = "Result<Opened, Error>")]
pub(crate) struct Open {
    /// The name of the node.
    pub node: String,
    /// Connections of all users on the node.
    pub users: Connections,
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

/// A report of an open stream, after its first snapshot. [`Error::Stale`] ends the stream.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub(crate) struct Reported {
    /// The stream's lease.
    pub lease: Lease,
    /// The report.
    pub report: Report,
}

/// What a node reports.
#[derive(Debug)]
pub(crate) enum Report {
    /// A new full snapshot.
    Snapshot(Connections),
    /// The new total number of a user's connections on the node.
    Connections(Username, u32),
    /// Renews the lease.
    Heartbeat,
    /// A user types in a room, or has stopped.
    Typing(Typing),
}

/// A user types in a room, or has stopped.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub(crate) struct Typing {
    /// The user.
    pub user: Username,
    /// The room.
    pub room: RoomName,
    /// Started or stopped.
    pub is_typing: bool,
}

/// A call that changes one user's connections outside of the nodes' reports. Responds with the users online.
#[derive(Debug, Message)]
#[rtype(result = "Result<Vec<String>, Error>")]
pub(crate) enum Call {
    /// The user has connected.
    Connected(Username),
    /// The user has disconnected.
    Disconnected(Username),
}

/// Asks for all users online, sorted.
#[derive(Debug, Message)]
#[rtype(result = "Vec<String>")]
pub(crate) struct GetOnline;

/// Asks for all users that type in any room, sorted, without duplicates.
#[derive(Debug, Message)]
#[rtype(result = "Vec<String>")]
pub(crate) struct GetTyping;

/// The stream of a lease has ended.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Ended(pub Lease);

/// Ends all streams. Later ones are refused.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Stop;

impl Actor for Roster {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(MAILBOX);
        context.run_interval(self.flush, |roster, _| roster.flush());
        context.run_interval(SWEEP, |roster, _| roster.sweep());
        #[cfg(debug_assertions)]
        context.spawn(supervision::fault::wait("roster").into_actor(self));
    }
}

impl Handler<Open> for Roster {
    type Result = Result<Opened, Error>;

    fn handle(&mut self, Open { node, users }: Open, _: &mut Self::Context) -> Self::Result {
        self.open(&node, users)
    }
}

impl Handler<Reported> for Roster {
    type Result = Result<(), Error>;

    fn handle(&mut self, Reported { lease, report }: Reported, _: &mut Self::Context) -> Self::Result {
        let now = self.now();
        match report {
            Report::Snapshot(users) => self.state.replace(&lease, users, now),
            Report::Connections(user, count) => self.state.change(&lease, user, count, now),
            Report::Heartbeat => self.state.heartbeat(&lease, now),
            Report::Typing(Typing { user, room, is_typing }) => {
                self.state.heartbeat(&lease, now)?;
                match self.state.set_typing(user, room, is_typing, now) {
                    // Typing is short-lived: a full roster drops it.
                    Err(Error::Full) => Ok(()),
                    other => other,
                }
            }
        }
    }
}

impl Handler<Typing> for Roster {
    type Result = Result<(), Error>;

    fn handle(&mut self, Typing { user, room, is_typing }: Typing, _: &mut Self::Context) -> Self::Result {
        let now = self.now();
        self.state.set_typing(user, room, is_typing, now)
    }
}

impl Handler<Call> for Roster {
    type Result = Result<Vec<String>, Error>;

    fn handle(&mut self, call: Call, _: &mut Self::Context) -> Self::Result {
        match call {
            Call::Connected(user) => self.state.connected(user)?,
            Call::Disconnected(user) => self.state.disconnected(user)?,
        }
        Ok(self.online())
    }
}

impl Handler<GetOnline> for Roster {
    type Result = MessageResult<GetOnline>;

    fn handle(&mut self, _: GetOnline, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.online())
    }
}

impl Handler<GetTyping> for Roster {
    type Result = MessageResult<GetTyping>;

    fn handle(&mut self, _: GetTyping, _: &mut Self::Context) -> Self::Result {
        let users: BTreeSet<&Username> = self.state.typing().flat_map(|(_, users)| users).collect();
        MessageResult(users.into_iter().map(ToString::to_string).collect())
    }
}

impl Handler<Ended> for Roster {
    type Result = ();

    fn handle(&mut self, Ended(lease): Ended, _: &mut Self::Context) {
        self.streams.remove(&lease);
        if self.state.close(&lease) {
            tracing::info!(node = lease.node(), "node disconnected");
        }
    }
}

impl Handler<Stop> for Roster {
    type Result = ();

    fn handle(&mut self, _: Stop, _: &mut Self::Context) {
        self.is_stopping = true;
        self.streams.clear();
    }
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
        Self {
            state,
            streams: HashMap::new(),
            flush: config.presence_flush,
            start: Instant::now(),
            is_stopping: false,
            _alive: Part::new("roster"),
        }
    }

    fn now(&self) -> Millis {
        millis(self.start.elapsed())
    }

    fn online(&self) -> Vec<String> {
        self.state.online().map(ToString::to_string).collect()
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
