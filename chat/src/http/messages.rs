//! `/rooms/{room}/messages`: read pages, say something; the same road as a socket's.

use actix_web::{
    HttpResponse,
    web::{Data, Path, Query},
};
use proto::{
    RoomName,
    event::{ClientId, History},
};
use serde::Deserialize;

use super::input::{Body, Caller};
use crate::{
    Chat, Error, Text,
    chat::{due, within},
    recall,
    room::post::Post,
};

/// Which messages; the room is in the path.
#[derive(Debug, Deserialize)]
pub struct Asked {
    before: Option<u64>,
    after: Option<u64>,
    limit: Option<u32>,
}

/// What to say; the room is in the path.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Said {
    text: String,
    client_id: Option<ClientId>,
}

/// `GET ?before=&after=&limit=`: `{"messages":[...],"next":seq or null}`, newest first.
pub async fn page(
    chat: Data<Chat>,
    Caller(user): Caller,
    room: Path<RoomName>,
    Query(Asked { before, after, limit }): Query<Asked>,
) -> Result<HttpResponse, Error> {
    supervision::fault!("request");
    let asked = History { room: room.into_inner(), before, after, limit };
    let deadline = due();
    let read = async {
        let _turn = chat.reading().await?;
        Ok(HttpResponse::Ok().json(recall::page(&chat, &user, asked, deadline).await?))
    };
    within(deadline, read).await
}

/// `POST {text, clientId?}`: 201 with `{id, seq}`.
pub async fn say(
    chat: Data<Chat>,
    Caller(author): Caller,
    room: Path<RoomName>,
    Body(Said { text, client_id }): Body<Said>,
) -> Result<HttpResponse, Error> {
    chat.check_write(&author)?;
    let text = Text::parse(text, chat.config().text_limit)?;
    let deadline = due();
    let post = Post { author, text, client_id, origin: None, deadline };
    Ok(HttpResponse::Created().json(chat.ask(&room, post, deadline).await?))
}
