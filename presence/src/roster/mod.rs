//! Who is online and who types, as a value: reports go in, one pending [`Diff`] comes out. Time is an argument. Owned by
//! the actor [`crate::Roster`]; knows no clock, no network and no task.

mod diff;
mod lease;
mod typing;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use proto::{RoomName, Username};

pub use self::{
    diff::Diff,
    lease::{Lease, Node},
};
use self::{diff::Flips, typing::Stamps};
use crate::Error;

/// Milliseconds on the caller's monotonic clock.
pub type Millis = u64;

/// How many connections each user of a node has. A count of 0 is the same as not being there.
pub type Connections = HashMap<Username, u32>;

/// What the roster allows.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long a node may be silent, in milliseconds.
    pub lease: Millis,
    /// How long a typing stamp holds, in milliseconds.
    pub typing: Millis,
    /// How many users one node may have.
    pub users: usize,
    /// How many typing stamps there may be in all rooms together.
    pub stamps: usize,
}

/// The truth about who is here.
#[derive(Debug)]
pub struct State {
    limits: Limits,
    /// Counts the streams; each lease has its own number.
    generation: u64,
    nodes: HashMap<Node, Standing>,
    /// Users who are online, and how many nodes hold each.
    online: BTreeMap<Username, usize>,
    stamps: Stamps,
    flips: Flips,
}

/// What is known of one node.
#[derive(Debug)]
struct Standing {
    lease: Lease,
    /// When the node last said something; none for the node without lease.
    heard: Option<Millis>,
    users: Connections,
}

impl State {
    /// An empty roster.
    pub fn new(limits: Limits) -> Self {
        let unary = Standing { lease: Lease::unary(), heard: None, users: Connections::new() };
        Self {
            limits,
            generation: 0,
            nodes: HashMap::from([(Node::unary(), unary)]),
            online: BTreeMap::new(),
            stamps: Stamps::new(limits.typing, limits.stamps),
            flips: Flips::default(),
        }
    }

    /// A node opens a stream with its whole truth, which replaces what was known of it. An earlier stream of the node is
    /// stale from now on.
    pub fn open(&mut self, node: Node, users: Connections, now: Millis) -> Result<Lease, Error> {
        self.check_size(&users)?;
        self.generation += 1;
        let lease = Lease::new(node.clone(), self.generation);
        let standing = Standing { lease: lease.clone(), heard: Some(now), users: Connections::new() };
        let before = self.nodes.insert(node, standing).map(|standing| standing.users).unwrap_or_default();
        self.exchange(&lease, before, users);
        Ok(lease)
    }

    /// The node of `lease` tells its whole truth again.
    pub fn replace(&mut self, lease: &Lease, users: Connections, now: Millis) -> Result<(), Error> {
        self.check_size(&users)?;
        let before = std::mem::take(&mut self.renew(lease, now)?.users);
        self.exchange(lease, before, users);
        Ok(())
    }

    /// `user` has `count` connections on the node of `lease` now.
    pub fn change(&mut self, lease: &Lease, user: Username, count: u32, now: Millis) -> Result<(), Error> {
        self.renew(lease, now)?;
        self.set(lease.node(), user, |_| count)
    }

    /// The node of `lease` is alive.
    pub fn beat(&mut self, lease: &Lease, now: Millis) -> Result<(), Error> {
        self.renew(lease, now).map(|_| ())
    }

    /// The stream of `lease` has ended; its node's users go, unless a later stream speaks for the node. Answers whether it
    /// still held.
    pub fn close(&mut self, lease: &Lease) -> bool {
        if *lease == Lease::unary() || self.nodes.get(lease.node()).is_none_or(|at| at.lease != *lease) {
            return false;
        }
        let users = self.nodes.remove(lease.node()).map(|standing| standing.users).unwrap_or_default();
        users.into_keys().for_each(|user| self.depart(user));
        true
    }

    /// `user` has one connection more, reported by no node.
    pub fn connected(&mut self, user: Username) -> Result<(), Error> {
        self.set(&Node::unary(), user, |count| count.saturating_add(1))
    }

