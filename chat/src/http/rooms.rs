//! `/rooms` and `/rooms/{room}`: lists the caller's rooms; creates, reads, changes and archives a room.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use actix_web::{
    HttpResponse,
    web::{Data, Path},
};
use proto::{RoomName, lenient::or_default};
use serde::Deserialize;
use serde_json::json;

use super::input::{Body, Caller};
use crate::{
    Chat, Error,
    chat::{deadline_now, with_deadline},
    directory::{Committed, NewRoom},
    room::{
        membership::CheckOwner,
        settings::{Archive, Describe, SetPrivate},
    },
};

/// The body of `POST /rooms`.
#[derive(Debug, Deserialize)]
pub struct Create {
    name: RoomName,
    #[serde(default, deserialize_with = "or_default")]
    private: bool,
    #[serde(default, deserialize_with = "or_default")]
    ephemeral: bool,
}

/// The body of `PATCH /rooms/{room}`. An absent field is not changed.
#[derive(Debug, Deserialize)]
pub struct Change {
    private: Option<bool>,
}

/// `GET /rooms`: 200 with `{"rooms":[{name, private, ephemeral, owner}]}`, the lobby first.
pub async fn list(chat: Data<Chat>, Caller(user): Caller) -> Result<HttpResponse, Error> {
    let rooms = with_deadline(deadline_now(), chat.directory().rooms_of(&user)).await?;
    Ok(HttpResponse::Ok().json(json!({"rooms": rooms})))
}

/// `POST /rooms {name, private?, ephemeral?}`: 201 with the room. The caller owns it.
pub async fn create(
    chat: Data<Chat>,
    Caller(user): Caller,
    Body(Create { name, private, ephemeral }): Body<Create>,
) -> Result<HttpResponse, Error> {
    chat.check_write(&user)?;
    let committed = Arc::new(AtomicU64::new(0));
    let on_commit: Committed = {
        let (broker, rev) = (chat.broker().clone(), committed.clone());
        Box::new(move |change| {
            rev.store(change.rev, Ordering::Release);
            broker.subscribe_new(&change.room, change.rev);
            broker.publish_change(change);
        })
    };
    let new = NewRoom { name, owner: user, private, ephemeral };
    let limit = chat.config().rooms_per_user;
    let room = with_deadline(deadline_now(), chat.directory().create(new, limit, on_commit)).await?;
    chat.broker().wait_for_change(&room.name, committed.load(Ordering::Acquire)).await;
    // The actor of an earlier room with this name may still run on this node.
    chat.refresh(&room.name).await;
    Ok(HttpResponse::Created().json(room))
}

/// `GET /rooms/{room}`: 200 with the room, the caller's role and, for members, the member list.
pub async fn read(
    chat: Data<Chat>,
    Caller(user): Caller,
    room: Path<RoomName>,
) -> Result<HttpResponse, Error> {
    Ok(HttpResponse::Ok().json(chat.ask(&room, Describe(user), deadline_now()).await?))
}

/// `PATCH /rooms/{room} {private?}`: 200 with the changed room.
pub async fn change(
    chat: Data<Chat>,
    Caller(user): Caller,
    room: Path<RoomName>,
    body: Result<Body<Change>, actix_web::Error>,
) -> Result<HttpResponse, actix_web::Error> {
    chat.check_write(&user)?;
    let deadline = deadline_now();
    match body {
        Ok(Body(Change { private: Some(private) })) => {
            chat.ask(&room, SetPrivate { by: user.clone(), private }, deadline).await?;
        }
        unchanged => {
            // Permission is checked before the body: a caller who may not change the room gets that refusal for any body.
            chat.ask(&room, CheckOwner(user.clone()), deadline).await?;
            unchanged?;
        }
    }
    Ok(HttpResponse::Ok().json(chat.ask(&room, Describe(user), deadline).await?))
}

/// `DELETE /rooms/{room}`: 200. The room is archived permanently: all memberships end, the messages and the name stay.
pub async fn archive(
    chat: Data<Chat>,
    Caller(user): Caller,
    room: Path<RoomName>,
) -> Result<HttpResponse, Error> {
    chat.check_write(&user)?;
    let deadline = deadline_now();
    let members = chat.ask(&room, Describe(user.clone()), deadline).await?.members.unwrap_or_default();
    chat.ask(&room, Archive { by: user }, deadline).await?;
    members.iter().for_each(|member| chat.presence().typing(&member.username, &room, false));
    Ok(success("Room archived"))
}

/// The response of an operation without a result.
pub fn success(message: &str) -> HttpResponse {
    HttpResponse::Ok().json(json!({"status": "success", "message": message}))
}
