//! `/presence/online` and `/presence/typing`: what the presence service says, and a refusal while it says nothing.

use std::collections::BTreeSet;

use actix_web::{HttpResponse, web::Data};
use serde_json::json;

use super::input::Caller;
use crate::{
    Chat, Error,
    chat::{deadline_now, with_deadline},
    room::settings::Describe,
};

/// `{"online":[...]}`, sorted.
pub async fn online(chat: Data<Chat>, _: Caller) -> Result<HttpResponse, Error> {
    let online = chat.presence().online().ok_or_else(unknown)?;
    Ok(HttpResponse::Ok().json(json!({"online": online})))
}

/// `{"typing":[...]}`, sorted: the members of the caller's rooms who type there.
pub async fn typing(chat: Data<Chat>, Caller(user): Caller) -> Result<HttpResponse, Error> {
    let deadline = deadline_now();
    let room_infos = with_deadline(deadline, chat.directory().rooms_of(&user)).await?;
    let typists =
        chat.presence().typists(room_infos.iter().map(|room_info| &room_info.name)).ok_or_else(unknown)?;
    let mut typing = BTreeSet::new();
    for (room, users) in typists {
        match chat.ask(&room, Describe(user.clone()), deadline).await {
            Ok(described) => typing.extend(users.into_iter().filter(|user| described.has(user))),
            // The caller has left it meanwhile.
            Err(Error::NotFound) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(HttpResponse::Ok().json(json!({"typing": typing})))
}

fn unknown() -> Error {
    Error::Unavailable("nobody knows who is here now, try again")
}
