//! `/rooms` and `/rooms/{room}`: the caller's rooms; make, read, change and archive one.

use actix_web::{
    HttpResponse,
    web::{Data, Path},
};
use proto::{RoomName, lenient::or_default};
use serde::Deserialize;
use serde_json::json;

use super::input::{Body, Caller};
use crate::{
    Chat, Error,
    broker::Entry,
    chat::{deadline_now, with_deadline},
    directory::NewRoom,
    room::{
        membership::Manage,
        settings::{Archive, Describe, SetPrivate},
    },
};

/// A room that is to be.
#[derive(Debug, Deserialize)]
pub struct Create {
    name: RoomName,
    #[serde(default, deserialize_with = "or_default")]
    private: bool,
    #[serde(default, deserialize_with = "or_default")]
    ephemeral: bool,
}

/// What can be changed of a room. What is absent stays as it is.
#[derive(Debug, Deserialize)]
pub struct Change {
    private: Option<bool>,
}

/// `GET /rooms`: `{"rooms":[{name, private, ephemeral, owner}]}`, the lobby first.
pub async fn list(chat: Data<Chat>, Caller(user): Caller) -> Result<HttpResponse, Error> {
    let rooms = with_deadline(deadline_now(), chat.directory().rooms_of(&user)).await?;
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
        let (broker, told, room) = (chat.broker().clone(), told.clone(), name.clone());
        Box::new(move || {
            broker.subscribe_new(&room);
            broker.append(told);
        })
    };
    let new = NewRoom { name, owner: user, private, ephemeral };
    let limit = chat.config().rooms_per_user;
    let room = with_deadline(deadline_now(), chat.directory().create(new, limit, tell)).await?;
    chat.broker().announce(&told).await;
    // An earlier room of this name may still have its actor here.
    chat.refresh(&room.name).await;
    Ok(HttpResponse::Created().json(room))
}

/// `GET /rooms/{room}`: the room, the caller's role, and for members who else is in it.
pub async fn read(
    chat: Data<Chat>,
    Caller(user): Caller,
    room: Path<RoomName>,
) -> Result<HttpResponse, Error> {
    Ok(HttpResponse::Ok().json(chat.ask(&room, Describe(user), deadline_now()).await?))
}

/// `PATCH /rooms/{room} {private?}`: the room as it is then.
pub async fn change(
    chat: Data<Chat>,
    Caller(user): Caller,
    room: Path<RoomName>,
    body: Result<Body<Change>, actix_web::Error>,
) -> Result<HttpResponse, actix_web::Error> {
    chat.check_write(&user)?;
    let deadline = deadline_now();
    match body {
        Ok(Body(Change { private: Some(private) })) => {
            chat.ask(&room, SetPrivate { by: user.clone(), private }, deadline).await?;
        }
        unchanged => {
            // A caller who may not change the room is refused for that, whatever the body is.
            chat.ask(&room, Manage(user.clone()), deadline).await?;
            unchanged?;
        }
    }
    Ok(HttpResponse::Ok().json(chat.ask(&room, Describe(user), deadline).await?))
}

/// `DELETE /rooms/{room}`: archived for good; everybody leaves, the messages and the name stay.
pub async fn archive(
    chat: Data<Chat>,
    Caller(user): Caller,
    room: Path<RoomName>,
) -> Result<HttpResponse, Error> {
    chat.check_write(&user)?;
    let deadline = deadline_now();
    let members = chat.ask(&room, Describe(user.clone()), deadline).await?.members.unwrap_or_default();
    chat.ask(&room, Archive { by: user }, deadline).await?;
    members.iter().for_each(|member| chat.presence().typing(&member.username, &room, false));
    Ok(done("Room archived"))
}

/// Something was done that has no value.
pub fn done(message: &str) -> HttpResponse {
    HttpResponse::Ok().json(json!({"status": "success", "message": message}))
}
