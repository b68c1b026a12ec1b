//! Revocation: disconnects the sockets of sessions that ended by a logout, by age or by a login beyond the limit. Each socket first
//! receives the event `error` with the cause. Started by [`crate::start`]; watches sessions, calls the io.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use proto::event::{Code, Refused, name};
use sessions::{Cause, Closing, Closings, RecvError, SessionId, SharedSessions};
use socketio::{CloseReason, Io, Operation, Target};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    broker::{encode, session_sockets},
    socket_quota::SocketQuota,
};

/// The interval between two checks of all sessions that have sockets, plus up to [`PROBE`]. Sessions also end by age, without a closing.
const CHECK: Duration = Duration::from_secs(20);

/// The minimum interval between two checks of all sessions after missed closings. Also the interval of their retries.
const MISSED_INTERVAL: Duration = Duration::from_secs(1);

/// The number of concurrent checks of sessions.
const AT_ONCE: usize = 16;

/// The interval between two checks that the store of sessions answers.
const PROBE: Duration = Duration::from_secs(5);

/// How long sockets stay connected while their sessions cannot be checked.
const GRACE: Duration = Duration::from_secs(60);

/// The state of [`watch`].
struct Watch {
    sessions: SharedSessions,
    socket_quota: SocketQuota,
    io: Io,
    /// The time of the last complete check of all sessions. `None` before the first.
    last_check: Option<Instant>,
    /// Whether closings may have been missed since the begin of the last complete check.
    has_missed: bool,
    /// The time of the last answer of the store of sessions.
    last_answer: Instant,
    /// The last answer before the store of sessions stopped answering. `None` while it answers.
    unverified_since: Option<Instant>,
}

/// Disconnects sockets when their sessions close or expire, until the channel of closings is closed. It calls the io directly, so a
/// disconnect does not wait behind messages.
pub async fn watch(closings: Closings, sessions: SharedSessions, socket_quota: SocketQuota, io: Io) {
    let watch = Watch {
        sessions,
        socket_quota,
        io: io.clone(),
        // All sessions are checked first: after a panic of this task, closings were lost.
        last_check: None,
        has_missed: false,
        last_answer: Instant::now(),
        unverified_since: None,
    };
    let missed = Notify::new();
    // A closing does not wait for a check in progress.
    tokio::select! {
        () = receive(closings, &io, &missed) => {}
        () = watch.check_repeatedly(&missed) => {}
    }
}

/// Disconnects the sockets of closed sessions, and notifies `missed` when closings may have been missed.
async fn receive(mut closings: Closings, io: &Io, missed: &Notify) {
    loop {
        match closings.recv().await {
            Ok(closing) => io.send(end_sockets(&closing)).await,
            Err(RecvError::Missed) => missed.notify_one(),
            Err(RecvError::Closed) => return,
        }
    }
}

impl Watch {
    /// Checks sessions at intervals, and at once when closings may have been missed. Never returns.
    async fn check_repeatedly(mut self, missed: &Notify) {
        loop {
            let started = Instant::now();
            let is_full = self.probe().await;
            // However often closings are missed, checks of all sessions take at most half of the time.
            let elapsed = started.elapsed();
            let pause =
                if is_full { elapsed.max(MISSED_INTERVAL.saturating_sub(elapsed)) } else { Duration::ZERO };
            let earliest = Instant::now() + pause;
            tokio::select! {
                () = sleep(if self.has_missed { pause } else { PROBE }) => {}
                () = missed.notified() => {
                    self.has_missed = true;
                    sleep_until(earliest).await;
                }
            }
        }
    }

    /// Checks one session, or all of them when that is due. Closes all sockets when the store of sessions has not answered for [`GRACE`].
    /// Returns whether the check was one of all sessions.
    async fn probe(&mut self) -> bool {
        let started = Instant::now();
        let is_due = self.has_missed
            || self.unverified_since.is_some()
            || self.last_check.is_none_or(|last_check| last_check.elapsed() >= CHECK);
        if self.check(if is_due { usize::MAX } else { 1 }).await {
            (self.unverified_since, self.last_answer) = (None, Instant::now());
            if is_due {
                (self.last_check, self.has_missed) = (Some(started), false);
            }
            return is_due;
        }
        let since = *self.unverified_since.get_or_insert(self.last_answer);
        if since.elapsed() >= GRACE {
            tracing::warn!(
                seconds = since.elapsed().as_secs(),
                "sockets are closed because their sessions cannot be checked"
            );
            let close = |session: String| Operation::Close {
                of: session_sockets(&session),
                reason: CloseReason::Unverifiable,
            };
            self.io.send(self.socket_quota.sessions().into_iter().map(close).collect()).await;
        }
        is_due
    }

    /// Checks at most `max` sessions that have sockets here, and disconnects those that have ended. Returns false when the store of
    /// sessions does not answer. Then the sockets stay connected.
    async fn check(&self, max: usize) -> bool {
        let mut expired = Vec::new();
        let mut is_answered = true;
        let ids =
            self.socket_quota.sessions().into_iter().take(max).filter_map(|session| session.parse().ok());
        let checks = ids.map(async |id: SessionId| (self.sessions.is_live(&id).await, id));
        let mut answers = stream::iter(checks).buffer_unordered(AT_ONCE);
        while let Some((answer, id)) = answers.next().await {
            match answer {
                Ok(true) => (),
                Ok(false) => expired.extend(disconnect(id.as_str(), EXPIRED)),
                Err(error) => {
                    match self.unverified_since {
                        None => tracing::warn!(%error, "sessions cannot be checked; retrying"),
                        Some(_) => tracing::debug!(%error, "sessions still cannot be checked; retrying"),
                    }
                    is_answered = false;
                    break;
                }
            }
        }
        drop(answers);
        self.io.send(expired).await;
        is_answered
    }
}

/// The message of `unauthorized` when the session ends by a logout.
const LOGGED_OUT: &str = "the session was ended by a logout";

/// The message when a login evicts the session. The number is [`sessions::PER_USER`].
const EVICTED: &str =
    "the session was ended by a login: a user has at most 20 sessions, and one more ends the oldest";

/// The message when the session has ended and no closing was received. The time is [`sessions::LIFETIME_SECONDS`].
const EXPIRED: &str = "the session has ended: a session ends 24 h after its login, or by a logout";

/// The operations that end the sockets of a session. A replaced session's sockets are closed without packet `41`, because stock clients
/// reconnect after that. All others are disconnected with packet `41`, and stock clients do not reconnect.
fn end_sockets(closing: &Closing) -> Vec<Operation> {
    let session = closing.id.as_str();
    match closing.cause {
        Cause::Ended => disconnect(session, LOGGED_OUT),
        Cause::Evicted => disconnect(session, EVICTED),
        Cause::Expired => disconnect(session, EXPIRED),
        Cause::Replaced => {
            vec![Operation::Close { of: session_sockets(session), reason: CloseReason::CredentialsReplaced }]
        }
    }
}

fn disconnect(session: &str, cause: &str) -> Vec<Operation> {
    let of = session_sockets(session);
    let packet = encode(name::ERROR, &Refused::new(Code::Unauthorized, cause.to_owned()), None);
    let to = Target::room("/", of.clone());
    let named = packet.map(|packet| Operation::Send { to, packet, volatile: false });
    named
        .into_iter()
        .chain([Operation::Disconnect { of, close: Some(CloseReason::ServerDisconnect) }])
        .collect()
}
