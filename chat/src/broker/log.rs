//! The trait of the log behind the broker. [`super::local`] implements it for one process, and [`super::stream`] for a cluster. Both
//! pass `conformance.rs`.

use std::time::Instant;

use async_trait::async_trait;
use proto::{RoomName, event::Message};
use socketio::SocketId;

use crate::{
    Error,
    directory::RoomChange,
    history::{Journal, StoredMessage},
};

/// The log of the events of all rooms: one order, from which clients recover ([`Journal`]). Stores commit events before they are
/// published. A published event is delivered to the sockets of every node once, and those of one room in the order of their numbers.
#[async_trait]
pub trait EventLog: Journal {
    /// The reason for which events of other nodes are not received, in words that follow "the log". `None` when they are. For `/readyz`.
    fn not_ready_reason(&self) -> Option<String>;

    /// Publishes messages that one room has stored. With an empty list, publishes stored messages of the room that were not published.
    ///
    /// # Errors
    /// [`Error::Store`] when other nodes would not receive the messages. Then the send must not be acknowledged.
    async fn publish(&self, room: &RoomName, messages: Vec<StoredMessage>) -> Result<(), Error>;

    /// Publishes a change that a store has just committed. Called on the store's own thread, in commit order.
    fn publish_change(&self, change: RoomChange);

    /// Closes a socket on the other nodes, because its client has reconnected to this one.
    async fn publish_superseded(&self, socket: &SocketId);

    /// Subscribes this node to rooms. To be called before its sockets join them. Returns whether the members of the rooms must be read
    /// again, because a change may have been committed after they were read.
    ///
    /// # Errors
    /// [`Error::Store`] when the last message of a room cannot be read.
    async fn subscribe(&self, rooms: &[RoomName]) -> Result<bool, Error>;

    /// Subscribes this node to a room that was just created. To be called before its sockets join it.
    /// `rev` is the change that has created it.
    fn subscribe_new(&self, room: &RoomName, rev: u64);

    /// Waits until the change `rev` of a room is on its way to the sockets of this node. The wait is bounded. `subscribed`: it ends at once
    /// if no socket of this node is in the room.
    async fn wait_for_change(&self, room: &RoomName, rev: u64, subscribed: bool);

    /// The time up to which this node has read which rooms were changed. `None` when no other node changes rooms.
    fn changes_read_up_to(&self) -> Option<Instant>;

    /// Waits until everything that this node has published so far is in the broker's queue. The wait is bounded.
    async fn flush(&self);

    /// Waits until other nodes can receive all changes that this node has committed. The wait is bounded.
    async fn flush_changes(&self);

    /// The number of messages that this node has delivered without an offset, from history.
    fn fallback_deliveries(&self) -> u64;

    /// Whether this node may have delivered any of these messages without an offset, after the first `count` such deliveries. A client
    /// that was in the room at that time has the message already.
    fn may_be_fallback_delivery(&self, messages: &[(u64, Message)], count: u64) -> bool;

    /// Whether this node has delivered a message without an offset whose record it has not read yet. Until then no client recovers from
    /// the position of this node: the record would be replayed to clients that have the message.
    fn has_unconfirmed_deliveries(&self) -> bool;
}
