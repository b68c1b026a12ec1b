//! `/rooms/{room}/messages` and `/rooms/{room}/changes`: what the events `history`, `message` and `join` do.

use actix_web::{Error, HttpResponse, web::Path};
use proto::{
    RoomName,
    event::{ClientId, History, Join, Post},
};
use serde::Deserialize;

use super::{
    input::{Body, Caller},
    query::Parameters,
    run::run_in,
};

/// The body of a post. The room is in the path.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NewMessage {
    text: String,
    client_id: Option<ClientId>,
}

/// `GET messages?before=&after=&limit=&offset=`: 200 with the answer of `history`.
pub async fn page(
    caller: Caller,
    room: Path<RoomName>,
    query: Result<Parameters, crate::Error>,
) -> Result<HttpResponse, Error> {
    supervision::fault!("request");
    let page = query.and_then(|query| history(&room, &query));
    Ok(HttpResponse::Ok().json(run_in(&caller, Some(&room), page.map_err(Into::into)).await?))
}

/// `POST messages {text, clientId?}`: 201 with `{id, seq}`.
pub async fn post(
    caller: Caller,
    room: Path<RoomName>,
    body: Result<Body<NewMessage>, Error>,
) -> Result<HttpResponse, Error> {
    let post = body.map(|Body(NewMessage { text, client_id })| Post { text, room: room.clone(), client_id });
    Ok(HttpResponse::Created().json(run_in(&caller, Some(&room), post).await?))
}

/// `GET changes?since=&rev=&types=&offset=`: 200 with the answer of `join`. It never makes the caller a member.
pub async fn changes(
    caller: Caller,
    room: Path<RoomName>,
    query: Result<Parameters, crate::Error>,
) -> Result<HttpResponse, Error> {
    let join = query.and_then(|query| missed(&room, &query));
    Ok(HttpResponse::Ok().json(run_in(&caller, Some(&room), join.map_err(Into::into)).await?))
}

fn history(room: &RoomName, query: &Parameters) -> Result<History, crate::Error> {
    Ok(History {
        room: room.clone(),
        before: query.number("before")?,
        after: query.number("after")?,
        limit: query.number("limit")?,
        offset: query.text("offset")?.map(ToOwned::to_owned),
    })
}

fn missed(room: &RoomName, query: &Parameters) -> Result<Join, crate::Error> {
    Ok(Join {
        room: room.clone(),
        since: query.number("since")?,
        offset: query.text("offset")?.map(ToOwned::to_owned),
        rev: query.number("rev")?,
        oldest: None,
        types: query.list("types"),
        enter: Some(false),
    })
}
