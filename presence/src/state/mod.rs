//! The state of presence without I/O: users online and typing users. Reports change it, [`State::take_diff`] returns the net
//! change. Time is an argument. The crate's `Roster` owns it.

mod typing;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use proto::{RoomName, Username};

use self::typing::Typing;
use crate::Error;

/// Milliseconds on the caller's monotonic clock.
pub type Millis = u64;

/// Number of connections of each user on a node. A count of 0 equals an absent user.
pub type Connections = HashMap<Username, u32>;

/// Limits of the roster.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Time without a report after which a lease expires, in milliseconds.
    pub lease: Millis,
    /// Lifetime of a typing entry, in milliseconds.
    pub typing: Millis,
    /// Maximum number of users of one node.
    pub users: usize,
    /// Maximum number of typing entries in all rooms.
    pub typing_entries: usize,
}

/// The right of one stream to report for its node. It ends when a later stream of the node opens, or when it is not renewed in
/// time.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Lease {
    node: Arc<str>,
    generation: u64,
}

/// The net change since the previous diff.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diff {
    /// Users that came online, sorted.
    pub joined: Vec<Username>,
    /// Users that went offline, sorted.
    pub left: Vec<Username>,
    /// Number of users online.
    pub count: usize,
    /// Rooms with a change of their typing users, with all their typing users, sorted; empty when the last user has stopped.
    pub typing: Vec<(RoomName, Vec<Username>)>,
}

/// The node of calls without a lease. No other node has an empty name.
const UNARY: &str = "";

/// Maximum length of a node's name in bytes.
const NODE: usize = 64;

/// Users online, their nodes, and typing users.
#[derive(Debug)]
pub struct State {
    limits: Limits,
    /// Number of streams so far. Each lease has a generation of its own.
    generation: u64,
    nodes: HashMap<Arc<str>, NodeState>,
    /// Users online, and the number of nodes that report each.
    online: BTreeMap<Username, usize>,
    typing: Typing,
    /// Users who came online or went offline since the last diff, and whether they were online at that diff.
    changes: BTreeMap<Username, bool>,
}

/// State of one node.
#[derive(Debug)]
struct NodeState {
    lease: Lease,
    /// Time of the last report; `None` for the node without a lease.
    last_report: Option<Millis>,
    users: Connections,
}

impl Lease {
    /// The node that the stream reports for.
    pub fn node(&self) -> &str {
        &self.node
    }
}

impl State {
    /// An empty roster.
    pub fn new(limits: Limits) -> Self {
        let lease = Lease { node: UNARY.into(), generation: 0 };
        let unary = NodeState { lease, last_report: None, users: Connections::new() };
        Self {
            limits,
            generation: 0,
            nodes: HashMap::from([(UNARY.into(), unary)]),
            online: BTreeMap::new(),
            typing: Typing::new(limits.typing, limits.typing_entries),
            changes: BTreeMap::new(),
        }
    }

