//! The heartbeats of all sessions of a worker: one wheel looks after each when it is due, and a clock that stands still while
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
    encoded::Encoded,
    link::{Link, clock::Beat},
};

/// How long a connection may take to send its last frames.
pub(crate) const LAST_WORDS: Duration = Duration::from_secs(5);

/// A turn that comes later than this after the one before means that the whole process stood still.
const STANDSTILL: Duration = Duration::from_secs(2);

/// See the module.
pub(crate) struct Pulse {
    wheel: RefCell<Wheel<Weak<Link>>>,
    step: Duration,
    turned: Cell<Instant>,
    /// How long the process stood still so far: time that no client is held to.
    stood_still: Cell<Duration>,
    ping: Bytes,
}

impl Pulse {
    /// Nobody is watched yet.
    pub(crate) fn new(config: &Config) -> Self {
        let shortest = config.ping_interval.min(config.ping_timeout).min(config.connect_timeout);
        let step = (shortest / 10).clamp(Duration::from_millis(10), Duration::from_secs(1));
        let now = Instant::now();
        Self {
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

    /// How often [`Pulse::turn`] wants to be called.
    pub(crate) fn step(&self) -> Duration {
        self.step
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
            Beat::Ping => {
                link.push(self.ping.clone(), false, now);
            }
            Beat::Dead(reason) => return link.end(reason),
        }
        self.watch(link);
    }
}
