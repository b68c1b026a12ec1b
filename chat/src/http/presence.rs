//! `/presence/online` and `/presence/typing`: the state of the presence service, or 503 while it is unknown.

use std::collections::BTreeSet;

use actix_web::{HttpResponse, web::Data};
use serde_json::json;

use super::input::Caller;
use crate::{
    Chat, Error,
    chat::{deadline_now, with_deadline},
    room::settings::Describe,
};

/// 200 with `{"online":[...]}`, sorted.
pub async fn online(chat: Data<Chat>, _: Caller) -> Result<HttpResponse, Error> {
    let online = chat.presence().online().ok_or_else(unknown)?;
    Ok(HttpResponse::Ok().json(json!({"online": online})))
}

/// 200 with `{"typing":[...]}`, sorted: the users who type in one of the caller's rooms and are members of it.
pub async fn typing(chat: Data<Chat>, Caller(user): Caller) -> Result<HttpResponse, Error> {
    let deadline = deadline_now();
    let room_infos = with_deadline(deadline, chat.directory().rooms_of(&user)).await?;
    let names = room_infos.iter().map(|room_info| &room_info.name);
    let by_room = chat.presence().typing_by_room(names).ok_or_else(unknown)?;
    let mut typing = BTreeSet::new();
    for (room, users) in by_room {
        match chat.ask(&room, Describe(user.clone()), deadline).await {
            Ok(room) => typing.extend(users.into_iter().filter(|user| room.is_shared_with(user))),
            // The caller has left the room in the meantime.
            Err(Error::NotFound) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(HttpResponse::Ok().json(json!({"typing": typing})))
}

fn unknown() -> Error {
    Error::Unavailable("the online users are unknown now, try again")
}
