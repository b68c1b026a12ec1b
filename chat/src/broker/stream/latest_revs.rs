//! The latest versions of rooms that this node has read from the store, whether it has applied the changes to its sockets or not. The actor of a
//! room compares its members with them before it accepts a post, so the age of its members is bounded even while the stream, or the task
//! that reads it, is late. Written by [`super::subscriptions`] and [`read_versions`].

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use proto::RoomName;
use tokio::time::{sleep, timeout};

use super::{Stream, comparisons::READ_GAP};
use crate::{Error, changes::AT_ONCE};

/// The maximum age of the state against which a room checks a question, at the time when the question arrives.
pub const MAX_AGE: Duration = Duration::from_secs(1);

/// The age of the last read of versions at which [`read_versions`] reads them. Usually [`super::follow`] has read them before.
const READ_AFTER: Duration = Duration::from_millis(600);

/// The timeout of a read.
const READ_TIMEOUT: Duration = Duration::from_secs(1);

/// The delay after a failed read.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// The number of rooms in one read of versions.
const PAGE: usize = 1_000;

/// The latest version of each room that has an actor on this node.
#[derive(Debug, Default)]
pub struct LatestRevs(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// The versions contain all changes that were committed before this time. `None` before the first read.
    as_of: Option<Instant>,
    rooms: HashMap<RoomName, Weak<AtomicU64>>,
}

/// The latest version of one room.
#[derive(Debug)]
pub struct RevWatch {
    all: Arc<LatestRevs>,
    latest: Arc<AtomicU64>,
    /// Reads that began before this time may have been without this room.
    since: Instant,
}

impl LatestRevs {
    /// Watches a room until the result is dropped.
    pub fn watch(self: &Arc<Self>, room: &RoomName) -> RevWatch {
        let mut inner = self.lock();
        let found = inner.rooms.get(room).and_then(Weak::upgrade);
        let latest = found.unwrap_or_else(|| {
            let latest = Arc::new(AtomicU64::new(0));
            inner.rooms.retain(|_, latest| latest.strong_count() > 0);
            inner.rooms.insert(room.clone(), Arc::downgrade(&latest));
            latest
        });
        RevWatch { all: self.clone(), latest, since: Instant::now() }
    }

    /// Records the versions of the rooms that have changed recently, of a read that began at `begun`. If it may lack changes since the last
    /// read, the time up to which all changes are read stays the same.
    pub fn note_recent(&self, begun: Instant, recent: &[(RoomName, u64)]) {
        let mut inner = self.lock();
        inner.note(recent);
        let is_complete = recent.len() < AT_ONCE
            && inner.as_of.is_some_and(|as_of| begun.saturating_duration_since(as_of) < READ_GAP);
        if is_complete {
            inner.as_of = inner.as_of.max(Some(begun));
        }
    }

    /// Removes all versions, because the store was replaced by an older one.
    pub fn clear(&self) {
        let mut inner = self.lock();
        inner.as_of = None;
        inner.rooms.values().filter_map(Weak::upgrade).for_each(|latest| latest.store(0, Ordering::Release));
    }

    /// Records versions of some of the rooms.
    pub fn note(&self, versions: &[(RoomName, u64)]) {
        self.lock().note(versions);
    }

    /// Records that the versions of all rooms were read, from `begun` on.
    pub fn note_all(&self, begun: Instant) {
        let mut inner = self.lock();
        inner.as_of = inner.as_of.max(Some(begun));
    }

    /// Whether the versions contain all changes before `at`.
    fn is_read_up_to(&self, at: Instant) -> bool {
        self.lock().as_of.is_some_and(|as_of| as_of >= at)
    }

    /// The time until versions must be read.
    fn due_in(&self, now: Instant) -> Duration {
        let age = self.lock().as_of.map(|as_of| now.saturating_duration_since(as_of));
        READ_AFTER.saturating_sub(age.unwrap_or(READ_AFTER))
    }

