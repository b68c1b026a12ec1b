//! Who comes in: the session's user and nobody else, if there is a seat; into the rooms that are theirs at that moment.

use std::{collections::HashSet, rc::Rc};

use proto::{Identity, event::Code};
use serde_json::json;
use sessions::SessionId;
use socketio::{Connect, Refusal, Room, Socket};

use super::{Guest, visit::Visit};
use crate::{
    Chat, Error,
    chat::{due, within},
    log::{of_room, of_session, of_user},
};

/// How often the memberships are read again when they change meanwhile.
const TRIES: usize = 8;

/// Lets a client in. What it claims in the CONNECT payload is not looked at: identity is the session's user.
pub async fn enter(chat: Chat, connect: Connect<Option<Identity>>) -> Result<Guest, Refusal> {
    if &*connect.namespace != "/" {
        return Err(Refusal::new("Invalid namespace"));
    }
    let Some(identity) = connect.admission.as_ref() else { return Err(refusal(&Error::Unauthorized)) };
    let come = async {
        chat.check_open()?;
        let seat = chat.seats().take(identity)?;
        enter_rooms(&chat, &connect.socket, identity).await?;
        // Asked when the socket is already where a closing cuts it: a logout just before this cannot be missed.
        check_session(&chat, identity).await?;
        Ok(seat)
    };
    let seat = within(due(), come).await.map_err(|error| refusal(&error))?;
    let visit = Visit::new(chat.clone(), connect.socket.clone(), identity.username.clone());
    Ok(Guest::new(Rc::new(visit), seat))
}

/// Enters the fan-out rooms. A change of membership that is committed between the reading and the entering is told to
/// sockets that this one was not among yet, so then they are read again.
async fn enter_rooms(chat: &Chat, socket: &Socket, identity: &Identity) -> Result<(), Error> {
    let user = &identity.username;
    socket.join(&of_user(user));
    socket.join(&of_session(&identity.session));
    let mut entered: HashSet<Room> = HashSet::new();
    for _ in 0..TRIES {
        let before = chat.log().memberships();
        let cards = chat.directory().rooms_of(user).await?;
        let theirs: HashSet<Room> = cards.iter().map(|card| of_room(&card.name)).collect();
        theirs.iter().for_each(|room| socket.join(room));
        entered.difference(&theirs).for_each(|room| socket.leave(room));
        if chat.log().memberships() == before {
            return Ok(());
        }
        entered = theirs;
    }
    Err(Error::full())
}

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
