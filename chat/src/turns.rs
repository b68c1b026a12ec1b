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
    shares: Mutex<HashMap<String, Weak<Semaphore>>>,
}

/// A turn. It is released when dropped.
#[derive(Debug)]
pub struct Turn<'a> {
    _all: SemaphorePermit<'a>,
    _own_share: OwnedSemaphorePermit,
}

impl Turns {
    /// Turns of which at most `most` are held at the same time.
    pub fn new(capacity: usize) -> Self {
        Self { all: Semaphore::new(capacity), share: (capacity / SHARE).max(1), shares: Mutex::default() }
    }

    /// Waits for a turn. The caller sets a timeout.
    pub async fn take(&self, user: &Username) -> Result<Turn<'_>, Error> {
        let own_share = self.own_share(user).acquire_owned().await.map_err(|_| Error::gone())?;
        let all = self.all.acquire().await.map_err(|_| Error::gone())?;
        Ok(Turn { _all: all, _own_share: own_share })
    }

    fn own_share(&self, user: &Username) -> Arc<Semaphore> {
        let key = user.key();
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own_share) = shares.get(&key).and_then(Weak::upgrade) {
            return own_share;
        }
        if shares.len() == shares.capacity() {
            shares.retain(|_, own_share| own_share.strong_count() > 0);
        }
        let own_share = Arc::new(Semaphore::new(self.share));
        shares.insert(key, Arc::downgrade(&own_share));
        own_share
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_user_holds_only_a_share_and_does_not_block_others() {
        let turns = Turns::new(16);
        let user = |name: &str| name.parse::<Username>().unwrap();
        let eve = user("eve");
        let (first, second) = (turns.take(&eve).await.unwrap(), turns.take(&user("EVE")).await.unwrap());
        let mut waiting: Vec<_> = (0..100).map(|_| turns.take(&eve).boxed_local()).collect();
        assert!(waiting.iter_mut().all(|turn| turn.now_or_never().is_none()), "the share is two turns");
        let others: Vec<_> = (0..14).map(|n| turns.take(&user(&format!("u{n}"))).now_or_never()).collect();
        assert!(others.iter().all(Option::is_some), "all other turns are free");
        assert!(turns.take(&user("late")).now_or_never().is_none(), "there are 16 turns");
        drop((first, others));
        assert!(waiting[0].as_mut().now_or_never().is_some(), "the released turn is available");
        drop((second, waiting));
        for n in 0..1_000 {
            drop(turns.take(&user(&format!("v{n}"))).await.unwrap());
        }
        assert!(turns.shares.lock().unwrap().len() < 100, "shares without turns are removed");
    }
}
