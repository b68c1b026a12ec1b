//! Connection state recovery: finds the session of a client that reconnects, and replays the messages and changes that it has
//! missed. It replays all of them, or the client starts a new session. Called by [`super::connect`]; reads the broker.

use proto::{Identity, RoomName, Timestamp, Username};
use socketio::{ClientOffset, Encoded, Recovered, Resume, Socket, SocketId};

use crate::{
    Chat, Error,
    broker::ParsedOffset,
    history::{Missed, MissedBy},
    recovery_ticket::RecoveryTicket,
};

/// The recovery state of a client that connects.
pub struct Recovery {
    /// The private id by which the client can recover this session later.
    pub pid: String,
    /// The missed messages. `None` if the client starts a new session.
    pub recovered: Option<Recovered>,
    /// The client's current stream offset.
    pub offset: String,
}

/// The rooms that a client has joined.
pub struct JoinedRooms<'a> {
    /// Their names.
    pub rooms: &'a [RoomName],
    /// [`crate::broker::Broker::fallback_deliveries`] before the client joined the first room.
    pub fallback_deliveries: u64,
}

/// A session that a client can recover.
pub struct RecoverySession {
    pid: String,
    ticket: RecoveryTicket,
}

/// The session of the client's ticket. A connection that still uses it is closed, on any node.
pub async fn find_session(
    chat: &Chat,
    identity: &Identity,
    socket: &Socket,
    resume: Option<&Resume>,
) -> Option<RecoverySession> {
    let pid = &resume?.pid;
    let ticket = chat.tickets().verify(&identity.username, pid, Timestamp::now())?;
    let _turn = chat.reconnects().lock(pid).await;
    let sid = SocketId::from_stored(&ticket.sid);
    chat.broker().supersede(&sid).await;
    socket.adopt(&sid);
    Some(RecoverySession { pid: pid.clone(), ticket })
}

/// Recovers `session` from the client's last position in the stream. `None` when a message could be missing or be delivered twice: the
/// client then starts a new session.
pub async fn resume(
    chat: &Chat,
    user: &Username,
    session: RecoverySession,
    socket: &Socket,
    resume: Option<&Resume>,
    joined: JoinedRooms<'_>,
) -> Result<Option<Recovery>, Error> {
    let offset = resume.and_then(|resume| resume.offset.as_deref());
    let left = chat.reconnects().take(&socket.id());
    let offset = offset.map(|offset| match chat.broker().parse_offset(offset) {
        ParsedOffset::Current(offset) => ClientOffset::At(offset),
        ParsedOffset::OtherEpoch | ParsedOffset::ReplacedHistory => ClientOffset::OtherLog,
        ParsedOffset::Invalid => ClientOffset::Invalid,
    });
    let after = match ClientOffset::replay_start(offset, session.ticket.since, left) {
        Ok(after) => after,
        Err(why) => return Ok(not_recovered(why)),
    };
    let JoinedRooms { rooms, fallback_deliveries } = joined;
    let client = MissedBy { user, rooms, socket: &session.ticket.sid };
    let Some(missed) = chat.broker().missed(client, after).await? else {
        return Ok(not_recovered("the stream does not contain all missed messages and changes"));
    };
    let (messages, reached) = (&missed.messages, missed.reached);
    if chat.broker().may_be_fallback_delivery(messages, fallback_deliveries) {
        // This socket also receives the message live, without an offset by which the duplicate could be dropped.
        return Ok(not_recovered("a missed message may have been delivered without an offset"));
    }
    let recovered = Recovered { missed: encode(chat, &missed), reached };
    Ok(Some(Recovery {
        pid: session.pid,
        recovered: Some(recovered),
        offset: chat.broker().format_offset(reached),
    }))
}

/// The missed events in the order of the log.
fn encode(chat: &Chat, missed: &Missed) -> Vec<Encoded> {
    let mut events: Vec<(u64, Vec<Encoded>)> = Vec::with_capacity(missed.messages.len());
    for (offset, message) in &missed.messages {
        events.push((*offset, chat.broker().encode(message, *offset).into_iter().collect()));
    }
    for (offset, change) in &missed.changes {
        events.push((*offset, chat.broker().encode_missed_change(change, *offset)));
    }
    events.sort_by_key(|(offset, _)| *offset);
    events.into_iter().flat_map(|(_, packets)| packets).collect()
}

/// Logs why a client is not recovered.
fn not_recovered(why: &str) -> Option<Recovery> {
    tracing::debug!(why, "client not recovered, starting a new session");
    None
}

/// Starts a session that the client can recover, at the stream offset `reached`.
pub fn start(chat: &Chat, user: &Username, socket: &Socket, reached: u64) -> Result<Recovery, Error> {
    socket.adopt(&SocketId::random()?);
    let ticket =
        RecoveryTicket { sid: socket.id().as_str().to_owned(), since: reached, issued: Timestamp::now() };
    let pid = chat.tickets().sign(user, &ticket);
    Ok(Recovery { pid, recovered: None, offset: chat.broker().format_offset(reached) })
}