    /// A node opens a stream with a full snapshot, which replaces the node's previous state. An earlier stream of the node becomes
    /// stale.
    ///
    /// # Errors
    /// When the node's name does not have 1 to 64 printable characters of ASCII, or the users are too many.
    pub fn open(&mut self, node: &str, users: Connections, now: Millis) -> Result<Lease, Error> {
        if !(1..=NODE).contains(&node.len()) || !node.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::Report("a node name has 1 to 64 printable ascii characters"));
        }
        self.check_size(&users)?;
        self.generation += 1;
        let lease = Lease { node: node.into(), generation: self.generation };
        let state = NodeState { lease: lease.clone(), last_report: Some(now), users: Connections::new() };
        let before =
            self.nodes.insert(lease.node.clone(), state).map(|state| state.users).unwrap_or_default();
        self.replace_users(&lease, before, users);
        Ok(lease)
    }

    /// Replaces all users of the node of `lease`.
    pub fn replace(&mut self, lease: &Lease, users: Connections, now: Millis) -> Result<(), Error> {
        self.check_size(&users)?;
        let before = std::mem::take(&mut self.renew(lease, now)?.users);
        self.replace_users(lease, before, users);
        Ok(())
    }

    /// Sets the number of connections of `user` on the node of `lease`.
    pub fn change(&mut self, lease: &Lease, user: Username, count: u32, now: Millis) -> Result<(), Error> {
        self.renew(lease, now)?;
        self.set(lease.node(), user, |_| count)
    }

    /// Renews `lease`.
    pub fn heartbeat(&mut self, lease: &Lease, now: Millis) -> Result<(), Error> {
        self.renew(lease, now).map(|_| ())
    }

    /// The stream of `lease` has ended. Removes the node's users, unless a later stream replaced it. Returns whether the lease was
    /// valid.
    pub fn close(&mut self, lease: &Lease) -> bool {
        if self.nodes.get(lease.node()).is_none_or(|state| state.lease != *lease) {
            return false;
        }
        let users = self.nodes.remove(lease.node()).map(|state| state.users).unwrap_or_default();
        users.into_keys().for_each(|user| self.remove_holder(user));
        true
    }

    /// Adds a connection of `user` that no node reports.
    pub fn connected(&mut self, user: Username) -> Result<(), Error> {
        self.set(UNARY, user, |count| count.saturating_add(1))
    }

    /// Removes a connection of `user` that no node reports. The count does not fall below 0.
    pub fn disconnected(&mut self, user: Username) -> Result<(), Error> {
        self.set(UNARY, user, |count| count.saturating_sub(1))
    }

    /// Sets whether `user` types in `room`.
    pub fn set_typing(
        &mut self,
        user: Username,
        room: RoomName,
        typing: bool,
        now: Millis,
    ) -> Result<(), Error> {
        if typing {
            return self.typing.set(user, room, now);
        }
        self.typing.clear(&user, &room);
        Ok(())
    }

    /// Removes nodes whose lease has expired, and expired typing entries. Returns the expired leases.
    pub fn sweep(&mut self, now: Millis) -> Vec<Lease> {
        self.typing.expire(now);
        let is_expired = |state: &NodeState| {
            state.last_report.is_some_and(|last| now.saturating_sub(last) >= self.limits.lease)
        };
        let expired = self.nodes.values().filter(|state| is_expired(state));
        let expired: Vec<Lease> = expired.map(|state| state.lease.clone()).collect();
        for lease in &expired {
            self.close(lease);
        }
        expired
    }

    /// All users online, sorted.
    pub fn online(&self) -> impl ExactSizeIterator<Item = &Username> {
        self.online.keys()
    }

    /// Typing users by room. Rooms without typing users are absent.
    pub fn typing(&self) -> impl Iterator<Item = (&RoomName, Vec<&Username>)> {
        self.typing.rooms()
    }

    /// The net change since the last call. A user that came online and went offline in between is not part of it. `None` without a
    /// change.
    pub fn take_diff(&mut self) -> Option<Diff> {
        let (mut joined, mut left) = (Vec::new(), Vec::new());
        for (user, was_online) in std::mem::take(&mut self.changes) {
            match (was_online, self.online.contains_key(&user)) {
                (false, true) => joined.push(user),
                (true, false) => left.push(user),
                _ => {}
            }
        }
        let diff = Diff { joined, left, count: self.online.len(), typing: self.typing.take_changes() };
        let is_empty = diff.joined.is_empty() && diff.left.is_empty() && diff.typing.is_empty();
        (!is_empty).then_some(diff)
    }

    fn check_size(&self, users: &Connections) -> Result<(), Error> {
        if users.len() > self.limits.users { Err(Error::Full) } else { Ok(()) }
    }

    /// Renews a valid lease and returns the state of its node.
    fn renew(&mut self, lease: &Lease, now: Millis) -> Result<&mut NodeState, Error> {
        let state =
            self.nodes.get_mut(lease.node()).filter(|state| state.lease == *lease).ok_or(Error::Stale)?;
        state.last_report = state.last_report.map(|last| last.max(now));
        Ok(state)
    }

    /// Replaces the users `before` of a node with `after`. New users are added first, so that a user in both stays online.
    fn replace_users(&mut self, lease: &Lease, before: Connections, mut after: Connections) {
        after.retain(|_, count| *count > 0);
        for user in after.keys().filter(|user| !before.contains_key(*user)) {
            self.add_holder(user.clone());
        }
        before.into_keys().filter(|user| !after.contains_key(user)).for_each(|user| self.remove_holder(user));
        if let Some(state) = self.nodes.get_mut(lease.node()) {
            state.users = after;
        }
    }

    fn set(&mut self, node: &str, user: Username, count: impl FnOnce(u32) -> u32) -> Result<(), Error> {
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
            (false, true) => self.add_holder(user),
            (true, false) => self.remove_holder(user),
            _ => {}
        }
        Ok(())
    }

    fn add_holder(&mut self, user: Username) {
        let holders = self.online.entry(user.clone()).or_insert(0);
        *holders += 1;
        if *holders == 1 {
            self.changes.entry(user).or_insert(false);
        }
    }

    fn remove_holder(&mut self, user: Username) {
        let Some(holders) = self.online.get_mut(&user) else {
            debug_assert!(false, "a removed user was online");
            return;
        };
        *holders -= 1;
        if *holders == 0 {
            self.online.remove(&user);
            self.typing.clear_user(&user);
            self.changes.entry(user).or_insert(true);
        }
    }
}
