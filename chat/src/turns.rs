//! A semaphore that is fair by user: each user can hold only a share of its permits, and waits for a permit of the own share first.
//! Called by connects and by reads of history.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use proto::Username;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use crate::Error;

/// Divisor of a user's share: one user can hold `1 / SHARE` of all turns, and at least one.
const SHARE: usize = 8;

/// Permits ("turns") of a limited resource, with a share for each user.
pub struct Turns {
    all: Semaphore,
    share: usize,
    /// The shares by the user's key. A share exists while the user holds or waits for a turn.
    of: Mutex<HashMap<String, Weak<Semaphore>>>,
}

/// A turn. It is released when dropped.
#[derive(Debug)]
pub struct Turn<'a> {
    _all: SemaphorePermit<'a>,
    _own: OwnedSemaphorePermit,
}

impl Turns {
    /// Turns of which at most `most` are held at the same time.
    pub fn new(most: usize) -> Self {
        Self { all: Semaphore::new(most), share: (most / SHARE).max(1), of: Mutex::default() }
    }

    /// Waits for a turn. The caller sets a timeout.
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
