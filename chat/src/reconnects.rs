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
const LOCKS: usize = 256;

/// Maximum number of stored read positions. The oldest are evicted.
const MAX_POSITIONS: usize = 4_096;

/// The locks of recovery sessions, and the read positions of clients that have disconnected.
#[derive(Debug)]
pub struct LastReadPositions {
    locks: Vec<Mutex<()>>,
    disconnected: StdMutex<Disconnected>,
}

/// The read positions of disconnected clients.
#[derive(Debug, Default)]
struct Disconnected {
    positions: HashMap<SocketId, (u64, ReadPosition)>,
    /// The order of disconnects, oldest first. Includes clients that have reconnected or disconnected again since.
    order: VecDeque<(u64, SocketId)>,
    count: u64,
}

impl LastReadPositions {
    /// No locks are held and no read positions are stored.
    pub fn new() -> Self {
        Self { locks: (0..LOCKS).map(|_| Mutex::new(())).collect(), disconnected: StdMutex::default() }
    }

    /// Locks the recovery session `pid` until the guard is dropped. Waits while it is locked.
    pub async fn lock(&self, pid: &str) -> MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        pid.hash(&mut hasher);
        let index = usize::try_from(hasher.finish()).unwrap_or(usize::MAX) % LOCKS;
        self.locks[index].lock().await
    }

    /// Stores the read position of a client that has disconnected. Unknown positions are not stored.
    pub fn store(&self, socket: SocketId, position: ReadPosition) {
        if position == ReadPosition::Unknown {
            return;
        }
        let mut disconnected = self.disconnected.lock().unwrap_or_else(PoisonError::into_inner);
        disconnected.count += 1;
        let count = disconnected.count;
        disconnected.positions.insert(socket.clone(), (count, position));
        disconnected.order.push_back((count, socket));
        if disconnected.order.len() > MAX_POSITIONS
            && let Some((count, oldest)) = disconnected.order.pop_front()
            && disconnected.positions.get(&oldest).is_some_and(|(last, _)| *last == count)
        {
            disconnected.positions.remove(&oldest);
        }
    }

    /// Takes the position that [`LastReadPositions::store`] has stored for the socket.
    pub fn take(&self, socket: &SocketId) -> ReadPosition {
        let mut disconnected = self.disconnected.lock().unwrap_or_else(PoisonError::into_inner);
        disconnected.positions.remove(socket).map_or(ReadPosition::Unknown, |(_, position)| position)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[actix_rt::test]
    async fn same_session_is_locked_once() {
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
    fn position_is_taken_once_and_oldest_are_evicted() {
        let reconnects = LastReadPositions::new();
        assert_eq!(reconnects.take(&sid("a")), ReadPosition::Unknown);
        reconnects.store(sid("a"), ReadPosition::At(1));
        reconnects.store(sid("a"), ReadPosition::At(2));
        assert_eq!(
            (reconnects.take(&sid("a")), reconnects.take(&sid("a"))),
            (ReadPosition::At(2), ReadPosition::Unknown)
        );
        reconnects.store(sid("a"), ReadPosition::Start);
        assert_eq!(reconnects.take(&sid("a")), ReadPosition::Start);
        reconnects.store(sid("a"), ReadPosition::At(4));
        (0..MAX_POSITIONS).for_each(|n| reconnects.store(sid(&n.to_string()), ReadPosition::Start));
        assert_eq!(reconnects.take(&sid("a")), ReadPosition::Unknown);
        assert_eq!(reconnects.disconnected.lock().unwrap().positions.len(), MAX_POSITIONS);
    }
}
