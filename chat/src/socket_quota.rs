//! How many sockets each user has open on this node, and from which logins. Clients take a slot and give it back by dropping
//! it; the revocation task asks which logins are seated.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use proto::Identity;

use crate::Error;

/// The socket_quota of a node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SocketQuota {
    per_user: usize,
    taken: Arc<Mutex<Taken>>,
}

/// Who sits.
#[derive(Debug, Default)]
struct Taken {
    /// By the user's key.
    users: HashMap<String, usize>,
    /// By the session's id.
    sessions: HashMap<String, usize>,
}

/// One socket's slot.
#[derive(Debug)]
pub struct SocketSlot {
    taken: Arc<Mutex<Taken>>,
    user: String,
    session: String,
}

impl SocketQuota {
    /// At most `per_user` socket_quota for each user.
    pub fn new(per_user: usize) -> Self {
        Self { per_user, taken: Arc::default() }
    }

    /// Takes a slot.
    ///
    /// # Errors
    /// [`Error::RateLimited`] when the user has all of theirs.
    pub fn take(&self, identity: &Identity) -> Result<SocketSlot, Error> {
        let user = identity.username.key();
        let mut taken = lock(&self.taken);
        if taken.users.get(&user).is_some_and(|count| *count >= self.per_user) {
            let retry_after = Duration::from_secs(15);
            return Err(Error::RateLimited { what: "too many sockets", retry_after });
        }
        *taken.users.entry(user.clone()).or_default() += 1;
        *taken.sessions.entry(identity.session.clone()).or_default() += 1;
        drop(taken);
        Ok(SocketSlot { taken: self.taken.clone(), user, session: identity.session.clone() })
    }

    /// The logins that sockets are open from.
    pub fn sessions(&self) -> Vec<String> {
        lock(&self.taken).sessions.keys().cloned().collect()
    }
}

impl Drop for SocketSlot {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        release(&mut taken.users, std::mem::take(&mut self.user));
        release(&mut taken.sessions, std::mem::take(&mut self.session));
    }
}

/// Every change is one step, so the counts are whole even if a thread panicked while it held the lock.
fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn the_21st_socket_of_a_user_has_no_seat_until_one_is_free() {
        let socket_quota = SocketQuota::new(20);
        let mut taken: Vec<SocketSlot> =
            (0..20).map(|_| socket_quota.take(&identity("alice", "s")).unwrap()).collect();
        assert!(matches!(socket_quota.take(&identity("ALICE", "other")), Err(Error::RateLimited { .. })));
        assert!(socket_quota.take(&identity("bob", "b")).is_ok());
        taken.pop();
        assert!(socket_quota.take(&identity("alice", "s")).is_ok());
    }

    #[test]
    fn a_login_is_seated_while_one_of_its_sockets_is() {
        let socket_quota = SocketQuota::new(20);
        let first = socket_quota.take(&identity("alice", "s")).unwrap();
        let second = socket_quota.take(&identity("alice", "s")).unwrap();
        drop(first);
        assert_eq!(socket_quota.sessions(), ["s"]);
        drop(second);
        assert!(socket_quota.sessions().is_empty());
        assert!(lock(&socket_quota.taken).users.is_empty());
    }
}
