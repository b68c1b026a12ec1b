//! The handlers of the routes: each maps a path, a body or a query to a command, and the answer to a status.

use actix_web::{
    Error, HttpResponse,
    web::{Path, Query},
};
use proto::{
    RoomName, Username,
    event::{ClientId, History, Join, Leave, Post, Settings, SettingsPatch},
};
use serde::Deserialize;
use serde_json::json;

use super::input::{Body, Caller};
use crate::{
    chat::{deadline_now, with_deadline},
    commands::{
        AddMember, ArchiveRoom, ChangeSettings, Command, CreateRoom, DescribeRoom, Enter, ListRooms,
        RateClass, ReadOnline, ReadTyping, RemoveMember,
    },
};

/// The body of `POST /rooms`.
#[derive(Debug, Deserialize)]
pub struct NewRoom {
    name: RoomName,
    #[serde(flatten)]
    settings: Settings,
}

/// The body of a post. The room is in the path.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NewMessage {
    text: String,
    client_id: Option<ClientId>,
}

/// The query of a page of messages.
#[derive(Debug, Deserialize)]
pub struct PageQuery {
    before: Option<u64>,
    after: Option<u64>,
    limit: Option<u32>,
    offset: Option<String>,
}

/// The query of what was missed.
#[derive(Debug, Deserialize)]
pub struct ChangesQuery {
    since: Option<u64>,
    rev: Option<u64>,
    /// Separated by commas.
    types: Option<String>,
    offset: Option<String>,
}

/// `GET /rooms`: 200 with `{"rooms":[{name, private, ephemeral, owner}]}`, the lobby first.
pub async fn list(caller: Caller) -> Result<HttpResponse, Error> {
    Ok(HttpResponse::Ok().json(run(&caller, ListRooms).await?))
}

/// `POST /rooms {name, private?, ephemeral?}`: 201 with the room.
pub async fn create(caller: Caller, body: Body<NewRoom>) -> Result<HttpResponse, Error> {
    let Body(NewRoom { name, settings }) = body;
    Ok(HttpResponse::Created().json(run(&caller, CreateRoom { name, settings }).await?))
}

/// `GET /rooms/{room}`: 200 with the room, the caller's role and, for members, the member list.
pub async fn describe(caller: Caller, room: Path<RoomName>) -> Result<HttpResponse, Error> {
    Ok(HttpResponse::Ok().json(run(&caller, DescribeRoom { room: room.into_inner() }).await?))
}

/// `PATCH /rooms/{room} {private?}`: 200 with the changed room.
pub async fn change(
    caller: Caller,
    room: Path<RoomName>,
    body: Result<Body<SettingsPatch>, Error>,
) -> Result<HttpResponse, Error> {
    let change = body.map(|Body(patch)| ChangeSettings { room: room.clone(), patch });
    Ok(HttpResponse::Ok().json(run_in(&caller, Some(&room), change).await?))
}

/// `DELETE /rooms/{room}`: 200.
pub async fn archive(caller: Caller, room: Path<RoomName>) -> Result<HttpResponse, Error> {
    run(&caller, ArchiveRoom { room: room.into_inner() }).await?;
    Ok(success("Room archived"))
}

/// `PUT /rooms/{room}/members/{user}`: 200, also for a user who is a member already; 404 for a user who is not registered.
pub async fn add_member(caller: Caller, path: Path<(RoomName, Username)>) -> Result<HttpResponse, Error> {
    let (room, user) = path.into_inner();
    if user.key() == caller.0.user().key() {
        run(&caller, Enter { room }).await?;
    } else {
        run(&caller, AddMember { room, user }).await?;
    }
    Ok(success("Member added"))
}

/// `DELETE /rooms/{room}/members/{user}`: 200, also for a user who is not a member.
pub async fn remove_member(caller: Caller, path: Path<(RoomName, Username)>) -> Result<HttpResponse, Error> {
    let (room, user) = path.into_inner();
    if user.key() == caller.0.user().key() {
        run(&caller, Leave { room }).await?;
    } else {
        run(&caller, RemoveMember { room, user }).await?;
    }
    Ok(success("Member removed"))
}

/// `GET /rooms/{room}/messages?before=&after=&limit=&offset=`: 200 with the answer of `history`.
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

/// `POST /rooms/{room}/messages {text, clientId?}`: 201 with `{id, seq}`.
pub async fn post(
    caller: Caller,
    room: Path<RoomName>,
    body: Result<Body<NewMessage>, Error>,
) -> Result<HttpResponse, Error> {
    let post = body.map(|Body(NewMessage { text, client_id })| Post { text, room: room.clone(), client_id });
    Ok(HttpResponse::Created().json(run_in(&caller, Some(&room), post).await?))
}

/// `GET /rooms/{room}/changes?since=&rev=&types=&offset=`: 200 with the answer of `join`. It never makes the caller a member.
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
        types: types.map(|types| types.split(',').map(ToOwned::to_owned).collect()),
        enter: Some(false),
    });
    Ok(HttpResponse::Ok().json(run_in(&caller, Some(&room), join).await?))
}

/// `GET /presence/online`: 200 with `{"online":[...]}`, sorted; 503 while the online users are unknown.
pub async fn online(caller: Caller) -> Result<HttpResponse, Error> {
    Ok(HttpResponse::Ok().json(run(&caller, ReadOnline).await?))
}

/// `GET /presence/typing`: 200 with `{"typing":[...]}`, sorted: the users who type in one of the caller's rooms and are members of it.
pub async fn typing(caller: Caller) -> Result<HttpResponse, Error> {
    Ok(HttpResponse::Ok().json(run(&caller, ReadTyping).await?))
}

/// The response of an operation without a result.
fn success(message: &str) -> HttpResponse {
    HttpResponse::Ok().json(json!({"status": "success", "message": message}))
}

/// Runs a command that has no room, or whose input cannot be refused.
async fn run<C: Command>(caller: &Caller, command: C) -> Result<C::Answer, Error> {
    run_in(caller, None, Ok(command)).await
}

/// Runs a command in `room`, within the caller's rate of writes. Permission is checked before the input: a caller without it gets the
/// refusal of the room for any input.
async fn run_in<C: Command>(
    Caller(caller): &Caller,
    room: Option<&RoomName>,
    input: Result<C, Error>,
) -> Result<C::Answer, Error> {
    let (chat, user) = (caller.chat(), caller.user());
    if matches!(C::RATE, RateClass::Message | RateClass::Write) {
        chat.check_write(user)?;
    }
    let deadline = deadline_now();
    let checked = input.and_then(|command| Ok(command.check(chat.config()).map(|()| command)?));
    let command = match checked {
        Ok(command) => command,
        Err(refused) => {
            if let Some(room) = room {
                C::check_permission(caller, room, deadline).await?;
            }
            return Err(refused);
        }
    };
    let run = async { command.run(caller, deadline).await?.answer(deadline).await };
    if C::RATE != RateClass::LargeRead {
        return Ok(run.await?);
    }
    let read = async {
        let _turn = chat.read_turn(user).await?;
        run.await
    };
    Ok(with_deadline(deadline, read).await?)
}
