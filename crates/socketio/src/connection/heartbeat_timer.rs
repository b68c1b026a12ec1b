//! The heartbeat of one session, pure: when to ping, when to give up (Engine.IO protocol 4, "Heartbeat"), and how long a
//! client may take to join a namespace. Driven by the shard's wheel; time is always an argument.

use std::time::{Duration, Instant};

use crate::{Config, close::CloseReason};

/// See the module.
#[derive(Debug)]
pub(crate) struct HeartbeatTimer {
    interval: Duration,
    timeout: Duration,
    phase: Phase,
    connect: Duration,
    connect_deadline: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No ping is open.
    Idle { next_ping: Instant },
    /// A ping is open; `extended` once another packet has shown that the client lives.
    AwaitingPong { pong_deadline: Instant, extended: bool },
}

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeartbeatAction {
    /// Nothing yet.
    Wait,
    /// Send a ping.
    Ping,
    /// The session is over.
    Close(CloseReason),
}

impl HeartbeatTimer {
    /// A session that opens at `now`: the first ping is due one interval later.
    pub(crate) fn new(config: &Config, now: Instant) -> Self {
        Self {
            interval: config.ping_interval,
            timeout: config.ping_timeout,
            phase: Phase::Idle { next_ping: now + config.ping_interval },
            connect: config.connect_timeout,
            connect_deadline: Some(now + config.connect_timeout),
        }
    }

    /// When to look again, at the recent_sessions. A pong in the meantime may set the next ping to one interval from then, so this
    /// is never further away than that.
    pub(crate) fn due(&self, now: Instant) -> Instant {
        let phase = match self.phase {
            Phase::Idle { next_ping } => next_ping,
            Phase::AwaitingPong { pong_deadline, .. } => pong_deadline.min(now + self.interval),
        };
        self.connect_deadline.map_or(phase, |by| by.min(phase))
    }

    /// What is to be done at `now`.
    pub(crate) fn tick(&mut self, now: Instant) -> HeartbeatAction {
        if self.connect_deadline.is_some_and(|by| by <= now) {
            return HeartbeatAction::Close(CloseReason::ConnectTimeout);
        }
        match self.phase {
            Phase::Idle { next_ping } if next_ping <= now => {
                // A ping that goes out late by the wheel's coarseness does not put off the end; only one that is late by more.
                let pong_deadline = (next_ping + self.timeout).max(now + self.timeout * 9 / 10);
                self.phase = Phase::AwaitingPong { pong_deadline, extended: false };
                HeartbeatAction::Ping
            }
            Phase::AwaitingPong { pong_deadline, .. } if pong_deadline <= now => {
                HeartbeatAction::Close(CloseReason::PingTimeout)
            }
            _ => HeartbeatAction::Wait,
        }
    }

    /// Whether the client still has to join.
    pub(crate) fn is_unjoined(&self) -> bool {
        self.connect_deadline.is_some()
    }

    /// A pong came.
    pub(crate) fn pong(&mut self, now: Instant) {
        self.phase = Phase::Idle { next_ping: now + self.interval };
    }

    /// Any other packet came: it extends the wait for an open ping, once.
    pub(crate) fn packet(&mut self, now: Instant) {
        if let Phase::AwaitingPong { extended: false, .. } = self.phase {
            self.phase = Phase::AwaitingPong { pong_deadline: now + self.timeout, extended: true };
        }
    }

    /// The last namespace was left: the client may join another, or is closed.
    pub(crate) fn left(&mut self, now: Instant) {
        self.connect_deadline = Some(now + self.connect);
    }

    /// A namespace was joined: the connect timeout does not run while that lasts.
    pub(crate) fn joined(&mut self) {
        self.connect_deadline = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timer(start: Instant) -> HeartbeatTimer {
        let seconds = Duration::from_secs;
        let config = Config {
            ping_interval: seconds(10),
            ping_timeout: seconds(5),
            connect_timeout: seconds(8),
            ..Config::default()
        };
        HeartbeatTimer::new(&config, start)
    }

    fn joined(start: Instant) -> HeartbeatTimer {
        let mut timer = timer(start);
        timer.joined();
        timer
    }

    #[test]
    fn the_first_ping_is_due_one_interval_after_open() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut timer = joined(start);
        assert_eq!(timer.due(start), at(10));
        assert_eq!(timer.tick(at(9)), HeartbeatAction::Wait);
        assert_eq!(timer.tick(at(10)), HeartbeatAction::Ping);
        assert_eq!(timer.tick(at(14)), HeartbeatAction::Wait);
        assert_eq!(timer.tick(at(15)), HeartbeatAction::Close(CloseReason::PingTimeout));
    }

    #[test]
    fn a_ping_that_goes_out_a_little_late_does_not_put_off_the_end() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut timer = joined(start);
        assert_eq!(timer.tick(at(10_500)), HeartbeatAction::Ping);
        assert_eq!(timer.tick(at(14_999)), HeartbeatAction::Wait);
        assert_eq!(timer.tick(at(15_000)), HeartbeatAction::Close(CloseReason::PingTimeout));
        let mut timer = joined(start);
        assert_eq!(timer.tick(at(12_000)), HeartbeatAction::Ping);
        assert_eq!(timer.tick(at(16_499)), HeartbeatAction::Wait, "most of the timeout is the client's");
        assert_eq!(timer.tick(at(16_500)), HeartbeatAction::Close(CloseReason::PingTimeout));
    }

    #[test]
    fn a_pong_sets_the_next_ping_one_interval_from_it() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut timer = joined(start);
        assert_eq!(timer.tick(at(10)), HeartbeatAction::Ping);
        timer.pong(at(12));
        assert_eq!(timer.tick(at(21)), HeartbeatAction::Wait);
        assert_eq!(timer.tick(at(22)), HeartbeatAction::Ping);
    }

    #[test]
    fn another_packet_extends_the_wait_once_per_ping() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut timer = joined(start);
        assert_eq!(timer.tick(at(10)), HeartbeatAction::Ping);
        timer.packet(at(14));
        assert_eq!(timer.tick(at(18)), HeartbeatAction::Wait);
        timer.packet(at(18));
        assert_eq!(timer.tick(at(19)), HeartbeatAction::Close(CloseReason::PingTimeout));
    }

    #[test]
    fn a_client_that_leaves_everything_is_closed() {
        let start = Instant::now();
        let mut timer = joined(start);
        timer.left(start);
        assert_eq!(
            timer.tick(start + Duration::from_secs(8)),
            HeartbeatAction::Close(CloseReason::ConnectTimeout)
        );
    }

    #[test]
    fn a_client_that_never_joins_is_closed() {
        let start = Instant::now();
        let mut timer = timer(start);
        assert_eq!(timer.due(start), start + Duration::from_secs(8));
        let beat = timer.tick(start + Duration::from_secs(8));
        assert_eq!(beat, HeartbeatAction::Close(CloseReason::ConnectTimeout));
    }
}
