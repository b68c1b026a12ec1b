//! One comeback of a client at a time: of two connections that show the same recovery_session the later one closes the earlier. And how
//! far those had read who left lately. Asked by the client's door.

use std::{
    collections::{HashMap, VecDeque, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    sync::{Mutex as StdMutex, PoisonError},
};

use socketio::{ReadPosition, SocketId};
use tokio::sync::{Mutex, MutexGuard};

/// So many clients can come back at the same time; two with the same remainder wait for each other.
const LANES: usize = 256;

/// How many of those who left are remembered.
const REMEMBERED: usize = 4_096;

/// See the module.
#[derive(Debug)]
pub struct LastReadPositions {
    lanes: Vec<Mutex<()>>,
    left: StdMutex<Left>,
}

/// Who left lately, the earliest first.
#[derive(Debug, Default)]
struct Left {
    places: HashMap<SocketId, (u64, ReadPosition)>,
    /// Also those who have come back since, or left again.
    order: VecDeque<(u64, SocketId)>,
    count: u64,
}

impl LastReadPositions {
    /// Nobody is coming back.
    pub fn new() -> Self {
        Self { lanes: (0..LANES).map(|_| Mutex::new(())).collect(), left: StdMutex::default() }
    }

    /// Waits for its turn; whoever shows the same recovery_session waits until the answer is dropped.
    pub async fn lock(&self, pid: &str) -> MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        pid.hash(&mut hasher);
        let lane = usize::try_from(hasher.finish()).unwrap_or(usize::MAX) % LANES;
        self.lanes[lane].lock().await
    }

    /// The client that had this socket has left, where in the log.
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

    /// What [`LastReadPositions::leave`] was told of this client, once.
    pub fn left(&self, socket: &SocketId) -> ReadPosition {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.places.remove(socket).map_or(ReadPosition::Unknown, |(_, place)| place)
    }

    /// The client that had this socket is back somewhere else.
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
