//! The heartbeats of all sessions of one worker: a timing wheel checks each session when it is due. The shard
//! advances it. The clock stops while the process is suspended.

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

/// Time within which a closing connection must send its last frames.
pub(crate) const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// A delay between two advances beyond the step and this duration counts as a suspension of the process.
const SUSPENSION: Duration = Duration::from_secs(2);

/// The timing wheel and the clock of one worker.
pub(crate) struct Heartbeats {
    wheel: RefCell<Wheel<Weak<Connection>>>,
    step: Duration,
    last_advance: Cell<Instant>,
    /// The total time for which the process was suspended. It does not count against any client.
    suspended: Cell<Duration>,
    ping: Bytes,
}

impl Heartbeats {
    /// No session is watched yet.
    pub(crate) fn new(config: &Config) -> Self {
        let shortest = config.ping_interval.min(config.ping_timeout).min(config.connect_timeout);
        let step = (shortest / 10).clamp(Duration::from_millis(10), Duration::from_secs(1));
        let now = Instant::now();
        Self {
            wheel: RefCell::new(Wheel::new(step, now)),
            step,
            last_advance: Cell::new(now),
            suspended: Cell::default(),
            ping: Encoded::from_engine("2").frames(),
        }
    }

    /// The current time without suspensions, also directly after a suspension, before the wheel has advanced.
    pub(crate) fn now(&self) -> Instant {
        self.at(Instant::now())
    }

    fn at(&self, now: Instant) -> Instant {
        now.checked_sub(self.suspended.get() + self.suspension(now)).unwrap_or(now)
    }

    /// The time of the suspension that has ended since the last advance, or zero.
    fn suspension(&self, now: Instant) -> Duration {
        let elapsed = now.saturating_duration_since(self.last_advance.get());
        if elapsed > self.step + SUSPENSION { elapsed - self.step } else { Duration::ZERO }
    }

    /// The interval in which [`Heartbeats::advance`] must be called.
    pub(crate) fn step(&self) -> Duration {
        self.step
    }

    /// Checks the heartbeat of a session from now on.
    pub(crate) fn watch(&self, connection: &Rc<Connection>) {
        let due = connection.timer.borrow().next_check(self.now());
        self.wheel.borrow_mut().insert(due, Rc::downgrade(connection));
    }

    /// Aborts the connection of a session that has ended if its last frames are not sent within
    /// [`CLOSE_TIMEOUT`].
    pub(crate) fn watch_end(&self, connection: &Rc<Connection>) {
        self.wheel.borrow_mut().insert(self.now() + CLOSE_TIMEOUT, Rc::downgrade(connection));
    }

    /// Checks every session that is due.
    pub(crate) fn advance(&self) {
        let now = Instant::now();
        self.suspended.set(self.suspended.get() + self.suspension(now));
        self.last_advance.set(now);
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
        let action = connection.timer.borrow_mut().tick(now);
        match action {
            HeartbeatAction::Wait => {}
            HeartbeatAction::Ping => {
                connection.push(self.ping.clone(), false, now);
            }
            HeartbeatAction::Close(reason) => return connection.end(reason),
        }
        self.watch(connection);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suspension_does_not_count_before_the_wheel_advances() {
        let heartbeats = Heartbeats::new(&Config::default());
        let (start, step) = (heartbeats.last_advance.get(), heartbeats.step());
        let before = heartbeats.at(start + step);
        for seconds in [3, 6, 600] {
            let after = heartbeats.at(start + step + SUSPENSION + Duration::from_secs(seconds));
            assert_eq!(after, before, "{seconds}");
        }
        let late = step + SUSPENSION;
        assert_eq!(heartbeats.at(start + late), start + late, "a late advance is not a suspension");
    }
}
