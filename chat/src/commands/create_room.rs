//! Creates a room, which the user owns.

use std::{
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use proto::{
    RoomName,
    event::{Act, Settings},
};

use super::{Caller, Command, Outcome, RateClass};
use crate::{
    Chat, Error,
    chat::with_deadline,
    directory::{Committed, NewRoom, RoomInfo},
};

/// The new room.
#[derive(Debug, Clone)]
pub struct CreateRoom {
    /// The name.
    pub name: RoomName,
    /// The settings.
    pub settings: Settings,
}

impl Command for CreateRoom {
    const EVENT: Option<&'static str> = None;
    const ROUTE: Option<&'static str> = Some("POST /rooms");
    const RATE: RateClass = RateClass::Write;
    const PERMISSION: Option<Act> = None;
    type Answer = RoomInfo;

    async fn run(self, caller: &Rc<Caller>, deadline: Instant) -> Result<Outcome<RoomInfo>, Error> {
        let (chat, owner) = (caller.chat(), caller.user().clone());
        let Self { name, settings } = self;
        let committed = Arc::new(AtomicU64::new(0));
        let new = NewRoom { name, owner, settings };
        let limit = chat.config().rooms_per_user;
        let create = chat.directory().create(new, limit, publish(chat, committed.clone()));
        let room = with_deadline(deadline, create).await?;
        chat.broker().wait_for_change(&room.name, committed.load(Ordering::Acquire)).await;
        Ok(Outcome::Done(room))
    }
}

/// Publishes the first change of the room, and stores its number in `rev`.
fn publish(chat: &Chat, rev: Arc<AtomicU64>) -> Committed {
    let broker = chat.broker().clone();
    Box::new(move |change| {
        rev.store(change.rev, Ordering::Release);
        broker.subscribe_new(&change.room, change.rev);
        broker.publish_change(change);
    })
}
