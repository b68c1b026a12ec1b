//! Who comes in: the session's user and nobody else, if there is a slot; into the rooms that are theirs at that moment. Called
//! by [`super::Clients`]; asks sessions and directory.

use std::{collections::HashSet, rc::Rc, time::Duration};

use proto::{Identity, RoomName, event::Code};
use serde_json::{Value, json};
use sessions::{SessionId, Token};
use socketio::{Accepted, CloseReason, Connect, Refusal, Resume, Room, Socket, SocketId};
use tokio::time::sleep;

use super::{
    Admitted, Client,
    queue::CommandQueue,
    recovery::{self, Entered, Recovery},
};
use crate::{
    Chat, Error,
    broker::{of_room, of_session, of_user},
    chat::{deadline_now, with_deadline},
    socket_quota::SocketSlot,
};

/// Before a store that failed is asked again; it doubles.
const AGAIN: Duration = Duration::from_millis(200);

/// How often somebody who comes back looks for a free slot.
const SLOT_TRIES: u32 = 50;

/// Between two of these looks.
const SLOT_PAUSE: Duration = Duration::from_millis(20);

/// How often the memberships are read again when they change meanwhile.
const TRIES: usize = 8;

/// Lets a client in, or says why not, or when that is no fault of theirs ends the connection. Identity is a session's user;
/// of what the client claims in the CONNECT payload, only a session's token counts, and that only where the request had none.
pub async fn enter(chat: Chat, connect: Connect<Admitted>) -> Result<Accepted<Client>, Refusal> {
    if &*connect.namespace != "/" {
        return Err(Refusal::new("Invalid namespace"));
    }
    supervision::fault!("connect");
    let socket = connect.socket.clone();
    let come = async {
        let mut pause = AGAIN;
        loop {
            let came = async {
                let identity = identify(&chat, &connect).await?;
                let (slot, passage) = admit(&chat, &socket, &identity, connect.resume.as_ref()).await?;
                Ok((identity, slot, passage))
            };
            match came.await {
                // A store that was late once is asked again, as long as there is time.
                Err(Error::Store(error)) => tracing::debug!(%error, "a client has to wait for a store"),
                settled => return settled,
            }
            // Else the next attempt would close this very connection as the one that holds the place.
            socket.adopt(&SocketId::random()?);
            sleep(pause).await;
            pause *= 2;
        }
    };
    match with_deadline(deadline_now(), come).await {
        Ok((identity, slot, passage)) => {
            let replaced = recovery::is_of_replaced_history(&chat, connect.resume.as_ref());
            let visit = Rc::new(CommandQueue::new(chat, socket, identity.username, replaced));
            let Recovery { pid, recovered, offset } = passage;
            Ok(Accepted {
                peer: Client::new(visit, connect.admission.limits.clone(), slot, offset),
                pid: Some(pid),
                recovered,
            })
        }
        Err(error) if error.code() == Code::Unavailable => {
            tracing::debug!(%error, "nobody can be let in now");
            // Stock clients do not come back after a refusal; after a lost connection they do. The end of the session drops
            // this, so that no refusal is sent after all.
            socket.close(CloseReason::ServerClose);
            std::future::pending().await
        }
        Err(error) => Err(refusal(&error)),
    }
}

/// Who the client is: the user of the token in CONNECT or, without a valid one there, of the request's credentials. A page that logged
/// in for a token is its user on every transport, whatever cookie the browser adds.
async fn identify(chat: &Chat, connect: &Connect<Admitted>) -> Result<Identity, Error> {
    let token: Option<Token> =
        connect.auth.get("token").and_then(Value::as_str).and_then(|token| token.parse().ok());
    let found = match &token {
        None => None,
        Some(token) => {
            let found = chat.sessions().find_for_socket(token).await;
            found.map_err(|error| Error::Store(error.to_string()))?
        }
    };
    let named = found.map(|session| Identity { username: session.username, session: session.id.to_string() });
    named.or_else(|| connect.admission.identity.clone()).ok_or(Error::Unauthorized)
}

async fn admit(
    chat: &Chat,
    socket: &Socket,
    identity: &Identity,
    resume: Option<&Resume>,
) -> Result<(SocketSlot, Recovery), Error> {
    chat.check_connects()?;
    // When everybody comes back at once they wait here for each other rather than be turned away by a full store.
    let _turn = chat.door().take(&identity.username).await?;
    let recovery_session = recovery::recognise(chat, identity, socket, resume).await?;
    let slot = take_slot(chat, identity, recovery_session.is_some()).await?;
    let (reached, unplaced) = (chat.broker().reached(), chat.broker().unplaced());
    let rooms = enter_rooms(chat, socket, identity).await?;
    // Asked when the socket is already where a closing cuts it: a logout just before this cannot be missed.
    check_session(chat, identity).await?;
    let passage = match recovery_session {
        Some(recovery_session) => {
            recovery::resume(chat, recovery_session, socket, resume, Entered { rooms: &rooms, unplaced })
                .await?
        }
        None => None,
    };
    let passage = match passage {
        Some(passage) => passage,
        None => recovery::start(chat, identity, socket, reached).await?,
    };
    Ok((slot, passage))
}

/// A slot; whoever comes back may have to wait for the connection it had to give its own up.
async fn take_slot(chat: &Chat, identity: &Identity, comes_back: bool) -> Result<SocketSlot, Error> {
    let mut tries = if comes_back { SLOT_TRIES } else { 1 };
    loop {
        tries -= 1;
        match chat.socket_quota().take(identity) {
            Err(Error::RateLimited { .. }) if tries > 0 => sleep(SLOT_PAUSE).await,
            slot => return slot,
        }
    }
}

/// Enters the fan-out rooms. A change of membership that is committed between the reading and the entering is told to
/// sockets that this one was not among yet, so then they are read again.
async fn enter_rooms(chat: &Chat, socket: &Socket, identity: &Identity) -> Result<Vec<RoomName>, Error> {
    let user = &identity.username;
    socket.join(&of_user(user));
    socket.join(&of_session(&identity.session));
    let mut entered: HashSet<Room> = HashSet::new();
    for _ in 0..TRIES {
        let before = chat.broker().memberships();
        let room_infos = chat.directory().rooms_of(user).await?;
        let names: Vec<RoomName> = room_infos.iter().map(|room_info| room_info.name.clone()).collect();
        let is_new = chat.broker().subscribe(&names).await?;
        let theirs: HashSet<Room> = room_infos.iter().map(|room_info| of_room(&room_info.name)).collect();
        theirs.iter().for_each(|room| socket.join(room));
        entered.difference(&theirs).for_each(|room| socket.leave(room));
        if !is_new && chat.broker().memberships() == before {
            return Ok(names);
        }
        entered = theirs;
    }
    Err(Error::full())
}

/// The session may have ended since the handshake.
async fn check_session(chat: &Chat, identity: &Identity) -> Result<(), Error> {
    let id: SessionId = identity.session.parse().map_err(|_| Error::Unauthorized)?;
    match chat.sessions().is_live(&id).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(Error::Unauthorized),
        Err(error) => Err(Error::Store(error.to_string())),
    }
}

/// A CONNECT_ERROR that says why.
fn refusal(error: &Error) -> Refusal {
    let message = match error.code() {
        Code::Unauthorized => "Authentication required".to_owned(),
        _ => error.public(),
    };
    let retry_after = error.refused().retry_after;
    let mut data = json!({"code": error.code(), "message": message});
    if let Some(seconds) = retry_after {
        data["retryAfter"] = json!(seconds);
    }
    Refusal { message, data: Some(data) }
}
