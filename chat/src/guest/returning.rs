//! Clients that were here before: recognised by the ticket of an earlier visit, given what they have missed, all of it or
//! none. Called by [`super::door`]; reads tickets and the log.

use proto::{Identity, RoomName, Timestamp};
use socketio::{ReadPosition, Recovered, Resume, Socket, SocketId};

use crate::{
    Chat, Error,
    history::Missed,
    id::new_id,
    log::{Entry, Shown},
    tickets::{LIFETIME_MS, Ticket},
};

/// With what a client comes in.
pub struct Passage {
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
    /// [`crate::log::Log::unplaced`] before it entered the first one.
    pub unplaced: u64,
}

/// The ticket that the client shows, if it is one of its own user's. A connection that still holds its place is closed.
pub async fn recognise(
    chat: &Chat,
    identity: &Identity,
    socket: &Socket,
    resume: Option<&Resume>,
) -> Result<Option<Ticket>, Error> {
    let Some(resume) = resume else { return Ok(None) };
    let now = sessions::ages::now();
    let oldest = Timestamp(now.0.saturating_sub(LIFETIME_MS));
    let ticket = chat.tickets().find(&resume.pid, oldest).await?;
    // A ticket that a wrong clock has dated years ahead would never be too old.
    let ticket = ticket
        .filter(|ticket| ticket.user.key() == identity.username.key() && !ticket.issued.is_ahead_of(now));
    if let Some(ticket) = &ticket {
        let _turn = chat.comebacks().lock(&ticket.pid).await;
        let sid = SocketId::from_stored(&ticket.sid);
        let superseded = Entry::Superseded(sid.clone());
        chat.log().tell(superseded.clone()).await;
        chat.log().spread(&superseded).await;
        chat.log().flush_here().await;
        socket.adopt(&sid);
    }
    Ok(ticket)
}

/// Lets a recognised client go on where it was. None when something would be missing: then it starts anew.
pub async fn resume(
    chat: &Chat,
    ticket: Ticket,
    socket: &Socket,
    resume: Option<&Resume>,
    entered: Entered<'_>,
) -> Result<Option<Passage>, Error> {
    let shown = resume.and_then(|resume| resume.offset.as_deref());
    let left = chat.comebacks().left(&socket.id());
    let after = match shown.map(|shown| chat.log().read(shown)) {
        None => ticket.since,
        Some(Shown::Here(offset)) => offset,
        Some(Shown::Elsewhere | Shown::Replaced) => {
            return Ok(anew("its place is in another log, or in none"));
        }
        Some(Shown::Nothing) => match left {
            ReadPosition::Start => ticket.since,
            ReadPosition::At(offset) => offset,
            ReadPosition::Unknown => return Ok(anew("its place is not known")),
        },
    };
    let Entered { rooms, unplaced } = entered;
    let Some(Missed { messages, reached }) = chat.log().missed(rooms, after, &ticket.sid).await? else {
        return Ok(anew("the log does not have all that it has missed"));
    };
    if chat.log().was_unplaced(messages.iter().map(|(_, message)| message), unplaced) {
        // It is on its way to this socket, without a place by which it could be left out.
        return Ok(anew("it may have a message without its place"));
    }
    let missed = messages.iter().filter_map(|(offset, message)| chat.log().encode(message, *offset));
    let recovered = Recovered { missed: missed.collect(), reached };
    Ok(Some(Passage { pid: ticket.pid, recovered: Some(recovered), offset: chat.log().show(reached) }))
}

/// A client that does not recover, and why.
fn anew(why: &str) -> Option<Passage> {
    tracing::debug!(why, "a client starts anew");
    None
}

/// Whether the client was here before a backup was restored or a loss was accepted.
pub fn is_of_replaced_history(chat: &Chat, resume: Option<&Resume>) -> bool {
    let shown = resume.and_then(|resume| resume.offset.as_deref());
    shown.is_some_and(|shown| chat.log().is_of_replaced_history(shown))
}

/// Makes out a ticket for a client that is new here, which is at `reached` in the log.
pub async fn start(
    chat: &Chat,
    identity: &Identity,
    socket: &Socket,
    reached: u64,
) -> Result<Passage, Error> {
    let pid = new_id()?;
    socket.adopt(&SocketId::random()?);
    let ticket = Ticket {
        pid: pid.clone(),
        sid: socket.id().as_str().to_owned(),
        user: identity.username.clone(),
        since: reached,
        issued: sessions::ages::now(),
    };
    chat.tickets().issue(ticket).await?;
    Ok(Passage { pid, recovered: None, offset: chat.log().show(reached) })
}
