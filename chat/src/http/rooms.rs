//! `/rooms` and `/rooms/{room}`: the caller's rooms; make, read, change and archive one.

use actix_web::{
    HttpResponse,
    web::{Data, Path},
};
use proto::RoomName;
use serde::Deserialize;
use serde_json::json;

use super::input::{Body, Caller};
use crate::{
    Chat, Error,
    chat::{due, within},
    directory::NewRoom,
    log::Entry,
    room::settings::{Archive, Describe, SetPrivate},
};

/// A room that is to be.
#[derive(Debug, Deserialize)]
pub struct Create {
    name: RoomName,
    #[serde(default)]
    private: bool,
    #[serde(default)]
    ephemeral: bool,
}

/// What can be changed of a room.
#[derive(Debug, Deserialize)]
pub struct Change {
    private: bool,
}

/// `GET /rooms`: `{"rooms":[{name, private, ephemeral, owner}]}`, the lobby first.
pub async fn list(chat: Data<Chat>, Caller(user): Caller) -> Result<HttpResponse, Error> {
    let rooms = within(due(), chat.directory().rooms_of(&user)).await?;
    Ok(HttpResponse::Ok().json(json!({"rooms": rooms})))
}

/// `POST /rooms {name, private?, ephemeral?}`: 201 with the room; the caller owns it.
pub async fn create(
    chat: Data<Chat>,
    Caller(user): Caller,
    Body(Create { name, private, ephemeral }): Body<Create>,
) -> Result<HttpResponse, Error> {
    chat.check_write(&user)?;
    let told = Entry::Joined { room: name.clone(), user: user.clone() };
    let tell = {
        let (log, told) = (chat.log().clone(), told.clone());
        Box::new(move || log.append(told))
    };
    let new = NewRoom { name, owner: user, private, ephemeral };
    let limit = chat.config().rooms_per_user;
    let room = within(due(), chat.directory().create(new, limit, tell)).await?;
    chat.log().spread(&told).await;
    Ok(HttpResponse::Created().json(room))
}

/// `GET /rooms/{room}`: the room, the caller's role, and for members who else is in it.
pub async fn read(
    chat: Data<Chat>,
    Caller(user): Caller,
    room: Path<RoomName>,
) -> Result<HttpResponse, Error> {
    Ok(HttpResponse::Ok().json(chat.ask(&room, Describe(user), due()).await?))
}

/// `PATCH /rooms/{room} {private}`: the room as it is then.
pub async fn change(
    chat: Data<Chat>,
    Caller(user): Caller,
    room: Path<RoomName>,
    Body(Change { private }): Body<Change>,
) -> Result<HttpResponse, Error> {
    chat.check_write(&user)?;
    let deadline = due();
    chat.ask(&room, SetPrivate { by: user.clone(), private }, deadline).await?;
    Ok(HttpResponse::Ok().json(chat.ask(&room, Describe(user), deadline).await?))
}

/// `DELETE /rooms/{room}`: archived for good; everybody leaves, the messages and the name stay.
pub async fn archive(
    chat: Data<Chat>,
    Caller(user): Caller,
    room: Path<RoomName>,
) -> Result<HttpResponse, Error> {
    chat.check_write(&user)?;
    chat.ask(&room, Archive { by: user }, due()).await?;
    Ok(done("Room archived"))
}

/// Something was done that has no value.
pub fn done(message: &str) -> HttpResponse {
    HttpResponse::Ok().json(json!({"status": "success", "message": message}))
}
