//! The heartbeat of one session, pure: when to ping, when to give up (Engine.IO protocol 4, "Heartbeat"), and how long a
//! client may take to join a namespace. Driven by the shard's wheel; time is always an argument.

use std::time::{Duration, Instant};

use crate::{Config, close::CloseReason};

/// See the module.
#[derive(Debug)]
pub(crate) struct Clock {
    interval: Duration,
    timeout: Duration,
    phase: Phase,
    connect: Duration,
    connect_by: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No ping is open.
    Idle { ping_at: Instant },
    /// A ping is open; `extended` once another packet has shown that the client lives.
    Waiting { dead_at: Instant, extended: bool },
}

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beat {
    /// Nothing yet.
    Rest,
    /// Send a ping.
    Ping,
    /// The session is over.
    Dead(CloseReason),
}

impl Clock {
    /// A session that opens at `now`: the first ping is due one interval later.
    pub(crate) fn new(config: &Config, now: Instant) -> Self {
        Self {
            interval: config.ping_interval,
            timeout: config.ping_timeout,
            phase: Phase::Idle { ping_at: now + config.ping_interval },
            connect: config.connect_timeout,
            connect_by: Some(now + config.connect_timeout),
        }
    }

    /// When to look again, at the latest. A pong in the meantime may set the next ping to one interval from then, so this
    /// is never further away than that.
    pub(crate) fn due(&self, now: Instant) -> Instant {
        let phase = match self.phase {
            Phase::Idle { ping_at } => ping_at,
            Phase::Waiting { dead_at, .. } => dead_at.min(now + self.interval),
        };
        self.connect_by.map_or(phase, |by| by.min(phase))
    }

    /// What is to be done at `now`.
    pub(crate) fn tick(&mut self, now: Instant) -> Beat {
        if self.connect_by.is_some_and(|by| by <= now) {
            return Beat::Dead(CloseReason::ConnectTimeout);
        }
        match self.phase {
            Phase::Idle { ping_at } if ping_at <= now => {
                // A ping that goes out late by the wheel's coarseness does not put off the end; only one that is late by more.
                let dead_at = (ping_at + self.timeout).max(now + self.timeout * 9 / 10);
                self.phase = Phase::Waiting { dead_at, extended: false };
                Beat::Ping
            }
            Phase::Waiting { dead_at, .. } if dead_at <= now => Beat::Dead(CloseReason::PingTimeout),
            _ => Beat::Rest,
        }
    }

    /// Whether the client still has to join.
    pub(crate) fn is_unjoined(&self) -> bool {
        self.connect_by.is_some()
    }

    /// A pong came.
    pub(crate) fn pong(&mut self, now: Instant) {
        self.phase = Phase::Idle { ping_at: now + self.interval };
    }

    /// Any other packet came: it extends the wait for an open ping, once.
    pub(crate) fn packet(&mut self, now: Instant) {
        if let Phase::Waiting { extended: false, .. } = self.phase {
            self.phase = Phase::Waiting { dead_at: now + self.timeout, extended: true };
        }
    }

    /// The last namespace was left: the client may join another, or is closed.
    pub(crate) fn left(&mut self, now: Instant) {
        self.connect_by = Some(now + self.connect);
    }

    /// A namespace was joined: the connect timeout does not run while that lasts.
    pub(crate) fn joined(&mut self) {
        self.connect_by = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(start: Instant) -> Clock {
        let seconds = Duration::from_secs;
        let config = Config {
            ping_interval: seconds(10),
            ping_timeout: seconds(5),
            connect_timeout: seconds(8),
            ..Config::default()
        };
        Clock::new(&config, start)
    }

    fn joined(start: Instant) -> Clock {
        let mut clock = clock(start);
        clock.joined();
        clock
    }

    #[test]
    fn the_first_ping_is_due_one_interval_after_open() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut clock = joined(start);
        assert_eq!(clock.due(start), at(10));
        assert_eq!(clock.tick(at(9)), Beat::Rest);
        assert_eq!(clock.tick(at(10)), Beat::Ping);
        assert_eq!(clock.tick(at(14)), Beat::Rest);
        assert_eq!(clock.tick(at(15)), Beat::Dead(CloseReason::PingTimeout));
    }

    #[test]
    fn a_ping_that_goes_out_a_little_late_does_not_put_off_the_end() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut clock = joined(start);
        assert_eq!(clock.tick(at(10_500)), Beat::Ping);
        assert_eq!(clock.tick(at(14_999)), Beat::Rest);
        assert_eq!(clock.tick(at(15_000)), Beat::Dead(CloseReason::PingTimeout));
        let mut clock = joined(start);
        assert_eq!(clock.tick(at(12_000)), Beat::Ping);
        assert_eq!(clock.tick(at(16_499)), Beat::Rest, "most of the timeout is the client's");
        assert_eq!(clock.tick(at(16_500)), Beat::Dead(CloseReason::PingTimeout));
    }

    #[test]
    fn a_pong_sets_the_next_ping_one_interval_from_it() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut clock = joined(start);
        assert_eq!(clock.tick(at(10)), Beat::Ping);
        clock.pong(at(12));
        assert_eq!(clock.tick(at(21)), Beat::Rest);
        assert_eq!(clock.tick(at(22)), Beat::Ping);
    }

    #[test]
    fn another_packet_extends_the_wait_once_per_ping() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut clock = joined(start);
        assert_eq!(clock.tick(at(10)), Beat::Ping);
        clock.packet(at(14));
        assert_eq!(clock.tick(at(18)), Beat::Rest);
        clock.packet(at(18));
        assert_eq!(clock.tick(at(19)), Beat::Dead(CloseReason::PingTimeout));
    }

    #[test]
    fn a_client_that_leaves_everything_is_closed() {
        let start = Instant::now();
        let mut clock = joined(start);
        clock.left(start);
        assert_eq!(clock.tick(start + Duration::from_secs(8)), Beat::Dead(CloseReason::ConnectTimeout));
    }

    #[test]
    fn a_client_that_never_joins_is_closed() {
        let start = Instant::now();
        let mut clock = clock(start);
        assert_eq!(clock.due(start), start + Duration::from_secs(8));
        let beat = clock.tick(start + Duration::from_secs(8));
        assert_eq!(beat, Beat::Dead(CloseReason::ConnectTimeout));
    }
}
