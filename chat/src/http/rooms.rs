//! `/rooms` and `/rooms/{room}`.

use actix_web::{Error, HttpResponse, web::Path};
use proto::{
    RoomName,
    event::{Settings, SettingsPatch},
};
use serde::Deserialize;
use serde_json::json;

use super::{
    input::{BodyParts, Caller},
    run::{run, run_in},
};
use crate::commands::{ArchiveRoom, ChangeSettings, CreateRoom, DescribeRoom, FixedProperties, ListRooms};

/// The body of `POST /rooms`, with the fields of [`Settings`].
#[derive(Debug, Deserialize)]
pub struct NewRoom {
    name: RoomName,
}

/// `GET /rooms`: 200 with `{"rooms":[{name, private, ephemeral, owner}]}`, the lobby first.
pub async fn list(caller: Caller) -> Result<HttpResponse, Error> {
    Ok(HttpResponse::Ok().json(run(&caller, ListRooms).await?))
}

/// `POST /rooms {name, private?, ephemeral?}`: 201 with the room.
pub async fn create(
    caller: Caller,
    BodyParts((NewRoom { name }, settings, fixed)): BodyParts<(NewRoom, Settings, FixedProperties)>,
) -> Result<HttpResponse, Error> {
    Ok(HttpResponse::Created().json(run(&caller, CreateRoom { name, settings, fixed }).await?))
}

/// `GET /rooms/{room}`: 200 with the room, the caller's role and, for members, the member list.
pub async fn describe(caller: Caller, room: Path<RoomName>) -> Result<HttpResponse, Error> {
    Ok(HttpResponse::Ok().json(run(&caller, DescribeRoom { room: room.into_inner() }).await?))
}

/// `PATCH /rooms/{room} {private?}`: 200 with the changed room; 400 for a property that cannot be changed.
pub async fn change(
    caller: Caller,
    room: Path<RoomName>,
    body: Result<BodyParts<(SettingsPatch, FixedProperties)>, Error>,
) -> Result<HttpResponse, Error> {
    let change = body.map(|BodyParts((patch, fixed))| ChangeSettings { room: room.clone(), patch, fixed });
    Ok(HttpResponse::Ok().json(run_in(&caller, Some(&room), change).await?))
}

/// `DELETE /rooms/{room}`: 200.
pub async fn archive(caller: Caller, room: Path<RoomName>) -> Result<HttpResponse, Error> {
    run(&caller, ArchiveRoom { room: room.into_inner() }).await?;
    Ok(success("Room archived"))
}

/// The response of an operation without a result.
pub fn success(message: &str) -> HttpResponse {
    HttpResponse::Ok().json(json!({"status": "success", "message": message}))
}
