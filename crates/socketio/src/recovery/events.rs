//! The stored events, oldest first, bounded by number, bytes and time. Pure.

use std::{collections::VecDeque, time::Instant};

use crate::{
    Encoded, Recovery, Room,
    operation::Target,
    socket::{Position, SocketId},
};

/// The bytes that count for an event besides its packet.
const OVERHEAD: usize = 128;

/// The stored events.
#[derive(Default)]
pub(super) struct Events {
    stored: VecDeque<StoredEvent>,
    bytes: usize,
    /// The largest position of the events that were dropped.
    dropped: Position,
}

struct StoredEvent {
    position: Position,
    /// The number of the last broadcast when the event was stored. Never decreases along the queue.
    last: u64,
    at: Instant,
    recipients: Recipients,
    packet: Encoded,
}

/// The sockets that an event was sent to.
pub(super) enum Recipients {
    Socket(SocketId),
    Target(Target),
}

/// A session as the recipient of events.
pub(super) struct Recipient<'a> {
    pub(super) sid: &'a SocketId,
    pub(super) namespace: &'a str,
    /// Its rooms without the room of its id.
    pub(super) rooms: &'a [Room],
}

impl Events {
    /// Stores an event and drops the oldest beyond the limits.
    pub(super) fn store(
        &mut self,
        position: Position,
        last: u64,
        recipients: Recipients,
        packet: Encoded,
        limits: &Recovery,
    ) {
        self.bytes += packet.size() + OVERHEAD;
        self.stored.push_back(StoredEvent { position, last, at: Instant::now(), recipients, packet });
        while self.stored.len() > limits.max_events || self.bytes > limits.max_bytes {
            self.drop_oldest();
        }
    }

    /// Drops the events that are older than the window at `now`.
    pub(super) fn expire(&mut self, now: Instant, limits: &Recovery) {
        while self.stored.front().is_some_and(|event| now.duration_since(event.at) > limits.window) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(event) = self.stored.pop_front() {
            self.bytes -= event.packet.size() + OVERHEAD;
            self.dropped = self.dropped.max(event.position);
        }
    }

    /// The events after `start` for `recipient`, in the order of their positions, with the last position.
    /// `None` if some may have been dropped, or if they exceed `max_bytes`.
    pub(super) fn missed(
        &self,
        start: Position,
        recipient: &Recipient<'_>,
        max_bytes: usize,
    ) -> Option<(Vec<Encoded>, Option<Position>)> {
        if start < self.dropped {
            return None;
        }
        let first = self.stored.partition_point(|event| event.last < start.broadcast);
        let is_missed =
            |event: &&StoredEvent| event.position > start && recipient.receives(&event.recipients);
        let mut missed: Vec<_> = self.stored.range(first..).filter(is_missed).collect();
        if missed.iter().map(|event| event.packet.size()).sum::<usize>() > max_bytes {
            return None;
        }
        // An event to one socket is stored after later broadcasts if its worker has not applied these yet.
        missed.sort_by_key(|event| event.position);
        let last = missed.last().map(|event| event.position);
        Some((missed.into_iter().map(|event| event.packet.clone()).collect(), last))
    }

    /// The number of events.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.stored.len()
    }
}

impl Recipient<'_> {
    fn is_in(&self, room: &Room) -> bool {
        self.rooms.contains(room) || **room == *self.sid.as_str()
    }

    fn receives(&self, recipients: &Recipients) -> bool {
        match recipients {
            Recipients::Socket(sid) => sid == self.sid,
            Recipients::Target(Target { namespace, rooms, except, within }) => {
                **namespace == *self.namespace
                    && (rooms.is_empty() || rooms.iter().any(|room| self.is_in(room)))
                    && !except.iter().any(|room| self.is_in(room))
                    && within.as_ref().is_none_or(|room| self.is_in(room))
            }
        }
    }
}
