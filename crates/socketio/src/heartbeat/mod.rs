//! The heartbeats of all sessions of a worker: one wheel looks after each when it is due, and a timer that stands still while
//! the process does. Turned by the shard; sessions ask to be watched.

mod wheel;

use std::{
    cell::{Cell, RefCell},
    rc::{Rc, Weak},
    time::{Duration, Instant},
};

use bytes::Bytes;

use self::wheel::Wheel;
use crate::{
    Config,
    close::CloseReason,
    connection::{Connection, heartbeat_timer::HeartbeatAction},
    encoded::Encoded,
};

/// How long a connection may take to send its last frames.
pub(crate) const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// A turn that comes later than this after the one before means that the whole process stood still.
const SUSPENSION: Duration = Duration::from_secs(2);

/// See the module.
pub(crate) struct Heartbeats {
    wheel: RefCell<Wheel<Weak<Connection>>>,
    step: Duration,
    last_tick: Cell<Instant>,
    /// How long the process stood still so far: time that no client is held to.
    suspended: Cell<Duration>,
    ping: Bytes,
}

impl Heartbeats {
    /// Nobody is watched yet.
    pub(crate) fn new(config: &Config) -> Self {
        let shortest = config.ping_interval.min(config.ping_timeout).min(config.connect_timeout);
        let step = (shortest / 10).clamp(Duration::from_millis(10), Duration::from_secs(1));
        let now = Instant::now();
        Self {
            wheel: RefCell::new(Wheel::new(step, now)),
            step,
            last_tick: Cell::new(now),
            suspended: Cell::default(),
            ping: Encoded::from_engine("2").frames(),
        }
    }

    /// Time as the sessions know it: it stands still while the process does.
    pub(crate) fn now(&self) -> Instant {
        let now = Instant::now();
        now.checked_sub(self.suspended.get()).unwrap_or(now)
    }

    /// How often [`Heartbeats::turn`] wants to be called.
    pub(crate) fn step(&self) -> Duration {
        self.step
    }

    /// Watches over the heartbeat of a session from now on.
    pub(crate) fn watch(&self, connection: &Rc<Connection>) {
        let due = connection.timer.borrow().due(self.now());
        self.wheel.borrow_mut().insert(due, Rc::downgrade(connection));
    }

    /// Watches over the end of a session: a transport that does not get its last frames out is cut.
    pub(crate) fn watch_end(&self, connection: &Rc<Connection>) {
        self.wheel.borrow_mut().insert(self.now() + CLOSE_TIMEOUT, Rc::downgrade(connection));
    }

    /// Looks after every session that is due.
    pub(crate) fn advance(&self) {
        let now = Instant::now();
        let since = now.duration_since(self.last_tick.replace(now));
        if since > self.step + SUSPENSION {
            self.suspended.set(self.suspended.get() + since - self.step);
        }
        let due = self.wheel.borrow_mut().advance(self.now());
        due.iter().filter_map(Weak::upgrade).for_each(|connection| self.check(&connection));
    }

    fn check(&self, connection: &Rc<Connection>) {
        let now = self.now();
        if let Some(ended) = connection.ended_at() {
            if now >= ended + CLOSE_TIMEOUT {
                connection.abort();
            }
            return;
        }
        if connection.send_queue.is_stalled(now) {
            return connection.end(CloseReason::Slow);
        }
        let beat = connection.timer.borrow_mut().tick(now);
        match beat {
            HeartbeatAction::Wait => {}
            HeartbeatAction::Ping => {
                connection.push(self.ping.clone(), false, now);
            }
            HeartbeatAction::Close(reason) => return connection.end(reason),
        }
        self.watch(connection);
    }
}
