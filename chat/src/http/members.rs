//! `/rooms/{room}/members/{user}`: owners add and remove, everybody enters public rooms and leaves by themselves. Sockets
//! that are open follow at once.

use actix_web::{
    HttpResponse,
    web::{Data, Path},
};
use proto::{RoomName, Username};

use super::{input::Caller, rooms::done};
use crate::{
    Chat, Error,
    chat::due,
    room::membership::{Add, Remove},
};

/// `PUT`: 200, also for somebody who is a member already; 404 for somebody who is not registered.
pub async fn add(
    chat: Data<Chat>,
    Caller(by): Caller,
    path: Path<(RoomName, Username)>,
) -> Result<HttpResponse, Error> {
    chat.check_write(&by)?;
    let (room, user) = path.into_inner();
    // Whoever asks exists; anybody else must too, and is called as they call themselves.
    let user = match user.key() == by.key() {
        true => by.clone(),
        false => chat.people().find(&user).await?.ok_or(Error::NotFound)?,
    };
    chat.ask(&room, Add { by, user }, due()).await?;
    Ok(done("Member added"))
}

/// `DELETE`: 200, also for somebody who is no member.
pub async fn remove(
    chat: Data<Chat>,
    Caller(by): Caller,
    path: Path<(RoomName, Username)>,
) -> Result<HttpResponse, Error> {
    chat.check_write(&by)?;
    let (room, user) = path.into_inner();
    chat.ask(&room, Remove { by, user }, due()).await?;
    Ok(done("Member removed"))
}
