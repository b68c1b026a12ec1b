//! Revocation: disconnects the sockets of sessions that ended by a logout, by age or by a login beyond the limit. Each socket first
//! receives the event `error` with the cause. Started by [`crate::start`]; watches sessions, calls the io.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use proto::event::{Code, Refused, name};
use sessions::{Cause, Closing, Closings, RecvError, SessionId, SharedSessions};
use socketio::{CloseReason, Io, Operation, Target};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until, timeout},
};

use crate::{
    broker::{encode, session_sockets},
    socket_quota::SocketQuota,
};

/// The interval between two checks of all sessions that have sockets. Sessions also end by age, without a closing.
const CHECK: Duration = Duration::from_secs(20);

/// The minimum interval between two checks, after missed closings and after failures.
const RETRY: Duration = Duration::from_secs(1);

/// The number of concurrent checks of sessions.
const AT_ONCE: usize = 16;

/// How long sockets stay connected while their sessions cannot be checked.
const GRACE: Duration = Duration::from_secs(60);

/// Disconnects sockets when their sessions close or expire, until the channel of closings is closed. It calls the io directly, so a
/// disconnect does not wait behind messages.
pub async fn watch(closings: Closings, sessions: SharedSessions, socket_quota: SocketQuota, io: Io) {
    let missed = Notify::new();
    // A closing does not wait for a check in progress.
    tokio::select! {
        () = receive(closings, &io, &missed) => {}
        () = check_repeatedly(&sessions, &socket_quota, &io, &missed) => {}
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

/// Checks all sessions at intervals, and at once when closings may have been missed. Never returns. The first check is at once: after a
/// panic of this task, closings were lost.
async fn check_repeatedly(sessions: &SharedSessions, socket_quota: &SocketQuota, io: &Io, missed: &Notify) {
    let mut failing_since = None;
    loop {
        let started = Instant::now();
        if let Err(error) = check(sessions, socket_quota, io).await {
            if failing_since.is_none() {
                tracing::warn!(%error, "sessions cannot be checked; retrying");
            }
            let since = *failing_since.get_or_insert(started);
            if since.elapsed() >= GRACE {
                tracing::warn!("sockets are closed because their sessions cannot be checked");
                let close = |session: String| Operation::Close {
                    of: session_sockets(&session),
                    reason: CloseReason::Unverifiable,
                };
                io.send(socket_quota.sessions().into_iter().map(close).collect()).await;
            }
        } else {
            failing_since = None;
        }
        // However often closings are missed, checks take at most half of the time.
        let earliest = Instant::now() + RETRY.max(started.elapsed());
        if failing_since.is_none() {
            _ = timeout(CHECK, missed.notified()).await;
        }
        sleep_until(earliest).await;
    }
}

/// Checks all sessions that have sockets here, and disconnects those that have ended.
///
/// # Errors
/// When the store of sessions does not answer. Then the sockets of the remaining sessions stay connected.
async fn check(
    sessions: &SharedSessions,
    socket_quota: &SocketQuota,
    io: &Io,
) -> Result<(), sessions::Error> {
    let mut expired = Vec::new();
    let mut checked = Ok(());
    let ids = socket_quota.sessions().into_iter().filter_map(|session| session.parse().ok());
    let checks = ids.map(async |id: SessionId| (sessions.find(&id).await, id));
    let mut answers = stream::iter(checks).buffer_unordered(AT_ONCE);
    while let Some((answer, id)) = answers.next().await {
        match answer {
            Ok(Some(_)) => (),
            Ok(None) => expired.extend(disconnect(id.as_str(), EXPIRED)),
            Err(error) => {
                checked = Err(error);
                break;
            }
        }
    }
    drop(answers);
    io.send(expired).await;
    checked
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
