//! Reconnects of clients: a lock for each recovery session, so that of two connections that present the same one the later closes the
//! earlier, and the read positions of clients that have disconnected recently. Called by [`crate::client`].

use std::{
    collections::{HashMap, VecDeque, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    sync::{Mutex as StdMutex, PoisonError},
};

use socketio::{ReadPosition, SocketId};
use tokio::sync::{Mutex, MutexGuard};

/// Number of locks. Sessions whose hashes have the same remainder share a lock.
const LANES: usize = 256;

/// Maximum number of stored read positions. The oldest are evicted.
const REMEMBERED: usize = 4_096;

/// The locks of recovery sessions, and the read positions of clients that have disconnected.
#[derive(Debug)]
pub struct LastReadPositions {
    lanes: Vec<Mutex<()>>,
    left: StdMutex<Left>,
}

/// The read positions of disconnected clients.
#[derive(Debug, Default)]
struct Left {
    places: HashMap<SocketId, (u64, ReadPosition)>,
    /// The order of disconnects, oldest first. Includes clients that have reconnected or disconnected again since.
    order: VecDeque<(u64, SocketId)>,
    count: u64,
}

impl LastReadPositions {
    /// No locks are held and no read positions are stored.
    pub fn new() -> Self {
        Self { lanes: (0..LANES).map(|_| Mutex::new(())).collect(), left: StdMutex::default() }
    }

    /// Locks the recovery session `pid` until the guard is dropped. Waits while it is locked.
    pub async fn lock(&self, pid: &str) -> MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        pid.hash(&mut hasher);
        let lane = usize::try_from(hasher.finish()).unwrap_or(usize::MAX) % LANES;
        self.lanes[lane].lock().await
    }

    /// Stores the read position of a client that has disconnected. Unknown positions are not stored.
    pub fn leave(&self, socket: SocketId, place: ReadPosition) {
        if place == ReadPosition::Unknown {
            return;
        }
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.count += 1;
        let count = left.count;
        left.places.insert(socket.clone(), (count, place));
        left.order.push_back((count, socket));
        if left.order.len() > REMEMBERED
            && let Some((count, earliest)) = left.order.pop_front()
            && left.places.get(&earliest).is_some_and(|(last, _)| *last == count)
        {
            left.places.remove(&earliest);
        }
    }

    /// Takes the position that [`LastReadPositions::leave`] has stored for the socket.
    pub fn left(&self, socket: &SocketId) -> ReadPosition {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.places.remove(socket).map_or(ReadPosition::Unknown, |(_, place)| place)
    }

    /// Removes the position of a client that has reconnected to another node.
    pub fn forget(&self, socket: &SocketId) {
        let _ = self.left(socket);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[actix_rt::test]
    async fn the_same_ticket_waits_for_itself() {
        let reconnects = LastReadPositions::new();
        let first = reconnects.lock("a").await;
        assert!(reconnects.lock("a").now_or_never().is_none());
        drop(first);
        assert!(reconnects.lock("a").now_or_never().is_some());
    }

    fn sid(name: &str) -> SocketId {
        SocketId::from_stored(name)
    }

    #[test]
    fn who_left_is_remembered_once_and_not_for_ever() {
        let reconnects = LastReadPositions::new();
        assert_eq!(reconnects.left(&sid("a")), ReadPosition::Unknown);
        reconnects.leave(sid("a"), ReadPosition::At(1));
        reconnects.leave(sid("a"), ReadPosition::At(2));
        assert_eq!(
            (reconnects.left(&sid("a")), reconnects.left(&sid("a"))),
            (ReadPosition::At(2), ReadPosition::Unknown)
        );
        reconnects.leave(sid("a"), ReadPosition::Start);
        assert_eq!(reconnects.left(&sid("a")), ReadPosition::Start);
        reconnects.leave(sid("a"), ReadPosition::At(3));
        reconnects.forget(&sid("a"));
        assert_eq!(reconnects.left(&sid("a")), ReadPosition::Unknown);
        reconnects.leave(sid("a"), ReadPosition::At(4));
        (0..REMEMBERED).for_each(|n| reconnects.leave(sid(&n.to_string()), ReadPosition::Start));
        assert_eq!(reconnects.left(&sid("a")), ReadPosition::Unknown);
        assert_eq!(reconnects.left.lock().unwrap().places.len(), REMEMBERED);
    }
}
