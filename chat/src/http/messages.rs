//! `/rooms/{room}/messages` and `/rooms/{room}/changes`: what the events `history`, `message` and `join` do.

use actix_web::{
    Error, HttpResponse,
    web::{Path, Query},
};
use proto::{
    RoomName,
    event::{ClientId, History, Join, Post},
    lenient::whole_text,
};
use serde::Deserialize;

use super::{
    input::{Body, Caller},
    run::run_in,
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

/// The query parameters of what was missed. The room is in the path.
#[derive(Debug, Deserialize)]
pub struct ChangesQuery {
    #[serde(default, deserialize_with = "whole_text")]
    since: Option<u64>,
    #[serde(default, deserialize_with = "whole_text")]
    rev: Option<u64>,
    /// Names of item types, separated by commas.
    types: Option<String>,
    offset: Option<String>,
}

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
    query: Result<Query<PageQuery>, Error>,
) -> Result<HttpResponse, Error> {
    supervision::fault!("request");
    let page = query.map(|Query(PageQuery { before, after, limit, offset })| History {
        room: room.clone(),
        before,
        after,
        limit,
        offset,
    });
    Ok(HttpResponse::Ok().json(run_in(&caller, Some(&room), page).await?))
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
    query: Result<Query<ChangesQuery>, Error>,
) -> Result<HttpResponse, Error> {
    let join = query.map(|Query(ChangesQuery { since, rev, types, offset })| Join {
        room: room.clone(),
        since,
        offset,
        rev,
        oldest: None,
        types: types.map(|names| names.split(',').map(ToOwned::to_owned).collect()),
        enter: Some(false),
    });
    Ok(HttpResponse::Ok().json(run_in(&caller, Some(&room), join).await?))
}
