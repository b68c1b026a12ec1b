//! Membership: joining a public room, leaving, adding and removing users, and the permissions for it. Asked by clients and HTTP. The
//! change itself is made by [`super::change`].

use actix::{Context, Handler};
use proto::{
    RoomName, Username,
    event::{Act, RoomKind},
};

use super::{Parts, Room, State};
use crate::{
    Error,
    ask::{Ask, Question, Reply},
    directory::Member,
};

/// Checks that a user has the permission for `act`.
#[derive(Debug, Clone)]
pub struct Check {
    /// The user.
    pub user: Username,
    /// What the user does.
    pub act: Act,
}

/// Checks that this user may read, and returns the number of the room's last change. On a node of a cluster it can be smaller than the
/// number in the store.
#[derive(Debug, Clone)]
pub struct ReadRev(pub Username);

/// Makes this user a member at their own request, as [`Add`] does, and returns the number of the room's last change, as [`ReadRev`] does.
#[derive(Debug, Clone)]
pub struct Enter(pub Username);

/// Makes a user a member. Succeeds if the user is one already. Only the owner may add other users.
#[derive(Debug, Clone)]
pub struct Add {
    /// The caller.
    pub by: Username,
    /// The new member.
    pub user: Username,
}

/// Ends a membership. Only the owner may remove other users.
#[derive(Debug, Clone)]
pub struct Remove {
    /// The caller.
    pub by: Username,
    /// The member to remove.
    pub user: Username,
}

impl Question for Check {
    type Answer = ();
}

impl Question for ReadRev {
    type Answer = u64;
}

impl Question for Enter {
    type Answer = u64;
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
        let Some(ask) = self.check_age(ask, ctx) else { return };
        match self.check(&ask.question.user, ask.question.act) {
            Ok(()) => ask.reply.send(Ok(())),
            Err(refused) => self.refuse_or_revalidate(ask, refused, ctx),
        }
    }
}

impl Handler<Ask<ReadRev>> for Room {
    type Result = ();

    fn handle(&mut self, ask: Ask<ReadRev>, ctx: &mut Self::Context) {
        let Some(ask) = self.check_age(ask, ctx) else { return };
        match self.check(&ask.question.0, Act::Read) {
            Ok(()) => ask.reply.send(Ok(self.rev)),
            Err(refused) => self.refuse_or_revalidate(ask, refused, ctx),
        }
    }
}

impl Handler<Ask<Add>> for Room {
    type Result = ();

    fn handle(&mut self, ask: Ask<Add>, ctx: &mut Self::Context) {
        let Add { by, user } = ask.question.clone();
        match self.check_add(&by, &user) {
            Ok(true) => (),
            Ok(false) => return ask.reply.send(Ok(())),
            Err(refused) => return self.refuse_or_revalidate(ask, refused, ctx),
        }
        self.add(ctx, (by, user), |_| (), ask.reply);
    }
}

impl Handler<Ask<Enter>> for Room {
    type Result = ();

    fn handle(&mut self, ask: Ask<Enter>, ctx: &mut Self::Context) {
        let Some(ask) = self.check_age(ask, ctx) else { return };
        let user = ask.question.0.clone();
        match self.check_open().and_then(|()| self.check_add(&user, &user)) {
            Ok(true) => self.add(ctx, (user.clone(), user), |room| room.rev, ask.reply),
            Ok(false) => ask.reply.send(Ok(self.rev)),
            Err(refused) => self.refuse_or_revalidate(ask, refused, ctx),
        }
    }
}

impl Handler<Ask<Remove>> for Room {
    type Result = ();

    fn handle(&mut self, ask: Ask<Remove>, ctx: &mut Self::Context) {
        let Remove { by, user } = ask.question.clone();
        if let Err(refused) = self.check_remove(&by, &user) {
            return self.refuse_or_revalidate(ask, refused, ctx);
        }
        let remove = |parts: Parts, room, on_commit| async move {
            if by.key() == user.key() {
                parts.directory.leave(&room, &user, on_commit).await
            } else {
                parts.directory.remove(&room, &user, &by, on_commit).await
            }
        };
        self.change(ctx, remove, Self::apply_removal, ask.reply);
    }
}

impl Room {
    /// Makes `user` a member at the request of `by`. `answer` reads the answer from the room afterwards.
    fn add<A: 'static>(
        &mut self,
        ctx: &mut Context<Self>,
        (by, user): (Username, Username),
        answer: fn(&Self) -> A,
        reply: Reply<A>,
    ) {
        let add = |parts: Parts, room: RoomName, on_commit| async move {
            parts.broker.subscribe(std::slice::from_ref(&room)).await?;
            if by.key() == user.key() {
                parts.directory.add(&room, &user, parts.rooms_per_user, on_commit).await
            } else {
                parts.directory.add_by(&room, &user, &by, parts.additions, on_commit).await
            }
        };
        let apply = move |room: &mut Self, members| {
            room.members.replace(members);
            answer(room)
        };
        self.change(ctx, add, apply, reply);
    }

    /// Replaces the member list by the remaining `members`.
    fn apply_removal(&mut self, members: Vec<Member>) {
        // When the last member leaves a private room, the directory archives it in the same transaction.
        if members.is_empty() && self.settings.private {
            self.state = State::Archived;
        }
        self.members.replace(members);
    }

    /// Checks that `by` may add `user`. `Ok(false)` if `user` is a member already.
    fn check_add(&mut self, by: &Username, user: &Username) -> Result<bool, Error> {
        let act = if by.key() == user.key() { Act::Enter } else { Act::AddMember };
        self.check(by, act)?;
        Ok(self.members.role(user).is_none())
    }

    fn check_remove(&mut self, by: &Username, user: &Username) -> Result<(), Error> {
        self.check(by, Act::Leave)?;
        if !RoomKind::of(&self.name).lists_members() {
            return Err(Error::Forbidden("every user is a member of the lobby"));
        }
        if by.key() == user.key() { Ok(()) } else { self.check(by, Act::RemoveMember) }
    }
}
