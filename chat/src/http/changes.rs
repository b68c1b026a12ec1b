//! `/rooms/{room}/changes`: what a client has missed, as the event `join` of a socket answers it. It never makes the caller a member.

use actix_web::{
    HttpResponse,
    web::{Data, Path, Query},
};
use proto::{RoomName, event::ItemType, lenient::whole_text};
use serde::Deserialize;

use super::input::Caller;
use crate::{
    Chat, Error,
    catch_up::{self, Position},
    chat::{deadline_now, with_deadline},
    room::membership::CheckMember,
};

/// The query parameters. The room is in the path.
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

/// `GET ?since=&rev=&types=&offset=`: 200 with `{head, messages, rev, changes, more, first, epoch, reset?, offset?}`.
pub async fn read(
    chat: Data<Chat>,
    Caller(user): Caller,
    room: Path<RoomName>,
    query: Result<Query<ChangesQuery>, actix_web::Error>,
) -> Result<HttpResponse, actix_web::Error> {
    let deadline = deadline_now();
    let Query(query) = match query {
        Ok(query) => query,
        Err(refused) => {
            // Permission is checked before the parameters, as for a page of messages.
            chat.ask(&room, CheckMember(user), deadline).await?;
            return Err(refused);
        }
    };
    let types = match &query.types {
        Some(names) => ItemType::named(names.split(',')),
        None => ItemType::ALL.to_vec(),
    };
    let position = Position { since: query.since, rev: query.rev, types, offset: query.offset };
    let read = async {
        let _turn = chat.read_turn(&user).await?;
        let answer = catch_up::read(&chat, &user, &room, position, false, false, deadline).await?;
        Ok::<_, Error>(HttpResponse::Ok().json(answer))
    };
    Ok(with_deadline(deadline, read).await?)
}
