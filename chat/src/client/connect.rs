//! The CONNECT of a client: verifies its identity, takes a socket slot, joins the user's rooms, and starts or recovers a session.
//! Called by [`super::Clients`]; reads the sessions and the directory.

use std::{cell::Cell, collections::HashSet, rc::Rc, time::Duration};

use proto::{Identity, RoomName, event::Code};
use serde_json::{Value, json};
use sessions::{SessionId, Token};
use socketio::{Accepted, CloseReason, Connect, Refusal, Resume, Room, Socket, SocketId};
use tokio::time::sleep;

use super::{
    Admission, Client,
    queue::CommandQueue,
    recovery::{self, JoinedRooms, Recovery},
};
use crate::{
    Chat, Error,
    broker::{member_sockets, session_sockets, user_sockets},
    chat::{deadline_now, with_deadline},
    commands::Connection,
    socket_quota::{self, SocketSlot},
};

/// The delay before the first retry after a store failure. It doubles with every retry.
const RETRY_DELAY: Duration = Duration::from_millis(200);

/// How often a reconnecting client tries to take a slot.
const SLOT_TRIES: u32 = 50;

/// The delay between two of these attempts.
const SLOT_PAUSE: Duration = Duration::from_millis(20);

/// How often the memberships are read again when they change during the read.
const MEMBERSHIP_READS: usize = 8;

/// Accepts a client, or refuses it with a reason. When the cause can end (overload, shutdown, too many sockets of the user), the connection
/// is closed instead after the deadline.
/// The identity comes from the request. The CONNECT payload is trusted for nothing but a session's token.
pub async fn connect(chat: Chat, connect: Connect<Admission>) -> Result<Accepted<Client>, Refusal> {
    if &*connect.namespace != "/" {
        return Err(Refusal::new("Invalid namespace"));
    }
    supervision::fault!("connect");
    let socket = connect.socket.clone();
    // Whether the last attempt has failed because all slots of the user are taken.
    let is_over_quota = Cell::new(false);
    let attempts = async {
        let mut pause = RETRY_DELAY;
        loop {
            let attempt = async {
                let identity = identify(&chat, &connect).await?;
                let (slot, recovery) = admit(&chat, &socket, &identity, connect.resume.as_ref()).await?;
                Ok::<_, Error>((identity, slot, recovery))
            };
            match attempt.await {
                // A failure of a store, or a limit that is reached, can end: it is retried until the deadline.
                Err(error) if is_temporary(&error) => {
                    is_over_quota.set(is_of_quota(&error));
                    tracing::debug!(%error, "a client cannot connect yet, retrying");
                }
                settled => return settled,
            }
            // The socket may have the id of the recovery session. Without a new id the next attempt would close this connection.
            socket.adopt(&SocketId::random()?);
            sleep(pause).await;
            pause *= 2;
        }
    };
    match with_deadline(deadline_now(), attempts).await {
        Ok((identity, slot, recovery)) => {
            let queue = Rc::new(CommandQueue::new(chat, identity.username, Connection::new(socket)));
            let Recovery { pid, recovered, offset } = recovery;
            Ok(Accepted {
                peer: Client::new(queue, connect.admission.limits.clone(), slot, offset),
                pid: Some(pid),
                recovered,
            })
        }
        Err(error) if error.code() == Code::Unavailable => {
            // Stock clients do not reconnect after a refusal, but after a lost connection they do. The session drops this future
            // when it ends, so no refusal is sent.
            socket.close(if is_over_quota.get() {
                let limit = chat.config().sockets_per_user;
                tracing::warn!(
                    limit,
                    "a client is disconnected: its user has as many sockets as --sockets-per-user allows (GODZILLA_SOCKETS_PER_USER)"
                );
                CloseReason::TooManyConnections
            } else {
                tracing::debug!(%error, "a client cannot connect now, closing the connection");
                CloseReason::ServerClose
            });
            std::future::pending().await
        }
        Err(error) => Err(refusal(&error)),
    }
}

/// Whether the same CONNECT can succeed within seconds.
fn is_temporary(error: &Error) -> bool {
    error.is_of_store() || error.code() == Code::RateLimited
}

/// Whether all slots of the user are taken.
fn is_of_quota(error: &Error) -> bool {
    matches!(error, Error::RateLimited { what, .. } if *what == socket_quota::TOO_MANY)
}

