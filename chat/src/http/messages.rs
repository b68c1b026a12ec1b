//! `/rooms/{room}/messages`: read pages, say something; the same road as a socket's.

use actix_web::{
    HttpResponse,
    web::{Data, Path, Query},
};
use proto::{
    RoomName,
    event::{ClientId, History},
    lenient::whole_text,
};
use serde::Deserialize;

use super::input::{Body, Caller};
use crate::{
    Chat, Text,
    chat::{deadline_now, with_deadline},
    history_page,
    room::{membership::Check, post::Post},
};

/// Which messages; the room is in the path.
#[derive(Debug, Deserialize)]
pub struct Asked {
    #[serde(default, deserialize_with = "whole_text")]
    before: Option<u64>,
    #[serde(default, deserialize_with = "whole_text")]
    after: Option<u64>,
    #[serde(default, deserialize_with = "whole_text")]
    limit: Option<u32>,
    offset: Option<String>,
}

/// What to say; the room is in the path.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Said {
    text: String,
    client_id: Option<ClientId>,
}

/// `GET ?before=&after=&limit=&offset=`: `{"messages":[...],"next":seq or null,"reset":true?,"offset":?}`, newest first.
pub async fn page(
    chat: Data<Chat>,
    Caller(user): Caller,
    room: Path<RoomName>,
    query: Result<Query<Asked>, actix_web::Error>,
) -> Result<HttpResponse, actix_web::Error> {
    supervision::fault!("request");
    let deadline = deadline_now();
    let Asked { before, after, limit, offset } = match query {
        Ok(Query(asked)) => asked,
        Err(refused) => {
            chat.ask(&room, Check(user), deadline).await?;
            return Err(refused);
        }
    };
    let asked = History { room: room.into_inner(), before, after, limit, offset };
    let read = async {
        let _turn = chat.reading(&user).await?;
        Ok(HttpResponse::Ok().json(history_page::page(&chat, &user, asked, deadline).await?))
    };
    Ok(with_deadline(deadline, read).await?)
}

/// `POST {text, clientId?}`: 201 with `{id, seq}`.
pub async fn say(
    chat: Data<Chat>,
    Caller(author): Caller,
    room: Path<RoomName>,
    body: Result<Body<Said>, actix_web::Error>,
) -> Result<HttpResponse, actix_web::Error> {
    chat.check_write(&author)?;
    let deadline = deadline_now();
    let said = body.and_then(|Body(Said { text, client_id })| {
        let limit = chat.config().text_limit;
        let text = match client_id {
            Some(_) => Text::parse_repeatable(text, limit)?,
            None => Text::parse(text, limit)?,
        };
        Ok((text, client_id))
    });
    let (text, client_id) = match said {
        Ok(said) => said,
        Err(refused) => {
            // A caller who may not post here is refused for that, whatever the body is.
            chat.ask(&room, Check(author), deadline).await?;
            return Err(refused);
        }
    };
    let post = Post { author, text, client_id, origin: None, deadline };
    Ok(HttpResponse::Created().json(chat.ask(&room, post, deadline).await?))
}