    /// `user` has one connection fewer of those reported by no node; none is the least.
    pub fn disconnected(&mut self, user: Username) -> Result<(), Error> {
        self.set(&Node::unary(), user, |count| count.saturating_sub(1))
    }

    /// `user` types in `room`, or has stopped.
    pub fn set_typing(
        &mut self,
        user: Username,
        room: RoomName,
        typing: bool,
        now: Millis,
    ) -> Result<(), Error> {
        if typing {
            return self.stamps.set(user, room, now);
        }
        self.stamps.clear(&user, &room);
        Ok(())
    }

    /// Drops nodes that were silent for the lease and stamps that expired. Answers with the leases lost.
    pub fn sweep(&mut self, now: Millis) -> Vec<Lease> {
        self.stamps.expire(now);
        let silent =
            |at: &Standing| at.heard.is_some_and(|heard| now.saturating_sub(heard) >= self.limits.lease);
        let lost: Vec<Lease> =
            self.nodes.values().filter(|at| silent(at)).map(|at| at.lease.clone()).collect();
        for lease in &lost {
            self.close(lease);
        }
        lost
    }

    /// Everybody online, sorted.
    pub fn online(&self) -> impl ExactSizeIterator<Item = &Username> {
        self.online.keys()
    }

    /// Everybody typing, room by room; no room is empty.
    pub fn typing(&self) -> impl Iterator<Item = (&RoomName, Vec<&Username>)> {
        self.stamps.rooms()
    }

    /// What changed since this was last called, netted: who came and went in between is not in it. None when nothing did.
    pub fn take_diff(&mut self) -> Option<Diff> {
        let (joined, left) = self.flips.take(|user| self.online.contains_key(user));
        let diff = Diff { joined, left, count: self.online.len(), typing: self.stamps.take_changes() };
        (!diff.is_empty()).then_some(diff)
    }

    fn check_size(&self, users: &Connections) -> Result<(), Error> {
        if users.len() > self.limits.users { Err(Error::Full) } else { Ok(()) }
    }

    /// The standing of a lease that still holds, marked as heard of now.
    fn renew(&mut self, lease: &Lease, now: Millis) -> Result<&mut Standing, Error> {
        let standing =
            self.nodes.get_mut(lease.node()).filter(|at| at.lease == *lease).ok_or(Error::Stale)?;
        standing.heard = standing.heard.map(|heard| heard.max(now));
        Ok(standing)
    }

    /// Puts `after` in the place of what the node held `before`, newcomers first, so that nobody flickers.
    fn exchange(&mut self, lease: &Lease, before: Connections, mut after: Connections) {
        after.retain(|_, count| *count > 0);
        for user in after.keys().filter(|user| !before.contains_key(*user)) {
            self.arrive(user.clone());
        }
        before.into_keys().filter(|user| !after.contains_key(user)).for_each(|user| self.depart(user));
        if let Some(standing) = self.nodes.get_mut(lease.node()) {
            standing.users = after;
        }
    }

    fn set(&mut self, node: &Node, user: Username, count: impl FnOnce(u32) -> u32) -> Result<(), Error> {
        let users = &mut self.nodes.get_mut(node).ok_or(Error::Stale)?.users;
        let before = users.get(&user).copied().unwrap_or(0);
        let after = count(before);
        if before == 0 && after > 0 && users.len() >= self.limits.users {
            return Err(Error::Full);
        }
        if after == 0 {
            users.remove(&user)
        } else {
            users.insert(user.clone(), after)
        };
        match (before > 0, after > 0) {
            (false, true) => self.arrive(user),
            (true, false) => self.depart(user),
            _ => {}
        }
        Ok(())
    }

    fn arrive(&mut self, user: Username) {
        let holders = self.online.entry(user.clone()).or_insert(0);
        *holders += 1;
        if *holders == 1 {
            self.flips.note(user, false);
        }
    }

    fn depart(&mut self, user: Username) {
        let Some(holders) = self.online.get_mut(&user) else {
            debug_assert!(false, "who departs was online");
            return;
        };
        *holders -= 1;
        if *holders == 0 {
            self.online.remove(&user);
            self.stamps.forget(&user);
            self.flips.note(user, true);
        }
    }
}
