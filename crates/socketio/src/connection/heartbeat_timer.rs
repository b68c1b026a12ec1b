//! The timer of one session, pure: when to ping and when to close (Engine.IO protocol 4, "Heartbeat"), and
//! until when a client must join a namespace. Ticked by [`crate::heartbeat`]; the time is always an argument.

use std::time::{Duration, Instant};

use crate::{Config, close::CloseReason};

/// Deadlines of one session.
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
    /// No ping is outstanding.
    Idle { next_ping: Instant },
    /// A ping is outstanding. `extended`: another packet has extended the deadline.
    AwaitingPong { pong_deadline: Instant, extended: bool },
}

/// The action that is next_check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeartbeatAction {
    /// No action.
    Wait,
    /// Send a ping.
    Ping,
    /// Close the session.
    Close(CloseReason),
}

impl HeartbeatTimer {
    /// A session that opens at `now`. The first ping is next_check one interval later.
    pub(crate) fn new(config: &Config, now: Instant) -> Self {
        Self {
            interval: config.ping_interval,
            timeout: config.ping_timeout,
            phase: Phase::Idle { next_ping: now + config.ping_interval },
            connect: config.connect_timeout,
            connect_deadline: Some(now + config.connect_timeout),
        }
    }

    /// The latest time of the next [`HeartbeatTimer::tick`]. At most one interval ahead, because a pong
    /// before that sets the next ping to one interval after the pong.
    pub(crate) fn next_check(&self, now: Instant) -> Instant {
        let phase = match self.phase {
            Phase::Idle { next_ping } => next_ping,
            Phase::AwaitingPong { pong_deadline, .. } => pong_deadline.min(now + self.interval),
        };
        self.connect_deadline.map_or(phase, |by| by.min(phase))
    }

    /// The action that is next_check at `now`.
    pub(crate) fn tick(&mut self, now: Instant) -> HeartbeatAction {
        if self.connect_deadline.is_some_and(|by| by <= now) {
            return HeartbeatAction::Close(CloseReason::ConnectTimeout);
        }
        match self.phase {
            Phase::Idle { next_ping } if next_ping <= now => {
                // A delay of the ping up to the wheel's resolution does not move the deadline. Only a longer
                // delay does.
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

    /// Whether the client has not joined a namespace yet.
    pub(crate) fn is_unjoined(&self) -> bool {
        self.connect_deadline.is_some()
    }

    /// A pong was received.
    pub(crate) fn on_pong(&mut self, now: Instant) {
        self.phase = Phase::Idle { next_ping: now + self.interval };
    }

    /// Another packet was received. It extends the deadline of an outstanding ping, once per ping.
    pub(crate) fn on_packet(&mut self, now: Instant) {
        if let Phase::AwaitingPong { extended: false, .. } = self.phase {
            self.phase = Phase::AwaitingPong { pong_deadline: now + self.timeout, extended: true };
        }
    }

    /// The last namespace was left. The client must join another one within the connect timeout.
    pub(crate) fn on_last_leave(&mut self, now: Instant) {
        self.connect_deadline = Some(now + self.connect);
    }

    /// A namespace was joined. The connect timeout is off while the client is in a namespace.
    pub(crate) fn on_join(&mut self) {
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
        timer.on_join();
        timer
    }

    #[test]
    fn a_ping_that_is_slightly_late_does_not_move_the_deadline() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut timer = joined(start);
        assert_eq!(timer.tick(at(10_500)), HeartbeatAction::Ping);
        assert_eq!(timer.tick(at(14_999)), HeartbeatAction::Wait);
        assert_eq!(timer.tick(at(15_000)), HeartbeatAction::Close(CloseReason::PingTimeout));
        let mut timer = joined(start);
        assert_eq!(timer.tick(at(12_000)), HeartbeatAction::Ping);
        assert_eq!(
            timer.tick(at(16_499)),
            HeartbeatAction::Wait,
            "the client has at least nine tenths of the timeout"
        );
        assert_eq!(timer.tick(at(16_500)), HeartbeatAction::Close(CloseReason::PingTimeout));
    }

    #[test]
    fn a_pong_sets_the_next_ping_one_interval_from_it() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut timer = joined(start);
        assert_eq!(timer.tick(at(10)), HeartbeatAction::Ping);
        timer.on_pong(at(12));
        assert_eq!(timer.tick(at(21)), HeartbeatAction::Wait);
        assert_eq!(timer.tick(at(22)), HeartbeatAction::Ping);
    }

    #[test]
    fn another_packet_extends_the_deadline_once_per_ping() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut timer = joined(start);
        assert_eq!(timer.tick(at(10)), HeartbeatAction::Ping);
        timer.on_packet(at(14));
        assert_eq!(timer.tick(at(18)), HeartbeatAction::Wait);
        timer.on_packet(at(18));
        assert_eq!(timer.tick(at(19)), HeartbeatAction::Close(CloseReason::PingTimeout));
    }

    #[test]
    fn a_client_that_leaves_all_namespaces_is_closed() {
        let start = Instant::now();
        let mut timer = joined(start);
        timer.on_last_leave(start);
        assert_eq!(
            timer.tick(start + Duration::from_secs(8)),
            HeartbeatAction::Close(CloseReason::ConnectTimeout)
        );
    }
}
