//! `/presence/online` and `/presence/typing`: what the presence service says, and a refusal while it says nothing.

use actix_web::{HttpResponse, web::Data};
use serde_json::json;

use super::input::Caller;
use crate::{Chat, Error};

/// `{"online":[...]}`, sorted.
pub async fn online(chat: Data<Chat>, _: Caller) -> Result<HttpResponse, Error> {
    let online = chat.presence().online().ok_or_else(unknown)?;
    Ok(HttpResponse::Ok().json(json!({"online": online})))
}

/// `{"typing":[...]}`, sorted, of all rooms.
pub async fn typing(chat: Data<Chat>, _: Caller) -> Result<HttpResponse, Error> {
    let typing = chat.presence().typing_users().ok_or_else(unknown)?;
    Ok(HttpResponse::Ok().json(json!({"typing": typing})))
}

fn unknown() -> Error {
    Error::Unavailable("nobody knows who is here now, try again")
}
