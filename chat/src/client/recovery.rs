//! Clients that were here before: recognised by the recovery_session of an earlier visit, given what they have missed, all of it or
//! none. Called by [`super::connect`]; reads recovery_sessions and the log.

use proto::{Identity, RoomName, Timestamp};
use socketio::{ReadPosition, Recovered, Resume, Socket, SocketId};

use crate::{
    Chat, Error,
    broker::{Entry, ParsedOffset},
    history::Missed,
    id::new_id,
    recovery_sessions::{LIFETIME_MS, RecoverySession},
};

/// With what a client comes in.
pub struct Recovery {
    /// The secret by which it is recognised the next time.
    pub pid: String,
    /// What it gets back, if it was here before.
    pub recovered: Option<Recovered>,
    /// Where it is in the log now.
    pub offset: String,
}

/// The rooms that a client has entered.
pub struct Entered<'a> {
    /// Their names.
    pub rooms: &'a [RoomName],
    /// [`crate::broker::Broker::unplaced`] before it entered the first one.
    pub unplaced: u64,
}

/// The recovery_session that the client shows, if it is one of its own user's. A connection that still holds its place is closed.
pub async fn recognise(
    chat: &Chat,
    identity: &Identity,
    socket: &Socket,
    resume: Option<&Resume>,
) -> Result<Option<RecoverySession>, Error> {
    let Some(resume) = resume else { return Ok(None) };
    let now = sessions::ages::now();
    let oldest = Timestamp(now.0.saturating_sub(LIFETIME_MS));
    let recovery_session = chat.recovery_sessions().find(&resume.pid, oldest).await?;
    // A recovery_session that a wrong clock has dated years ahead would never be too old.
    let recovery_session = recovery_session.filter(|recovery_session| {
        recovery_session.user.key() == identity.username.key() && !recovery_session.issued.is_ahead_of(now)
    });
    if let Some(recovery_session) = &recovery_session {
        let _turn = chat.reconnects().lock(&recovery_session.pid).await;
        let sid = SocketId::from_stored(&recovery_session.sid);
        let superseded = Entry::Superseded(sid.clone());
        chat.broker().tell(superseded.clone()).await;
        chat.broker().announce(&superseded).await;
        chat.broker().flush_here().await;
        socket.adopt(&sid);
    }
    Ok(recovery_session)
}

/// Lets a recognised client go on where it was. None when something would be missing: then it starts anew.
pub async fn resume(
    chat: &Chat,
    recovery_session: RecoverySession,
    socket: &Socket,
    resume: Option<&Resume>,
    entered: Entered<'_>,
) -> Result<Option<Recovery>, Error> {
    let shown = resume.and_then(|resume| resume.offset.as_deref());
    let left = chat.reconnects().left(&socket.id());
    let after = match shown.map(|shown| chat.broker().read(shown)) {
        None => recovery_session.since,
        Some(ParsedOffset::Here(offset)) => offset,
        Some(ParsedOffset::Elsewhere | ParsedOffset::Replaced) => {
            return Ok(anew("its place is in another log, or in none"));
        }
        Some(ParsedOffset::Nothing) => match left {
            ReadPosition::Start => recovery_session.since,
            ReadPosition::At(offset) => offset,
            ReadPosition::Unknown => return Ok(anew("its place is not known")),
        },
    };
    let Entered { rooms, unplaced } = entered;
    let Some(Missed { messages, reached }) =
        chat.broker().missed(rooms, after, &recovery_session.sid).await?
    else {
        return Ok(anew("the log does not have all that it has missed"));
    };
    if chat.broker().was_unplaced(messages.iter().map(|(_, message)| message), unplaced) {
        // It is on its way to this socket, without a place by which it could be left out.
        return Ok(anew("it may have a message without its place"));
    }
    let missed = messages.iter().filter_map(|(offset, message)| chat.broker().encode(message, *offset));
    let recovered = Recovered { missed: missed.collect(), reached };
    Ok(Some(Recovery {
        pid: recovery_session.pid,
        recovered: Some(recovered),
        offset: chat.broker().show(reached),
    }))
}

/// A client that does not recover, and why.
fn anew(why: &str) -> Option<Recovery> {
    tracing::debug!(why, "a client starts anew");
    None
}

/// Whether the client was here before a backup was restored or a loss was accepted.
pub fn is_of_replaced_history(chat: &Chat, resume: Option<&Resume>) -> bool {
    let shown = resume.and_then(|resume| resume.offset.as_deref());
    shown.is_some_and(|shown| chat.broker().is_of_replaced_history(shown))
}

/// Makes out a recovery_session for a client that is new here, which is at `reached` in the log.
pub async fn start(
    chat: &Chat,
    identity: &Identity,
    socket: &Socket,
    reached: u64,
) -> Result<Recovery, Error> {
    let pid = new_id()?;
    socket.adopt(&SocketId::random()?);
    let recovery_session = RecoverySession {
        pid: pid.clone(),
        sid: socket.id().as_str().to_owned(),
        user: identity.username.clone(),
        since: reached,
        issued: sessions::ages::now(),
    };
    chat.recovery_sessions().issue(recovery_session).await?;
    Ok(Recovery { pid, recovered: None, offset: chat.broker().show(reached) })
}
