//! Coming and going: entering a public room, leaving, being added and removed, and who may. Clients and HTTP ask; the change
//! itself is [`super::change`]'s.

use actix::Handler;
use proto::{RoomName, Username};

use super::{Parts, Room, State};
use crate::{
    Error,
    ask::{Ask, Question},
    broker::Entry,
    directory::{Member, Role},
};

/// May this user read and post here?
#[derive(Debug, Clone)]
pub struct Check(pub Username);

/// May this user change the room and its members?
#[derive(Debug, Clone)]
pub struct Manage(pub Username);

/// May this user enter the room by themselves, or are they in it?
#[derive(Debug, Clone)]
pub struct Enter(pub Username);

/// Become a member, or be one already. Who is not the user themselves must own the room.
#[derive(Debug, Clone)]
pub struct Add {
    /// Who asks.
    pub by: Username,
    /// Who is to be a member.
    pub user: Username,
}

/// End a membership. Who is not the user themselves must own the room.
#[derive(Debug, Clone)]
pub struct Remove {
    /// Who asks.
    pub by: Username,
    /// Whose membership ends.
    pub user: Username,
}

impl Question for Check {
    type Answer = Role;
}

impl Question for Manage {
    type Answer = ();
}

impl Question for Enter {
    type Answer = ();
}

impl Question for Add {
    type Answer = ();
}

impl Question for Remove {
    type Answer = ();
}

impl Handler<Ask<Check>> for Room {
    type Result = ();

    fn handle(&mut self, ask: Ask<Check>, ctx: &mut Self::Context) {
        match self.open().and_then(|()| self.members.check_member(&ask.question.0)) {
            Ok(role) => ask.reply.send(Ok(role)),
            Err(refused) => self.doubt(ask, refused, ctx),
        }
    }
}

impl Handler<Ask<Manage>> for Room {
    type Result = ();

    fn handle(&mut self, ask: Ask<Manage>, ctx: &mut Self::Context) {
        match self.open().and_then(|()| self.members.check_owner(&ask.question.0)) {
            Ok(()) => ask.reply.send(Ok(())),
            Err(refused) => self.doubt(ask, refused, ctx),
        }
    }
}

impl Handler<Ask<Enter>> for Room {
    type Result = ();

    fn handle(&mut self, ask: Ask<Enter>, ctx: &mut Self::Context) {
        match self.open().and_then(|()| self.members.check_entry(&ask.question.0)) {
            Ok(()) => ask.reply.send(Ok(())),
            Err(refused) => self.doubt(ask, refused, ctx),
        }
    }
}

impl Handler<Ask<Add>> for Room {
    type Result = ();

    fn handle(&mut self, ask: Ask<Add>, ctx: &mut Self::Context) {
        let Add { by, user } = ask.question.clone();
        match self.open().and_then(|()| self.check_add(&by, &user)) {
            Ok(true) => (),
            Ok(false) => return ask.reply.send(Ok(())),
            Err(refused) => return self.doubt(ask, refused, ctx),
        }
        let told = Entry::Joined { room: self.name.clone(), user: user.clone() };
        let add = |parts: Parts, room: RoomName, tell| async move {
            parts.broker.subscribe(std::slice::from_ref(&room)).await?;
            if by.key() == user.key() {
                parts.directory.add(&room, &user, parts.rooms_per_user, tell).await
            } else {
                parts.directory.add_by(&room, &user, &by, parts.additions, tell).await
            }
        };
        self.change(ctx, Some(told), add, |room, members| room.members.replace(members), ask.reply);
    }
}

impl Handler<Ask<Remove>> for Room {
    type Result = ();

    fn handle(&mut self, ask: Ask<Remove>, ctx: &mut Self::Context) {
        let Remove { by, user } = ask.question.clone();
        if let Err(refused) = self.open().and_then(|()| self.check_remove(&by, &user)) {
            return self.doubt(ask, refused, ctx);
        }
        let told = Entry::Left { room: self.name.clone(), user: user.clone() };
        let remove = |parts: Parts, room, tell| async move {
            if by.key() == user.key() {
                parts.directory.leave(&room, &user, tell).await
            } else {
                parts.directory.remove(&room, &user, &by, tell).await
            }
        };
        self.change(ctx, Some(told), remove, Self::left_with, ask.reply);
    }
}

impl Room {
    /// Somebody has left, and these remain.
    fn left_with(&mut self, members: Vec<Member>) {
        // The directory has archived a private room that its last member left.
        if members.is_empty() && self.members.is_private() {
            self.state = State::Archived;
        }
        self.members.replace(members);
    }

    /// Whether there is anything to add; the refusal when `by` may not.
    fn check_add(&self, by: &Username, user: &Username) -> Result<bool, Error> {
        if by.key() == user.key() {
            self.members.check_entry(user)?;
        } else {
            self.members.check_owner(by)?;
        }
        Ok(self.members.check_member(user).is_err())
    }

    fn check_remove(&self, by: &Username, user: &Username) -> Result<(), Error> {
        self.members.check_member(by)?;
        if self.name.is_lobby() {
            return Err(Error::Forbidden("everybody is in the lobby"));
        }
        if by.key() == user.key() { Ok(()) } else { self.members.check_owner(by) }
    }
}