/// The client's identity: the user of the token in CONNECT or, without a token there, of the request's credentials. A page that has logged
/// in for a token is that user on every transport, even if the browser adds a cookie of another user.
///
/// # Errors
/// [`Error::Unauthorized`] for a token without a live session, also beside valid credentials: these may be of another user.
async fn identify(chat: &Chat, connect: &Connect<Admission>) -> Result<Identity, Error> {
    let token = match connect.auth.get("token") {
        None | Some(Value::Null) => return connect.admission.identity.clone().ok_or(Error::Unauthorized),
        Some(token) => token.as_str().and_then(|token| token.parse::<Token>().ok()),
    };
    let id = token.ok_or(Error::Unauthorized)?.id();
    let found = chat.sessions().find(&id).await.map_err(|error| Error::Store(error.to_string()))?;
    Ok(Identity { username: found.ok_or(Error::Unauthorized)?, session: id.to_string() })
}

async fn admit(
    chat: &Chat,
    socket: &Socket,
    identity: &Identity,
    resume: Option<&Resume>,
) -> Result<(SocketSlot, Recovery), Error> {
    chat.check_connects()?;
    if resume.is_none() {
        // No session to recover means no earlier connection whose slot this client can take over: no store is read for the refusal.
        chat.socket_quota().check(identity)?;
    }
    let session = recovery::find_session(chat, identity, socket, resume).await;
    let slot = take_slot(chat, identity, session.is_some()).await?;
    // When many clients reconnect at once they wait for their turn here. Without the limit a full store queue would refuse them.
    let _turn = chat.connect_turns().take(&identity.username).await?;
    let (reached, fallback_deliveries) = (chat.broker().reached(), chat.broker().fallback_deliveries());
    let rooms = join_rooms(chat, socket, identity).await?;
    // Checked after the socket has joined its session's room: a logout before the check is seen here, and a later one closes the socket.
    check_session(chat, identity).await?;
    let recovery = match session {
        Some(session) => {
            recovery::resume(
                chat,
                &identity.username,
                session,
                socket,
                resume,
                JoinedRooms { rooms: &rooms, fallback_deliveries },
            )
            .await?
        }
        None => None,
    };
    let recovery = match recovery {
        Some(recovery) => recovery,
        None => recovery::start(chat, &identity.username, socket, reached)?,
    };
    Ok((slot, recovery))
}

/// Takes a socket slot. A reconnecting client waits for the slot of its earlier connection, for at most [`SLOT_TRIES`] attempts.
async fn take_slot(chat: &Chat, identity: &Identity, is_reconnect: bool) -> Result<SocketSlot, Error> {
    let mut tries = if is_reconnect { SLOT_TRIES } else { 1 };
    loop {
        tries -= 1;
        match chat.socket_quota().take(identity) {
            Err(Error::RateLimited { .. }) if tries > 0 => sleep(SLOT_PAUSE).await,
            slot => return slot,
        }
    }
}

/// Joins the fan-out rooms of the user, the session and the user's rooms. A membership change that is committed between the read and
/// the join is delivered before this socket is in the room. The memberships are then read again.
async fn join_rooms(chat: &Chat, socket: &Socket, identity: &Identity) -> Result<Vec<RoomName>, Error> {
    let user = &identity.username;
    socket.join(&user_sockets(user));
    socket.join(&session_sockets(&identity.session));
    let mut joined: HashSet<Room> = HashSet::new();
    for _ in 0..MEMBERSHIP_READS {
        let before = chat.broker().membership_changes();
        let room_infos = chat.directory().rooms_of(user).await?;
        let names: Vec<RoomName> = room_infos.iter().map(|room_info| room_info.name.clone()).collect();
        let is_new = chat.broker().subscribe(&names).await?;
        let current: HashSet<Room> =
            room_infos.iter().map(|room_info| member_sockets(&room_info.name)).collect();
        current.iter().for_each(|room| socket.join(room));
        joined.difference(&current).for_each(|room| socket.leave(room));
        if !is_new && chat.broker().membership_changes() == before {
            return Ok(names);
        }
        joined = current;
    }
    Err(Error::full())
}

/// Checks that the session has not ended since the handshake.
async fn check_session(chat: &Chat, identity: &Identity) -> Result<(), Error> {
    let id: SessionId = identity.session.parse().map_err(|_| Error::Unauthorized)?;
    match chat.sessions().find(&id).await {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err(Error::Unauthorized),
        Err(error) => Err(Error::Store(error.to_string())),
    }
}

/// The CONNECT_ERROR for `error`. Stock clients do not retry after it.
fn refusal(error: &Error) -> Refusal {
    let message = match error.code() {
        Code::Unauthorized => "Authentication required".to_owned(),
        _ => error.public(),
    };
    let data = json!({"code": error.code(), "message": message});
    Refusal { message, data: Some(data) }
}
