//! `/rooms/{room}/members/{user}`: owners add and remove users, and users enter public rooms and leave rooms themselves.

use actix_web::{Error, HttpResponse, web::Path};
use proto::{RoomName, Username, event::Leave};
use serde::Deserialize;

use super::{
    input::{Caller, OptionalBody},
    rooms::success,
    run::{run, run_in},
};
use crate::commands::{AddMember, Enter, RemoveMember};

/// The body of `PUT`.
#[derive(Debug, Deserialize)]
pub struct NewMember {
    role: Option<String>,
    /// The name in the path. Clients send the member as they have read it.
    username: Option<String>,
}

impl NewMember {
    /// The role, for `user` of the path.
    fn role_of(self, user: &Username) -> Result<Option<String>, Error> {
        match self.username {
            Some(other) if !other.eq_ignore_ascii_case(user.as_str()) => {
                Err(crate::Error::BadRequest("username differs from the user in the path".to_owned()).into())
            }
            _ => Ok(self.role),
        }
    }
}

/// `PUT {role?}`: 200, also for a user who is a member already; 404 for a user who is not registered. The only accepted role is
/// `member`.
pub async fn add(
    caller: Caller,
    path: Path<(RoomName, Username)>,
    body: Result<OptionalBody<NewMember>, Error>,
) -> Result<HttpResponse, Error> {
    let (room, user) = path.into_inner();
    let role = body.and_then(|OptionalBody(body)| body.role_of(&user));
    if user.key() == caller.0.user().key() {
        run_in(&caller, Some(&room), role.map(|role| Enter { room: room.clone(), role })).await?;
    } else {
        run_in(&caller, Some(&room), role.map(|role| AddMember { room: room.clone(), user, role })).await?;
    }
    Ok(success("Member added"))
}

/// `DELETE`: 200, also for a user who is not a member.
pub async fn remove(caller: Caller, path: Path<(RoomName, Username)>) -> Result<HttpResponse, Error> {
    let (room, user) = path.into_inner();
    if user.key() == caller.0.user().key() {
        run(&caller, Leave { room }).await?;
    } else {
        run(&caller, RemoveMember { room, user }).await?;
    }
    Ok(success("Member removed"))
}
