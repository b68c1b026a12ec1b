//! Telling from the store what the stream lacks, and putting it into the stream later. Called by [`super::follow`].

use std::{collections::HashSet, sync::PoisonError, time::Duration};

use proto::RoomName;
use tokio::time::{Instant, sleep_until, timeout};

use super::follow::Follower;
use crate::unpublished::Noted;

/// How long the store may take to answer for one room.
const LOOK: Duration = Duration::from_secs(2);

/// How many messages of one room are read from the store at once.
const PAGE: usize = 100;

/// After this time a node heals what another one has noted: that one may have ended.
const PATIENCE: Duration = Duration::from_secs(3);

impl Follower {
    /// Tells what the store has of a room after `known` and before `end`; answers whether that was all.
    pub(super) async fn tell_room(
        &self,
        room: &RoomName,
        mut known: u64,
        end: Option<u64>,
        offset: Option<u64>,
    ) -> bool {
        loop {
            let found = timeout(LOOK, self.stream.history.since(room, known, PAGE)).await;
            let Ok(Ok(slice)) = found else {
                tracing::warn!(%room, "messages that the log lacks cannot be read from the store");
                return false;
            };
            let wanted =
                slice.messages.into_iter().filter(|kept| end.is_none_or(|end| kept.message.seq < end));
            let before = known;
            for kept in wanted {
                known = kept.message.seq;
                metrics::counter!("godzilla_chat_log_healed_total").increment(1);
                self.tell(kept, offset).await;
            }
            let last = end.map_or(slice.head, |end| end - 1);
            if known >= last || known == before {
                return true;
            }
        }
    }

    /// Tells what is stored and was not told, of every room that somebody here listens to.
    pub(super) async fn tell_from_store(&self) {
        let behind: HashSet<RoomName> = self.stream.behind().into_iter().collect();
        let mut places = self.stream.track().places();
        // Those that this node itself has written to first.
        places.sort_by_key(|(room, _)| !behind.contains(room));
        let until = Instant::now() + LOOK;
        for (room, known) in places {
            let looked = async {
                if let Ok(head) = self.stream.history.head(&room).await
                    && head.seq > known
                {
                    self.tell_room(&room, known, None, None).await;
                }
            };
            tokio::select! {
                () = looked => {}
                () = sleep_until(until) => return,
            }
        }
    }

    /// Tells what this node itself could not put into the stream.
    pub(super) async fn tell_behind(&self) {
        for room in self.stream.behind() {
            self.tell_since_known(&room).await;
        }
    }

    /// Tells what any node could not put into the stream.
    pub(super) async fn tell_untold(&mut self) {
        let noted = match self.stream.unpublished.all().await {
            Ok(noted) => noted,
            Err(error) => return tracing::debug!(%error, "what the log lacks is not known now"),
        };
        let rooms: HashSet<RoomName> = noted.iter().map(|noted| noted.room.clone()).collect();
        self.noted.retain(|room, _| rooms.contains(room));
        for Noted { room, last, .. } in noted {
            let since = *self.noted.entry(room.clone()).or_insert_with(Instant::now);
            if self.stream.track().known(&room).is_some_and(|known| known < last) {
                self.tell_since_known(&room).await;
            }
            if since.elapsed() >= PATIENCE {
                self.stream.falls_behind(&room);
            }
        }
    }

    /// Puts into the stream what it lacks.
    pub(super) async fn heal(&self) {
        for room in self.stream.behind() {
            let healed = async {
                let head = self.stream.catch_up(&room).await?;
                // Whatever is stored from now on is put there by who stores it, or noted again.
                self.stream.behind.lock().unwrap_or_else(PoisonError::into_inner).remove(&room);
                self.stream.unpublished.settled(&room, head).await
            };
            if let Err(error) = healed.await {
                tracing::debug!(%room, %error, "the log stays behind");
                return;
            }
        }
    }

    /// Tells what the store has of a room beyond what was told here, unless the log has it, too: then it is read there next, with
    /// its place.
    async fn tell_since_known(&self, room: &RoomName) {
        let known = self.stream.track().known(room);
        if let Some(known) = known
            && self.stream.logged(room).await.is_none_or(|logged| logged <= known)
        {
            self.tell_room(room, known, None, None).await;
        }
    }
}
