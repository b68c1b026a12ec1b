//! The open sockets of each user and of each login session on this node. Clients take a slot and release it by dropping it. The revocation
//! task reads the login sessions.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use proto::Identity;

use crate::Error;

/// How long a client should wait for a slot. A socket whose client is gone is closed within its ping interval and timeout.
const RETRY_AFTER: Duration = Duration::from_secs(15);

/// What [`Error::RateLimited`] names when all slots of a user are taken.
pub const TOO_MANY: &str = "too many sockets";

/// The quota of sockets of each user on a node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SocketQuota {
    per_user: usize,
    counts: Arc<Mutex<Counts>>,
}

/// The numbers of taken slots.
#[derive(Debug, Default)]
struct Counts {
    /// Open sockets by the user's key.
    users: HashMap<String, usize>,
    /// Open sockets by the login session's id.
    sessions: HashMap<String, usize>,
}

/// The slot of one socket. It is released when dropped.
#[derive(Debug)]
pub struct SocketSlot {
    counts: Arc<Mutex<Counts>>,
    user: String,
    session: String,
}

impl SocketQuota {
    /// A quota of `per_user` sockets for each user.
    pub fn new(per_user: usize) -> Self {
        Self { per_user, counts: Arc::default() }
    }

    /// Checks that a slot is free, without taking it.
    ///
    /// # Errors
    /// [`Error::RateLimited`] when all slots of the user are taken.
    pub fn check(&self, identity: &Identity) -> Result<(), Error> {
        self.check_key(&identity.username.key(), &lock(&self.counts))
    }

    fn check_key(&self, user: &str, counts: &Counts) -> Result<(), Error> {
        if counts.users.get(user).is_some_and(|count| *count >= self.per_user) {
            return Err(Error::RateLimited { what: TOO_MANY, retry_after: RETRY_AFTER });
        }
        Ok(())
    }

    /// Takes a slot.
    ///
    /// # Errors
    /// [`Error::RateLimited`] when all slots of the user are taken.
    pub fn take(&self, identity: &Identity) -> Result<SocketSlot, Error> {
        let user = identity.username.key();
        let mut counts = lock(&self.counts);
        self.check_key(&user, &counts)?;
        *counts.users.entry(user.clone()).or_default() += 1;
        *counts.sessions.entry(identity.session.clone()).or_default() += 1;
        drop(counts);
        Ok(SocketSlot { counts: self.counts.clone(), user, session: identity.session.clone() })
    }

    /// The ids of the login sessions that have open sockets.
    pub fn sessions(&self) -> Vec<String> {
        lock(&self.counts).sessions.keys().cloned().collect()
    }
}

impl Drop for SocketSlot {
    fn drop(&mut self) {
        let mut counts = lock(&self.counts);
        release(&mut counts.users, std::mem::take(&mut self.user));
        release(&mut counts.sessions, std::mem::take(&mut self.session));
    }
}

/// Locks the counts. They are consistent even if a thread panicked while it held the lock, because every change is one step.
fn lock(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

fn release(counts: &mut HashMap<String, usize>, key: String) {
    if let Entry::Occupied(mut count) = counts.entry(key) {
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(name: &str, session: &str) -> Identity {
        Identity { username: name.parse().unwrap(), session: session.to_owned() }
    }

    #[test]
    fn socket_beyond_the_quota_is_refused_until_one_is_closed() {
        let socket_quota = SocketQuota::new(20);
        let mut slots: Vec<SocketSlot> =
            (0..20).map(|_| socket_quota.take(&identity("alice", "s")).unwrap()).collect();
        assert!(matches!(socket_quota.take(&identity("ALICE", "other")), Err(Error::RateLimited { .. })));
        assert!(socket_quota.take(&identity("bob", "b")).is_ok());
        slots.pop();
        assert!(socket_quota.take(&identity("alice", "s")).is_ok());
    }

    #[test]
    fn login_session_is_listed_while_one_of_its_sockets_is_open() {
        let socket_quota = SocketQuota::new(20);
        let first = socket_quota.take(&identity("alice", "s")).unwrap();
        let second = socket_quota.take(&identity("alice", "s")).unwrap();
        drop(first);
        assert_eq!(socket_quota.sessions(), ["s"]);
        drop(second);
        assert!(socket_quota.sessions().is_empty());
        assert!(lock(&socket_quota.counts).users.is_empty());
    }
}