    fn rooms(&self) -> Vec<RoomName> {
        self.lock().rooms.keys().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn note(&mut self, versions: &[(RoomName, u64)]) {
        for (room, version) in versions {
            if let Some(latest) = self.rooms.get(room).and_then(Weak::upgrade) {
                latest.fetch_max(*version, Ordering::AcqRel);
            }
        }
    }
}

impl RevWatch {
    /// Whether the state of the room at version `rev` contains all changes that were committed before `at`, without a read of
    /// the room.
    pub fn is_current(&self, rev: u64, at: Instant) -> bool {
        self.all.is_read_up_to(at.max(self.since)) && self.latest.load(Ordering::Acquire) <= rev
    }
}

/// Reads the versions of rooms when the task [`super::follow`] has not read them for [`READ_AFTER`], because it is late.
pub(super) async fn read_versions(stream: Arc<Stream>) {
    loop {
        let due_in = stream.latest_revs.due_in(Instant::now());
        if !due_in.is_zero() {
            sleep(due_in).await;
            continue;
        }
        if let Err(error) = try_read_versions(&stream).await {
            tracing::debug!(%error, "the versions of rooms cannot be read: rooms read their members before each post");
            sleep(RETRY_DELAY).await;
        }
    }
}

async fn try_read_versions(stream: &Stream) -> Result<(), Error> {
    let (begun, latest) = (Instant::now(), &stream.latest_revs);
    let late = |_| Error::Store("no answer in time".to_owned());
    latest.note_recent(begun, &timeout(READ_TIMEOUT, stream.rooms.recent()).await.map_err(late)??);
    if !latest.is_read_up_to(begun) {
        for rooms in latest.rooms().chunks(PAGE) {
            latest.note(&timeout(READ_TIMEOUT, stream.rooms.versions(rooms)).await.map_err(late)??);
        }
        latest.note_all(begun);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(name: &str) -> RoomName {
        name.parse().unwrap()
    }

    #[test]
    fn a_state_is_current_if_a_complete_read_has_no_later_version() {
        let revs = Arc::new(LatestRevs::default());
        let start = Instant::now();
        let watch = revs.watch(&room("tea"));
        let at = |seconds| watch.since + Duration::from_secs(seconds);
        let read = |seconds, version| revs.note_recent(at(seconds), &[(room("tea"), version)]);
        assert!(!watch.is_current(5, start), "nothing was read");
        read(0, 3);
        assert!(!watch.is_current(5, at(0)), "the first read may lack earlier changes");
        revs.note_all(at(0));
        assert_eq!((watch.is_current(3, at(0)), watch.is_current(2, at(0))), (true, false));
        assert!(!watch.is_current(3, at(1)), "changes of the last second are not read");
        read(7, 4);
        assert_eq!((watch.is_current(4, at(7)), watch.is_current(3, at(7))), (true, false));
        read(16, 4);
        assert!(!watch.is_current(4, at(8)), "the read may lack changes that were made after the last one");
        revs.note_all(at(16));
        revs.note_recent(at(17), &vec![(room("coffee"), 1); AT_ONCE]);
        assert_eq!((watch.is_current(4, at(16)), watch.is_current(4, at(17))), (true, false));
        read(9, 4);
        assert!(watch.is_current(4, at(16)), "a read that ends late does not replace a later one");
    }

    #[test]
    fn a_room_is_current_only_by_reads_that_began_after_its_watch() {
        let revs = Arc::new(LatestRevs::default());
        let begun = Instant::now();
        while Instant::now() == begun {}
        let first = revs.watch(&room("tea"));
        revs.note(&[(room("tea"), 7)]);
        revs.note_all(begun);
        assert!(!first.is_current(7, begun), "a change may have been made between that read and the watch");
        revs.note_all(Instant::now());
        assert!(first.is_current(7, begun));
        let second = revs.watch(&room("tea"));
        assert_eq!(second.latest.load(Ordering::Acquire), 7, "two actors of one room share the version");
        drop((first, second));
        drop(revs.watch(&room("coffee")));
        revs.watch(&room("milk"));
        assert_eq!(revs.rooms().len(), 1, "rooms without a watch are removed");
    }
}
