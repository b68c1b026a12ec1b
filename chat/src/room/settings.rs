//! The description of a room, for users who may see the room. The settings are changed by [`super::change`].

use actix::Handler;
use proto::{Username, event::Act};
use serde::Serialize;

use super::Room;
use crate::{
    ask::{Ask, Question},
    directory::{Member, Role, RoomInfo},
};

/// Describes the room as this user sees it.
#[derive(Debug, Clone)]
pub struct Describe(pub Username);

/// A room as one user sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Description {
    /// The room's name, settings and owner.
    #[serde(flatten)]
    pub room_info: RoomInfo,
    /// The user's role. `None` if the user is not a member.
    pub role: Option<Role>,
    /// The members. `None` if the user is not a member, and for the lobby, where every user is a member.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub members: Option<Vec<Member>>,
}

impl Question for Describe {
    type Answer = Description;
}

impl Handler<Ask<Describe>> for Room {
    type Result = ();

    fn handle(&mut self, ask: Ask<Describe>, ctx: &mut Self::Context) {
        let Some(ask) = self.check_age(ask, ctx) else { return };
        match self.check(&ask.question.0, Act::Describe) {
            Ok(()) => ask.reply.send(Ok(self.describe(&ask.question.0))),
            Err(refused) => self.refuse_or_revalidate(ask, refused, ctx),
        }
    }
}

impl Description {
    /// Whether the caller and `user` are both members. Only then the caller may see what `user` does in the room.
    pub fn is_shared_with(&self, user: &str) -> bool {
        let is_member = |members: &Vec<Member>| {
            members.iter().any(|member| member.username.as_str().eq_ignore_ascii_case(user))
        };
        self.role.is_some() && self.members.as_ref().is_none_or(is_member)
    }
}

impl Room {
    fn describe(&self, user: &Username) -> Description {
        let role = self.members.role(user);
        let room_info = RoomInfo {
            name: self.name.clone(),
            settings: self.settings.clone(),
            owner: self.members.owner(),
        };
        let listed = role.is_some() && room_info.kind().lists_members();
        Description { room_info, role, members: listed.then(|| self.members.list()) }
    }
}
