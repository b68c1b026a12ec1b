//! One comeback of a client at a time: of two connections that show the same ticket the later one closes the earlier. Asked by the
//! guest's door.

use std::{
    collections::hash_map::DefaultHasher,
    hash::{Hash, Hasher},
};

use tokio::sync::{Mutex, MutexGuard};

/// So many clients can come back at the same time; two with the same remainder wait for each other.
const LANES: usize = 256;

/// See the module.
#[derive(Debug)]
pub struct Comebacks {
    lanes: Vec<Mutex<()>>,
}

impl Comebacks {
    /// Nobody is coming back.
    pub fn new() -> Self {
        Self { lanes: (0..LANES).map(|_| Mutex::new(())).collect() }
    }

    /// Waits for its turn; whoever shows the same ticket waits until the answer is dropped.
    pub async fn lock(&self, pid: &str) -> MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        pid.hash(&mut hasher);
        let lane = usize::try_from(hasher.finish()).unwrap_or(usize::MAX) % LANES;
        self.lanes[lane].lock().await
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[actix_rt::test]
    async fn the_same_ticket_waits_for_itself() {
        let comebacks = Comebacks::new();
        let first = comebacks.lock("a").await;
        assert!(comebacks.lock("a").now_or_never().is_none());
        drop(first);
        assert!(comebacks.lock("a").now_or_never().is_some());
    }
}
