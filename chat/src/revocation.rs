//! Logins that end, by logout or by age, cut the sockets that were opened with them. Started by [`crate::start`]; watches sessions, calls the bus.

use std::time::Duration;

use sessions::{SessionId, SharedSessions};
use socketio::{Bus, CloseReason, Fanout};
use tokio::{
    sync::broadcast::{self, error::RecvError},
    time::{MissedTickBehavior, interval},
};

use crate::{log::of_session, seats::Seats};

/// How often it is asked whether sessions with sockets still live: they also end by age, which no closing tells of.
const CHECK: Duration = Duration::from_secs(30);

/// Cuts sockets as their sessions close or expire, until the store of sessions goes away. The cut goes straight to the bus: it
/// need not wait behind messages.
pub async fn watch(
    mut closings: broadcast::Receiver<SessionId>,
    sessions: SharedSessions,
    seats: Seats,
    bus: Bus,
) {
    let mut checks = interval(CHECK);
    checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let closed = tokio::select! {
            closed = closings.recv() => closed,
            _ = checks.tick() => {
                check(&sessions, &seats, &bus).await;
                continue;
            }
        };
        match closed {
            Ok(id) => bus.send(vec![cut(id.as_str())]).await,
            Err(RecvError::Lagged(missed)) => {
                tracing::warn!(missed, "closings of sessions were missed, asking for each");
                check(&sessions, &seats, &bus).await;
            }
            Err(RecvError::Closed) => return,
        }
    }
}

/// Asks for every session that has sockets here and cuts those that are over. One that nobody can answer for stays.
async fn check(sessions: &SharedSessions, seats: &Seats, bus: &Bus) {
    let mut over = Vec::new();
    for session in seats.sessions() {
        let Ok(id) = session.parse::<SessionId>() else { continue };
        match sessions.is_live(&id).await {
            Ok(true) => (),
            Ok(false) => over.push(cut(&session)),
            Err(error) => tracing::warn!(%error, "a session could not be checked"),
        }
    }
    bus.send(over).await;
}

fn cut(session: &str) -> Fanout {
    Fanout::Disconnect { of: of_session(session), reason: CloseReason::ServerLeft }
}
