//! The roster actor. It applies reports and calls to [`State`], publishes changes to all streams, and sweeps expired leases and
//! typing entries.

mod messages;
mod updates;

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use actix::prelude::*;
use proto::presence::{RosterUpdate, roster_update::Update};
use supervision::Part;
use tokio::sync::mpsc;

pub(crate) use self::messages::{
    Call, Ended, GetOnline, GetTyping, Open, Opened, Ping, Report, Reported, Stop,
};
use crate::{
    Error,
    roster::{Lease, Limits, Millis, State},
};

/// Capacity of a stream's queue of updates. A stream that exceeds it is ended.
pub(crate) const QUEUE: usize = 256;
/// Maximum number of users of one node.
pub(crate) const MAX_USERS: usize = 100_000;
/// Maximum number of typing entries in all rooms.
const MAX_TYPING: usize = 100_000;
/// Capacity of the actor's mailbox. Senders wait while it is full.
const MAILBOX: usize = 256;

/// Intervals and timeouts of the roster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timings {
    /// Time without a report after which a node's lease expires.
    pub lease: Duration,
    /// Time after which a typing entry that is not renewed expires.
    pub typing: Duration,
    /// Interval in which changes are collected and then published.
    pub flush: Duration,
    /// Interval of sweeps of leases and typing entries, and of heartbeats to streams.
    pub sweep: Duration,
}

/// The actor that owns the state of presence.
#[derive(Debug)]
pub struct Roster {
    state: State,
    timings: Timings,
    /// Streams that receive updates. A stream that lagged is removed, although its lease may still be valid.
    streams: HashMap<Lease, mpsc::Sender<RosterUpdate>>,
    /// The ids of the databases of the nodes with streams. At most one different id.
    databases: HashMap<Lease, String>,
    /// Origin of [`Millis`].
    start: Instant,
    /// Whether new streams are refused.
    stopping: bool,
    /// Whose roster it is, for the metrics.
    deployment: String,
    _alive: Part,
}

impl Roster {
    /// An empty roster of the deployment without a name.
    pub fn new(timings: Timings) -> Self {
        Self::of("", timings)
    }

    /// An empty roster of a deployment.
    pub fn of(deployment: &str, timings: Timings) -> Self {
        let limits = Limits {
            lease: millis(timings.lease),
            typing: millis(timings.typing),
            users: MAX_USERS,
            typing_entries: MAX_TYPING,
        };
        let state = State::new(limits);
        Self {
            state,
            timings,
            streams: HashMap::new(),
            databases: HashMap::new(),
            start: Instant::now(),
            stopping: false,
            deployment: deployment.to_owned(),
            _alive: Part::new("roster"),
        }
    }

    fn now(&self) -> Millis {
        millis(self.start.elapsed())
    }

    fn open(&mut self, Open { node, users, database }: Open) -> Result<Opened, Error> {
        if self.stopping {
            return Err(Error::Unavailable);
        }
        self.databases.retain(|lease, _| self.streams.contains_key(lease));
        if database.as_ref().is_some_and(|id| self.databases.values().any(|other| other != id)) {
            tracing::warn!(node = node.as_str(), "a node is refused: {}", Error::OtherDatabase);
            return Err(Error::OtherDatabase);
        }
        let lease = self.state.open(node, users, self.now())?;
        self.streams.retain(|earlier, _| earlier.node() != lease.node());
        // Other streams receive the change first, so that the new stream's list and its diffs do not overlap.
        self.flush();
        let (sender, updates) = mpsc::channel(QUEUE);
        self.streams.insert(lease.clone(), sender);
        self.databases.extend(database.map(|id| (lease.clone(), id)));
        tracing::info!(node = lease.node().as_str(), online = self.state.online().len(), "node connected");
        Ok(Opened { lease, first: updates::full(&self.state), updates })
    }

    fn apply(&mut self, lease: &Lease, report: Report) -> Result<(), Error> {
        let now = self.now();
        match report {
            Report::Snapshot(users) => self.state.replace(lease, users, now),
            Report::Connections(user, count) => self.state.change(lease, user, count, now),
            Report::Heartbeat => self.state.heartbeat(lease, now),
            Report::Typing { user, room, is_typing } => {
                self.state.heartbeat(lease, now)?;
                self.state.set_typing(user, room, is_typing, now)
            }
        }
    }

