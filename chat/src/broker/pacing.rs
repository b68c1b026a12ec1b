//! Which rooms wait until their clients have caught up with their last batch. A room registers before it writes, [`super::fanout_actor`]
//! marks the room's messages, and the room waits for them and for nobody else's.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use proto::RoomName;
use socketio::{BackpressureToken, BackpressureWait};

/// The rooms that have a batch on its way. Clones are the same table.
#[derive(Debug, Clone, Default)]
pub(super) struct Pacers(Arc<Mutex<HashMap<RoomName, BackpressureToken>>>);

/// A room's batch on its way. Dropped, the room's messages have no mark any more.
#[derive(Debug)]
pub struct Pacing {
    room: RoomName,
    pacer: Option<BackpressureToken>,
    paced: Option<BackpressureWait>,
    pacers: Pacers,
}

impl Pacers {
    fn table(&self) -> MutexGuard<'_, HashMap<RoomName, BackpressureToken>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a batch of a room.
    pub(super) fn begin(&self, room: &RoomName) -> Pacing {
        let (pacer, paced) = BackpressureToken::new();
        self.table().insert(room.clone(), pacer.clone());
        Pacing { room: room.clone(), pacer: Some(pacer), paced: Some(paced), pacers: self.clone() }
    }

    /// The mark of a room's messages; none when no batch of the room is on its way here, because another node wrote it: then
    /// the log itself waits for the clients.
    pub(super) fn of(&self, room: &RoomName) -> Option<BackpressureToken> {
        self.table().get(room).cloned()
    }
}

impl Pacing {
    fn end(&mut self) {
        let Some(pacer) = self.pacer.take() else { return };
        let mut table = self.pacers.table();
        // Another actor of the same room may have registered since.
        if table.get(&self.room).is_some_and(|current| current.is(&pacer)) {
            table.remove(&self.room);
        }
    }

    /// Waits until the room's clients have caught up with what was handed to them. Call it when all of the batch was.
    pub async fn done(mut self) {
        self.end();
        if let Some(paced) = self.paced.take() {
            paced.done().await;
        }
    }
}

impl Drop for Pacing {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn a_room_waits_for_its_own_marks_alone() {
        let pacers = Pacers::default();
        let (tea, coffee): (RoomName, RoomName) = ("tea".parse().unwrap(), "coffee".parse().unwrap());
        let (in_tea, in_coffee) = (pacers.begin(&tea), pacers.begin(&coffee));
        let mark = pacers.of(&tea).unwrap();
        assert!(in_coffee.done().now_or_never().is_some());
        let mut waiting = std::pin::pin!(in_tea.done());
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(mark);
        assert!(waiting.now_or_never().is_some());
        assert!(pacers.table().is_empty());
    }

    #[test]
    fn a_later_batch_of_the_same_room_keeps_its_mark() {
        let (pacers, tea) = (Pacers::default(), "tea".parse().unwrap());
        let earlier = pacers.begin(&tea);
        let later = pacers.begin(&tea);
        drop(earlier);
        let mark = pacers.of(&tea).unwrap();
        assert!(later.done().now_or_never().is_none(), "it waits for its own mark");
        drop(mark);
        assert!(pacers.table().is_empty());
    }
}
