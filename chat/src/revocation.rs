//! Sessions that end, by logout, by age or by a login beyond the limit, cut the sockets that were opened with them. Each socket first
//! gets the event `error`, which names the cause. Started by [`crate::start`]; watches sessions, calls the io.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use proto::event::{Code, Refused, name};
use sessions::{Cause, Closing, SessionId, SharedSessions};
use socketio::{CloseReason, Io, Operation, Target};
use tokio::{
    sync::broadcast::{self, error::RecvError},
    time::{Instant, MissedTickBehavior, interval},
};

use crate::{
    broker::{encode, of_session},
    socket_quota::SocketQuota,
};

/// How often it is asked, or up to [`PROBE`] later, whether sessions with sockets still live: they also end by age, which no closing
/// tells of, and a closing can be lost on its way.
const CHECK: Duration = Duration::from_secs(20);

/// How many sessions are asked for at the same time.
const AT_ONCE: usize = 16;

/// How often it is asked whether anybody can say so.
const PROBE: Duration = Duration::from_secs(5);

/// How long sockets stay of which nobody can say whether their logins still live.
const GRACE: Duration = Duration::from_secs(60);

/// See [`watch`].
struct Watch {
    sessions: SharedSessions,
    socket_quota: SocketQuota,
    io: Io,
    grace: Duration,
    /// When all of them were last asked for.
    checked: Option<Instant>,
    /// When somebody last said so.
    answered: Instant,
    /// Since when nobody can say which sessions live.
    silent: Option<Instant>,
}

/// Cuts sockets as their sessions close or expire, until the store of sessions goes away. The cut goes straight to the io: it
/// need not wait behind messages.
pub async fn watch(
    closings: broadcast::Receiver<Closing>,
    sessions: SharedSessions,
    socket_quota: SocketQuota,
    io: Io,
) {
    let watch = Watch {
        sessions,
        socket_quota,
        io,
        grace: GRACE,
        // All at once: after a panic of this task, what closed meanwhile was not received.
        checked: None,
        answered: Instant::now(),
        silent: None,
    };
    watch.run(closings, PROBE).await;
}

impl Watch {
    async fn run(mut self, mut closings: broadcast::Receiver<Closing>, probe: Duration) {
        let mut probes = interval(probe);
        probes.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let closed = tokio::select! {
                closed = closings.recv() => closed,
                _ = probes.tick() => {
                    self.look().await;
                    continue;
                }
            };
            match closed {
                Ok(closing) => self.io.send(end(&closing)).await,
                Err(RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "closings of sessions were missed, asking for each");
                    self.check(usize::MAX).await;
                }
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// Asks for one session often, and for all of them now and then; ends the sockets of all when that has long been in vain.
    async fn look(&mut self) {
        let started = Instant::now();
        let is_due = self.silent.is_some() || self.checked.is_none_or(|checked| checked.elapsed() >= CHECK);
        if self.check(if is_due { usize::MAX } else { 1 }).await {
            (self.silent, self.answered) = (None, Instant::now());
            if is_due {
                self.checked = Some(started);
            }
            return;
        }
        let since = *self.silent.get_or_insert(self.answered);
        if since.elapsed() >= self.grace {
            tracing::warn!("sockets are closed because nobody can say whether their sessions live");
            let close = |session: String| Operation::Close {
                of: of_session(&session),
                reason: CloseReason::Unverifiable,
            };
            self.io.send(self.socket_quota.sessions().into_iter().map(close).collect()).await;
        }
    }

    /// Asks for sessions that have sockets here, at most so many, and cuts those that are over. False when nobody answers: those
    /// stay for now.
    async fn check(&self, most: usize) -> bool {
        let mut over = Vec::new();
        let mut is_answered = true;
        let ids =
            self.socket_quota.sessions().into_iter().take(most).filter_map(|session| session.parse().ok());
        let asked = ids.map(async |id: SessionId| (self.sessions.is_live(&id).await, id));
        let mut answers = stream::iter(asked).buffer_unordered(AT_ONCE);
        while let Some((answer, id)) = answers.next().await {
            match answer {
                Ok(true) => (),
                Ok(false) => over.extend(cut(id.as_str(), EXPIRED)),
                Err(error) => {
                    tracing::warn!(%error, "sessions cannot be checked");
                    is_answered = false;
                    break;
                }
            }
        }
        drop(answers);
        self.io.send(over).await;
        is_answered
    }
}

/// What a client gets with the code `unauthorized` when its session ends by a logout.
const LOGGED_OUT: &str = "the session was ended by a logout";

/// The same when its user has logged in too often. The number is [`sessions::PER_USER`].
const CROWDED: &str =
    "the session was ended by a login: a user has at most 20 sessions, and one more ends the oldest";

/// The same when the session is gone without a closing that was received. The time is [`sessions::LIFETIME_SECONDS`].
const EXPIRED: &str = "the session has ended: a session ends 24 h after its login, or by a logout";

/// The end of a session's sockets. A client whose session was replaced reconnects by itself, which it would not after packet
/// `41`; everybody else is out.
fn end(closing: &Closing) -> Vec<Operation> {
    let session = closing.id.as_str();
    match closing.cause {
        Cause::Ended => cut(session, LOGGED_OUT),
        Cause::Evicted => cut(session, CROWDED),
        Cause::Expired => cut(session, EXPIRED),
        Cause::Replaced => {
            vec![Operation::Close { of: of_session(session), reason: CloseReason::CredentialsReplaced }]
        }
    }
}

fn cut(session: &str, cause: &str) -> Vec<Operation> {
    let of = of_session(session);
    let packet = encode(name::ERROR, &Refused::new(Code::Unauthorized, cause.to_owned()), None);
    let to = Target::room("/", of.clone());
    let named = packet.map(|packet| Operation::Send { to, packet, volatile: false });
    named
        .into_iter()
        .chain([Operation::Disconnect { of, close: Some(CloseReason::ServerDisconnect) }])
        .collect()
}
