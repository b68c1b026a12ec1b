//! `/presence/online` and `/presence/typing`: the state of the presence service, or 503 while it is unknown.

use actix_web::{Error, HttpResponse};

use super::{input::Caller, run::run};
use crate::commands::{ReadOnline, ReadTyping};

/// 200 with `{"online":[...]}`, sorted.
pub async fn online(caller: Caller) -> Result<HttpResponse, Error> {
    Ok(HttpResponse::Ok().json(run(&caller, ReadOnline).await?))
}

/// 200 with `{"typing":[...]}`, sorted: the users who type in one of the caller's rooms and are members of it.
pub async fn typing(caller: Caller) -> Result<HttpResponse, Error> {
    Ok(HttpResponse::Ok().json(run(&caller, ReadTyping).await?))
}