    fn end(&mut self, lease: &Lease) {
        self.streams.remove(lease);
        if self.state.close(lease) {
            tracing::info!(node = lease.node().as_str(), "node disconnected");
        }
    }

    /// Publishes the changes since the last flush to all streams.
    fn flush(&mut self) {
        let Some(diff) = self.state.take_diff() else { return };
        for update in updates::from_diff(diff) {
            self.publish(&update);
        }
        metrics::gauge!("godzilla_presence_online", "deployment" => self.deployment.clone())
            .set(self.state.online().len() as f64);
    }

    fn sweep(&mut self) {
        for lease in self.state.sweep(self.now()) {
            tracing::warn!(node = lease.node().as_str(), "lease expired, the node's users are offline");
            metrics::counter!("godzilla_presence_leases_lost_total").increment(1);
            self.streams.remove(&lease);
        }
        self.publish(&updates::update(Update::Heartbeat(proto::presence::Heartbeat {})));
        metrics::gauge!("godzilla_presence_streams", "deployment" => self.deployment.clone())
            .set(self.streams.len() as f64);
    }

    /// Queues `update` for all streams. A stream whose queue is full would miss the update, so it is ended. Its node reconnects
    /// and receives the whole roster.
    fn publish(&mut self, update: &RosterUpdate) {
        self.streams.retain(|lease, stream| {
            let sent = stream.try_send(update.clone());
            if matches!(sent, Err(mpsc::error::TrySendError::Full(_))) {
                tracing::warn!(node = lease.node().as_str(), "stream lags, closing it");
                metrics::counter!("godzilla_presence_streams_lagged_total").increment(1);
            }
            sent.is_ok()
        });
    }
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(15),
            typing: Duration::from_secs(8),
            flush: Duration::from_millis(200),
            sweep: Duration::from_millis(500),
        }
    }
}

impl Actor for Roster {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        ctx.run_interval(self.timings.flush, |roster, _| roster.flush());
        ctx.run_interval(self.timings.sweep, |roster, _| roster.sweep());
        #[cfg(debug_assertions)]
        ctx.spawn(supervision::fault::wait("roster").into_actor(self));
    }
}

impl Handler<Open> for Roster {
    type Result = Result<Opened, Error>;

    fn handle(&mut self, open: Open, _: &mut Self::Context) -> Self::Result {
        self.open(open)
    }
}

impl Handler<Reported> for Roster {
    type Result = Result<(), Error>;

    fn handle(&mut self, Reported { lease, report }: Reported, _: &mut Self::Context) -> Self::Result {
        self.apply(&lease, report)
    }
}

impl Handler<Ended> for Roster {
    type Result = ();

    fn handle(&mut self, Ended(lease): Ended, _: &mut Self::Context) {
        self.end(&lease);
    }
}

impl Handler<Call> for Roster {
    type Result = Result<(), Error>;

    fn handle(&mut self, call: Call, _: &mut Self::Context) -> Self::Result {
        match call {
            Call::Connected(user) => self.state.connected(user),
            Call::Disconnected(user) => self.state.disconnected(user),
            Call::Typing { user, room, is_typing } => {
                self.state.set_typing(user, room, is_typing, self.now())
            }
        }
    }
}

impl Handler<GetOnline> for Roster {
    type Result = Vec<String>;

    fn handle(&mut self, _: GetOnline, _: &mut Self::Context) -> Self::Result {
        self.state.online().map(ToString::to_string).collect()
    }
}

impl Handler<GetTyping> for Roster {
    type Result = Vec<String>;

    fn handle(&mut self, _: GetTyping, _: &mut Self::Context) -> Self::Result {
        updates::typing_users(&self.state)
    }
}

impl Handler<Ping> for Roster {
    type Result = ();

    fn handle(&mut self, _: Ping, _: &mut Self::Context) {}
}

impl Handler<Stop> for Roster {
    type Result = ();

    fn handle(&mut self, _: Stop, _: &mut Self::Context) {
        self.stopping = true;
        self.streams.clear();
    }
}

fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}
