//! What a room is: read by whoever may know of it, changed and archived by its owner.

use actix::Handler;
use proto::Username;
use serde::Serialize;

use super::{Parts, Room, State, members::Standing};
use crate::{
    ask::{Ask, Question},
    broker::Entry,
    directory::{Member, Role, RoomInfo},
};

/// What is this room, to this user?
#[derive(Debug, Clone)]
pub struct Describe(pub Username);

/// A room as one user sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Description {
    /// What it is.
    #[serde(flatten)]
    pub room_info: RoomInfo,
    /// What the user is in it; none for others.
    pub role: Option<Role>,
    /// Who is in it; none for others, and for the lobby, where everybody is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub members: Option<Vec<Member>>,
}

/// Make the room private or public.
#[derive(Debug, Clone)]
pub struct SetPrivate {
    /// Who asks; must own it.
    pub by: Username,
    /// What it is to be.
    pub private: bool,
}

/// End the room: everybody leaves, and nobody enters any more.
#[derive(Debug, Clone)]
pub struct Archive {
    /// Who asks; must own it.
    pub by: Username,
}

impl Question for Describe {
    type Answer = Description;
}

impl Question for SetPrivate {
    type Answer = ();
}

impl Question for Archive {
    type Answer = ();
}

impl Handler<Ask<Describe>> for Room {
    type Result = ();

    fn handle(&mut self, ask: Ask<Describe>, ctx: &mut Self::Context) {
        match self.open().and_then(|()| self.members.check_entry(&ask.question.0)) {
            Ok(()) => ask.reply.send(Ok(self.describe(&ask.question.0))),
            Err(refused) => self.doubt(ask, refused, ctx),
        }
    }
}

impl Handler<Ask<SetPrivate>> for Room {
    type Result = ();

    fn handle(&mut self, ask: Ask<SetPrivate>, ctx: &mut Self::Context) {
        let SetPrivate { by, private } = ask.question.clone();
        if let Err(refused) = self.open().and_then(|()| self.members.check_owner(&by)) {
            return self.doubt(ask, refused, ctx);
        }
        let set = move |parts: Parts, room, tell| async move {
            parts.directory.set_private(&room, &by, private, tell).await
        };
        self.change(ctx, None, set, move |room, ()| room.members.set_private(private), ask.reply);
    }
}

impl Handler<Ask<Archive>> for Room {
    type Result = ();

    fn handle(&mut self, ask: Ask<Archive>, ctx: &mut Self::Context) {
        let Archive { by } = ask.question.clone();
        if let Err(refused) = self.open().and_then(|()| self.members.check_owner(&by)) {
            return self.doubt(ask, refused, ctx);
        }
        let members = self.members.list().into_iter().map(|member| member.username).collect();
        let told = Entry::Archived { room: self.name.clone(), members };
        let archive =
            |parts: Parts, room, tell| async move { parts.directory.archive(&room, &by, tell).await };
        self.change(ctx, Some(told), archive, |room, ()| room.state = State::Archived, ask.reply);
    }
}

impl Description {
    /// Whether its reader may see what this user does in the room: both are in it.
    pub fn has(&self, user: &str) -> bool {
        let is_member = |members: &Vec<Member>| {
            members.iter().any(|member| member.username.as_str().eq_ignore_ascii_case(user))
        };
        self.role.is_some() && self.members.as_ref().is_none_or(is_member)
    }
}

impl Room {
    fn describe(&self, user: &Username) -> Description {
        let role = match self.members.standing(user) {
            Standing::In(role) => Some(role),
            Standing::Out => None,
        };
        let room_info = RoomInfo {
            name: self.name.clone(),
            private: self.members.is_private(),
            ephemeral: self.ephemeral,
            owner: self.members.owner(),
        };
        let listed = role.is_some() && !self.name.is_lobby();
        Description { room_info, role, members: listed.then(|| self.members.list()) }
    }
}
