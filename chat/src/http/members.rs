//! `/rooms/{room}/members/{user}`: owners add and remove, everybody enters public rooms and leaves by themselves. Sockets
//! that are open follow at once.

use actix_web::{
    HttpResponse,
    web::{Data, Path},
};
use proto::{RoomName, Username};

use serde::Deserialize;

use super::{
    input::{Caller, OptionalBody},
    rooms::done,
};
use crate::{
    Chat, Error,
    chat::deadline_now,
    room::membership::{Add, Enter, Manage, Remove},
};

/// What the user is to be in the room.
#[derive(Debug, Deserialize)]
pub struct Wanted {
    role: Option<String>,
}

/// `PUT {role?}`: 200, also for somebody who is a member already; 404 for somebody who is not registered. The only role that can be
/// given is `member`.
pub async fn add(
    chat: Data<Chat>,
    Caller(by): Caller,
    path: Path<(RoomName, Username)>,
    body: Result<OptionalBody<Wanted>, actix_web::Error>,
) -> Result<HttpResponse, actix_web::Error> {
    chat.check_write(&by)?;
    let ((room, user), deadline) = (path.into_inner(), deadline_now());
    // A caller who may not do this is refused for that, whatever else is wrong with the request.
    let is_own = user.key() == by.key();
    if is_own {
        chat.ask(&room, Enter(by.clone()), deadline).await?;
    } else {
        chat.ask(&room, Manage(by.clone()), deadline).await?;
        chat.check_addition(&by)?;
    }
    let OptionalBody(Wanted { role }) = body?;
    if let Some(role) = role.filter(|role| role != "member") {
        return Err(Error::BadRequest(unsupported(&role)).into());
    }
    // Whoever asks exists; anybody else must too, and is called as they call themselves.
    let user =
        if is_own { by.clone() } else { chat.user_lookup().find(&user).await?.ok_or(Error::NotFound)? };
    chat.ask(&room, Add { by, user }, deadline).await?;
    Ok(done("Member added"))
}

fn unsupported(role: &str) -> String {
    match role {
        "owner" => {
            "role owner cannot be given: it goes to the oldest member when the owner leaves".to_owned()
        }
        _ => "role is member, or absent".to_owned(),
    }
}

/// `DELETE`: 200, also for somebody who is no member.
pub async fn remove(
    chat: Data<Chat>,
    Caller(by): Caller,
    path: Path<(RoomName, Username)>,
) -> Result<HttpResponse, Error> {
    chat.check_write(&by)?;
    let (room, user) = path.into_inner();
    // The name as it was registered is the one by which presence knows the user.
    let user = if user.key() == by.key() {
        by.clone()
    } else {
        chat.user_lookup().find(&user).await?.unwrap_or(user)
    };
    chat.remove(&room, Remove { by, user }, deadline_now()).await?;
    Ok(done("Member removed"))
}
