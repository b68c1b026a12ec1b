//! `/rooms/{room}/members/{user}`: owners add and remove users, and users join public rooms and leave rooms themselves. Open sockets of
//! the user join or leave the fan-out room immediately.

use actix_web::{
    HttpResponse,
    web::{Data, Path},
};
use proto::{RoomName, Username};
use serde::Deserialize;

use super::{
    input::{Caller, OptionalBody},
    rooms::success,
};
use crate::{
    Chat, Error,
    chat::deadline_now,
    room::membership::{Add, CheckJoin, CheckOwner, Remove},
};

/// The body of `PUT`.
#[derive(Debug, Deserialize)]
pub struct NewMember {
    role: Option<String>,
}

/// `PUT {role?}`: 200, also for a user who is a member already; 404 for a user who is not registered. The only accepted role is
/// `member`.
pub async fn add(
    chat: Data<Chat>,
    Caller(by): Caller,
    path: Path<(RoomName, Username)>,
    body: Result<OptionalBody<NewMember>, actix_web::Error>,
) -> Result<HttpResponse, actix_web::Error> {
    chat.check_write(&by)?;
    let ((room, user), deadline) = (path.into_inner(), deadline_now());
    // Permission is checked before the rest of the request: a caller without it gets that refusal for any request.
    let is_self = user.key() == by.key();
    if is_self {
        chat.ask(&room, CheckJoin(by.clone()), deadline).await?;
    } else {
        chat.ask(&room, CheckOwner(by.clone()), deadline).await?;
        chat.check_addition(&by)?;
    }
    let OptionalBody(NewMember { role }) = body?;
    if let Some(role) = role.filter(|role| role != "member") {
        return Err(Error::BadRequest(unsupported(&role)).into());
    }
    // The caller is registered. Another user must be registered as well, and the name is stored in its registered spelling.
    let user =
        if is_self { by.clone() } else { chat.user_lookup().find(&user).await?.ok_or(Error::NotFound)? };
    chat.ask(&room, Add { by, user }, deadline).await?;
    Ok(success("Member added"))
}

fn unsupported(role: &str) -> String {
    match role {
        "owner" => {
            "role owner cannot be given: it goes to the oldest member when the owner leaves".to_owned()
        }
        _ => "role is member, or absent".to_owned(),
    }
}

/// `DELETE`: 200, also for a user who is not a member.
pub async fn remove(
    chat: Data<Chat>,
    Caller(by): Caller,
    path: Path<(RoomName, Username)>,
) -> Result<HttpResponse, Error> {
    chat.check_write(&by)?;
    let (room, user) = path.into_inner();
    // Presence identifies users by the registered spelling of the name.
    let user = if user.key() == by.key() {
        by.clone()
    } else {
        chat.user_lookup().find(&user).await?.unwrap_or(user)
    };
    chat.remove(&room, Remove { by, user }, deadline_now()).await?;
    Ok(success("Member removed"))
}
