//! Turns at work that only so much of may be done at a time, fair by user: one user has a share of them, and waits for their own turns
//! first. Asked by the door and by readers of history.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use proto::Username;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use crate::Error;

/// One user has the `1 / SHARE` part of all turns.
const SHARE: usize = 8;

/// Turns at a limited resource, with a share for each user.
pub struct Turns {
    all: Semaphore,
    share: usize,
    /// By the user's key, while the user has a turn or waits for one.
    of: Mutex<HashMap<String, Weak<Semaphore>>>,
}

/// One turn, until it is dropped.
#[derive(Debug)]
pub struct Turn<'a> {
    _all: SemaphorePermit<'a>,
    _own: OwnedSemaphorePermit,
}

impl Turns {
    /// So many at a time.
    pub fn new(most: usize) -> Self {
        Self { all: Semaphore::new(most), share: (most / SHARE).max(1), of: Mutex::default() }
    }

    /// Waits for a turn. The caller bounds the wait.
    pub async fn take(&self, user: &Username) -> Result<Turn<'_>, Error> {
        let own = self.own(user).acquire_owned().await.map_err(|_| Error::gone())?;
        let all = self.all.acquire().await.map_err(|_| Error::gone())?;
        Ok(Turn { _all: all, _own: own })
    }

    fn own(&self, user: &Username) -> Arc<Semaphore> {
        let key = user.key();
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = of.get(&key).and_then(Weak::upgrade) {
            return own;
        }
        if of.len() == of.capacity() {
            of.retain(|_, own| own.strong_count() > 0);
        }
        let own = Arc::new(Semaphore::new(self.share));
        of.insert(key, Arc::downgrade(&own));
        own
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn one_user_has_a_share_of_the_turns_and_others_do_not_wait_for_it() {
        let turns = Turns::new(16);
        let user = |name: &str| name.parse::<Username>().unwrap();
        let eve = user("eve");
        let (first, second) = (turns.take(&eve).await.unwrap(), turns.take(&user("EVE")).await.unwrap());
        let mut waiting: Vec<_> = (0..100).map(|_| turns.take(&eve).boxed_local()).collect();
        assert!(waiting.iter_mut().all(|turn| turn.now_or_never().is_none()), "a share is two");
        let others: Vec<_> = (0..14).map(|n| turns.take(&user(&format!("u{n}"))).now_or_never()).collect();
        assert!(others.iter().all(Option::is_some), "all other turns are free");
        assert!(turns.take(&user("late")).now_or_never().is_none(), "all together have 16");
        drop((first, others));
        assert!(waiting[0].as_mut().now_or_never().is_some(), "the share is given again");
        drop((second, waiting));
        for n in 0..1_000 {
            drop(turns.take(&user(&format!("v{n}"))).await.unwrap());
        }
        assert!(turns.of.lock().unwrap().len() < 100, "nobody is kept");
    }
}
