//! One comeback of a client at a time: of two connections that show the same ticket the later one closes the earlier. And how
//! far those had read who left lately. Asked by the guest's door.

use std::{
    collections::{HashMap, VecDeque, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    sync::{Mutex as StdMutex, PoisonError},
};

use tokio::sync::{Mutex, MutexGuard};

/// So many clients can come back at the same time; two with the same remainder wait for each other.
const LANES: usize = 256;

/// How many of those who left are remembered.
const REMEMBERED: usize = 16_384;

/// See the module.
#[derive(Debug)]
pub struct Comebacks {
    lanes: Vec<Mutex<()>>,
    left: StdMutex<Left>,
}

/// Who left lately, the earliest first.
#[derive(Debug, Default)]
struct Left {
    places: HashMap<String, (u64, Option<u64>)>,
    /// Also those who have come back since, or left again.
    order: VecDeque<(u64, String)>,
    count: u64,
}

impl Comebacks {
    /// Nobody is coming back.
    pub fn new() -> Self {
        Self { lanes: (0..LANES).map(|_| Mutex::new(())).collect(), left: StdMutex::default() }
    }

    /// Waits for its turn; whoever shows the same ticket waits until the answer is dropped.
    pub async fn lock(&self, pid: &str) -> MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        pid.hash(&mut hasher);
        let lane = usize::try_from(hasher.finish()).unwrap_or(usize::MAX) % LANES;
        self.lanes[lane].lock().await
    }

    /// A client has closed its connection, having been sent the log up to `place`; none: nothing of it since it came.
    pub fn leave(&self, pid: &str, place: Option<u64>) {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.count += 1;
        let count = left.count;
        left.places.insert(pid.to_owned(), (count, place));
        left.order.push_back((count, pid.to_owned()));
        if left.order.len() > REMEMBERED
            && let Some((count, earliest)) = left.order.pop_front()
            && left.places.get(&earliest).is_some_and(|(last, _)| *last == count)
        {
            left.places.remove(&earliest);
        }
    }

    /// What [`Comebacks::leave`] was told of this client, once; none when it did not close its connection itself.
    pub fn left(&self, pid: &str) -> Option<Option<u64>> {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.places.remove(pid).map(|(_, place)| place)
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

    #[test]
    fn who_left_is_remembered_once_and_not_for_ever() {
        let comebacks = Comebacks::new();
        assert_eq!(comebacks.left("a"), None);
        comebacks.leave("a", Some(1));
        comebacks.leave("a", Some(2));
        assert_eq!((comebacks.left("a"), comebacks.left("a")), (Some(Some(2)), None));
        comebacks.leave("a", None);
        assert_eq!(comebacks.left("a"), Some(None));
        comebacks.leave("a", Some(3));
        (0..REMEMBERED).for_each(|n| comebacks.leave(&n.to_string(), None));
        assert_eq!(comebacks.left("a"), None);
        assert_eq!(comebacks.left.lock().unwrap().places.len(), REMEMBERED);
    }
}
