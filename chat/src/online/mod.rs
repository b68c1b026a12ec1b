//! The online users: relays updates of the presence service to the broker, and keeps the list for sockets that connect. [`pending`]
//! decides which update is sent when. Started by [`crate::start`].

mod pending;

use std::{collections::BTreeSet, sync::Arc};

use proto::{
    Username,
    event::{Presence, name},
};
use socketio::Encoded;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};

use crate::{
    broker::{self, Broker, Signal},
    config::NAMES,
    presence::PresenceUpdate,
};
use pending::Pending;

/// The online users, as a socket that connects receives them.
#[derive(Debug, Clone)]
pub enum OnlineList {
    /// The presence service does not answer.
    Unknown,
    /// The names, and the event `presence` with them, encoded once for all users that are in the list.
    Names(Arc<BTreeSet<String>>, Option<Encoded>),
    /// More than [`NAMES`] users. They are not sent.
    Many,
}

/// Relays `updates` to the broker and keeps `online` at the latest list, until the channel of updates is closed.
pub async fn relay(
    mut updates: mpsc::Receiver<PresenceUpdate>,
    broker: Broker,
    online: watch::Sender<OnlineList>,
) {
    let mut pending = Pending::new(Instant::now());
    loop {
        let due = pending.next_update();
        tokio::select! {
            biased;
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                if let Some(entry) = pending.take(Instant::now()) {
                    broker.send(entry).await;
                }
            }
            update = updates.recv() => {
                let Some(update) = update else { return };
                if let Some(entry) = apply(&mut pending, update, &online) {
                    broker.send(entry).await;
                }
            }
        }
    }
}

/// Applies one update. Returns the entry of typing users, which is sent at once. Online users are sent when they are due.
fn apply(
    pending: &mut Pending,
    update: PresenceUpdate,
    online: &watch::Sender<OnlineList>,
) -> Option<Signal> {
    match update {
        PresenceUpdate::Online(presence) => pending.replace(presence.online),
        PresenceUpdate::Diff(diff) => pending.apply(diff),
        PresenceUpdate::Unknown => pending.set_unavailable(),
        PresenceUpdate::Typing(mut typing) => {
            typing.users.truncate(NAMES);
            let room = typing.room.parse().ok()?;
            return Some(Signal::Typing { room, users: typing.users });
        }
    }
    online.send_replace(OnlineList::of(pending));
    None
}

impl OnlineList {
    fn of(pending: &Pending) -> Self {
        let Some(names) = pending.online() else { return Self::Unknown };
        if names.len() > NAMES {
            return Self::Many;
        }
        Self::Names(Arc::new(names.clone()), encode_list(names.iter().cloned()))
    }

    /// The event `presence` for a user that connects. The user is in the list, even if the presence service has not reported
    /// the user yet. `None` when the list has more than [`NAMES`] names.
    pub fn to(&self, user: &Username) -> Option<Encoded> {
        match self {
            Self::Unknown => broker::encode(name::PRESENCE, &broker::presence_unknown(), None),
            Self::Many => None,
            Self::Names(names, packet) if names.contains(user.as_str()) => packet.clone(),
            Self::Names(names, _) if names.len() < NAMES => {
                let mut all = BTreeSet::clone(names);
                all.insert(user.to_string());
                encode_list(all.into_iter())
            }
            Self::Names(..) => None,
        }
    }
}

fn encode_list(online: impl Iterator<Item = String>) -> Option<Encoded> {
    broker::encode(name::PRESENCE, &Presence { online: online.collect() }, None)
}

#[cfg(test)]
mod tests {
    use proto::event::Typing;

    use super::*;

    fn online(names: &[&str]) -> PresenceUpdate {
        let online = names.iter().map(ToString::to_string).collect();
        PresenceUpdate::Online(Presence { online })
    }

    fn list_after(update: PresenceUpdate) -> OnlineList {
        let (sender, receiver) = watch::channel(OnlineList::Unknown);
        assert!(apply(&mut Pending::new(Instant::now()), update, &sender).is_none());
        receiver.borrow().clone()
    }

    #[test]
    fn a_connecting_user_is_always_in_the_list() {
        let event = |names: &[&str]| encode_list(names.iter().map(ToString::to_string));
        let bob: Username = "bob".parse().unwrap();
        assert_eq!(list_after(online(&[])).to(&bob), event(&["bob"]));
        assert_eq!(list_after(online(&["alice", "carol"])).to(&bob), event(&["alice", "bob", "carol"]));
        assert_eq!(list_after(online(&["bob"])).to(&bob), event(&["bob"]));
        assert!(list_after(PresenceUpdate::Unknown).to(&bob).is_some(), "the event has the state `unknown`");
        let full: Vec<String> = (0..=NAMES).map(|n| format!("u{n:03}")).collect();
        let full: Vec<&str> = full.iter().map(String::as_str).collect();
        assert_eq!(list_after(online(&full)).to(&bob), None, "too many");
        assert_eq!(list_after(online(&full[1..])).to(&bob), None, "one too many");
    }

    #[test]
    fn the_end_of_typing_is_relayed_and_an_invalid_room_is_ignored() {
        let (sender, _receiver) = watch::channel(OnlineList::Unknown);
        let mut pending = Pending::new(Instant::now());
        let mut typing = |room: &str| {
            apply(&mut pending, PresenceUpdate::Typing(Typing { users: vec![], room: room.into() }), &sender)
        };
        assert!(matches!(typing("lobby"), Some(Signal::Typing { users, .. }) if users.is_empty()));
        assert!(typing("no room").is_none());
    }
}
