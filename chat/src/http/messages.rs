//! `/rooms/{room}/messages`: reads pages and posts messages, in the same way as the events of a socket.

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
    room::{membership::CheckMember, post::Post},
};

/// The query parameters of a page. The room is in the path.
#[derive(Debug, Deserialize)]
pub struct PageQuery {
    #[serde(default, deserialize_with = "whole_text")]
    before: Option<u64>,
    #[serde(default, deserialize_with = "whole_text")]
    after: Option<u64>,
    #[serde(default, deserialize_with = "whole_text")]
    limit: Option<u32>,
    offset: Option<String>,
}

/// The body of a post. The room is in the path.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NewMessage {
    text: String,
    client_id: Option<ClientId>,
}

/// `GET ?before=&after=&limit=&offset=`: 200 with `{"messages":[...],"next":seq or null,"reset":true?,"offset":?}`, newest first.
pub async fn page(
    chat: Data<Chat>,
    Caller(user): Caller,
    room: Path<RoomName>,
    query: Result<Query<PageQuery>, actix_web::Error>,
) -> Result<HttpResponse, actix_web::Error> {
    supervision::fault!("request");
    let deadline = deadline_now();
    let PageQuery { before, after, limit, offset } = match query {
        Ok(Query(query)) => query,
        Err(refused) => {
            chat.ask(&room, CheckMember(user), deadline).await?;
            return Err(refused);
        }
    };
    let query = History { room: room.into_inner(), before, after, limit, offset };
    let read = async {
        let _turn = chat.read_turn(&user).await?;
        Ok(HttpResponse::Ok().json(history_page::page(&chat, &user, query, deadline).await?))
    };
    Ok(with_deadline(deadline, read).await?)
}

/// `POST {text, clientId?}`: 201 with `{id, seq}`.
pub async fn post(
    chat: Data<Chat>,
    Caller(author): Caller,
    room: Path<RoomName>,
    body: Result<Body<NewMessage>, actix_web::Error>,
) -> Result<HttpResponse, actix_web::Error> {
    chat.check_write(&author)?;
    let deadline = deadline_now();
    let parsed = body.and_then(|Body(NewMessage { text, client_id })| {
        let limit = chat.config().text_limit;
        let text = match client_id {
            Some(_) => Text::parse_repeatable(text, limit)?,
            None => Text::parse(text, limit)?,
        };
        Ok((text, client_id))
    });
    let (text, client_id) = match parsed {
        Ok(parsed) => parsed,
        Err(refused) => {
            // Permission is checked before the body: a caller who may not post here gets that refusal for any body.
            chat.ask(&room, CheckMember(author), deadline).await?;
            return Err(refused);
        }
    };
    let post = Post { author, text, client_id, origin: None, deadline };
    Ok(HttpResponse::Created().json(chat.ask(&room, post, deadline).await?))
}
